import { fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import {
  udmabuf_create_item,
  udmabuf_create_list,
  UDMABUF_CREATE_LIST,
  UDMABUF_FLAGS_CLOEXEC,
} from '../../protocols/udmabuf.ts';
import { type BorrowedFd, OwnedFd } from './fd.ts';
import { ScanoutError, SysError } from './errors.ts';
import { groupName } from './groups.ts';
import { ioctl } from './ioctl.ts';
import { PAGE_SIZE } from './mapping.ts';
import { F_SEAL_SHRINK, F_SEAL_WRITE, getSeals } from './memfd.ts';
import type { PageRuns } from './page-runs.ts';

export type UdmabufErrorCode =
  | 'driver-missing'
  | 'driver-forbidden'
  | 'driver-open-failed'
  | 'not-page-aligned'
  | 'too-many-ranges'
  | 'too-large'
  | 'not-a-memfd'
  | 'wrong-seals'
  | 'huge-pages'
  | 'create-failed';

/** Refusals that depend on a limit of the driver, which the administrator may change. */
const limits: readonly UdmabufErrorCode[] = ['too-many-ranges', 'too-large'];

/** Guest pages cannot become a dma-buf. They can still be copied. */
export class UdmabufError extends ScanoutError<UdmabufErrorCode> {
  /** The same pages are refused however often it is tried. */
  get isLasting(): boolean {
    const { cause } = this;
    if (cause instanceof SysError) return !cause.mayPass;
    return this.code !== 'driver-open-failed' && !limits.includes(this.code);
  }
}

const DEVICE = '/dev/udmabuf';
/** Of the argument's structs, in words of 4 bytes. */
const WORD = 4;
const TWO_POW_32 = 2 ** 32;
const HEAD_WORDS = udmabuf_create_list.size / WORD;
const ITEM_WORDS = udmabuf_create_item.size / WORD;
const MEMFD = udmabuf_create_item.offset.memfd / WORD;
const OFFSET = udmabuf_create_item.offset.offset / WORD;
const SIZE = udmabuf_create_item.offset.size / WORD;

const PARAMETERS = '/sys/module/udmabuf/parameters';

/** Defaults of linux/drivers/dma-buf/udmabuf.c, for when its parameters cannot be read. */
const DEFAULT_LIST_LIMIT = 1024;
const DEFAULT_SIZE_LIMIT_MB = 64;

function readParameter(name: string, fallback: number): number {
  try {
    return Number(readFileSync(`${PARAMETERS}/${name}`, 'utf8'));
  } catch {
    return fallback;
  }
}

/** How to gain permission to open the device. */
function remedy(path: string): string {
  try {
    const { gid, mode } = statSync(path);
    if ((mode & 0o060) !== 0o060)
      return 'give it a group with access, by the udev rule KERNEL=="udmabuf", GROUP="kvm", MODE="0660"';
    const name = groupName(gid) ?? gid;
    return `join the group ${name}, which owns it (usermod -aG ${name} USER, then log in again)`;
  } catch {
    return 'join the group that owns it';
  }
}

/** An open /dev/udmabuf, which makes dma-bufs of memfd pages (linux/udmabuf.h). */
export class UdmabufDriver implements Disposable {
  readonly #fd: OwnedFd;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** Returns the reason instead of throwing it if this machine has no usable driver. */
  static open(path: string = DEVICE): UdmabufDriver | UdmabufError {
    try {
      return new UdmabufDriver(OwnedFd.adopt(openSync(path, 'r+')));
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
        return new UdmabufError('driver-missing', `${path} does not exist: load the udmabuf module (CONFIG_UDMABUF)`, {
          cause,
        });
      }
      if (code === 'EACCES')
        return new UdmabufError('driver-forbidden', `${path} may not be opened: ${remedy(path)}`, { cause });
      // Permission bits give EACCES. EPERM comes from a container's list of allowed devices.
      if (code === 'EPERM')
        return new UdmabufError(
          'driver-forbidden',
          `${path} may not be opened in this sandbox: add it to the sandbox's allowed devices`,
          { cause },
        );
      return new UdmabufError('driver-open-failed', `${path} cannot be opened: ${String(cause)}`, { cause });
    }
  }

  /** Most page ranges in one dma-buf. Read each time: the administrator may change the parameter. */
  get listLimit(): number {
    return readParameter('list_limit', DEFAULT_LIST_LIMIT);
  }

  /** Most bytes in one dma-buf. Read each time, too. */
  get sizeLimitBytes(): number {
    return readParameter('size_limit_mb', DEFAULT_SIZE_LIMIT_MB) * 2 ** 20;
  }

  /**
   * Makes one dma-buf of pages, in their order; the caller owns it. It keeps the pages alive without keeping the memfds
   * open. Throws UdmabufError.
   */
  create(runs: PageRuns): OwnedFd {
    try {
      return OwnedFd.adopt(ioctl(this.#fd, UDMABUF_CREATE_LIST, 'UDMABUF_CREATE_LIST', encode(runs)));
    } catch (cause) {
      checkAlignment(runs);
      runs.memfds.forEach(checkSeals);
      throw this.#refusal(runs, cause);
    }
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }

  /** Why the driver refused: it says EINVAL to whatever is beyond its limits. */
  #refusal({ count, length, memfds }: PageRuns, cause: unknown): UdmabufError {
    const { listLimit, sizeLimitBytes } = this;
    if (count > listLimit)
      return new UdmabufError(
        'too-many-ranges',
        `udmabuf of ${count} page ranges: the limit is ${listLimit}, raise it: echo ${count} >${PARAMETERS}/list_limit`,
      );
    if (length > sizeLimitBytes)
      return new UdmabufError(
        'too-large',
        `udmabuf of ${length} bytes: the limit is ${sizeLimitBytes}, raise it: echo ${Math.ceil(length / 2 ** 20)} >${PARAMETERS}/size_limit_mb`,
      );
    const what = `udmabuf of ${length} bytes in ${count} ranges: ${String(cause)}`;
    if (memfds.some(({ fd }) => fstatSync(fd).blksize > PAGE_SIZE))
      return new UdmabufError(
        'huge-pages',
        `${what}; guest memory is in huge pages, which not every kernel can share: turn them off (QEMU: memory-backend-memfd with hugetlb=off)`,
        { cause },
      );
    return new UdmabufError('create-failed', what, { cause });
  }
}

/** The argument of UDMABUF_CREATE_LIST, in words: a DataView is several times as slow for thousands of runs. */
function encode(runs: PageRuns): Uint8Array {
  const words = new Uint32Array(HEAD_WORDS + runs.count * ITEM_WORDS);
  udmabuf_create_list.set(new DataView(words.buffer), 0, { flags: UDMABUF_FLAGS_CLOEXEC, count: runs.count });
  const fds = runs.memfds.map(({ fd }) => fd);
  for (let run = 0, at = HEAD_WORDS; run < runs.count; run++, at += ITEM_WORDS) {
    words[at + MEMFD] = fds[runs.memfdOf(run)]!;
    setAddr64(words, at + OFFSET, runs.offset(run));
    setAddr64(words, at + SIZE, runs.size(run));
  }
  return new Uint8Array(words.buffer);
}

function setAddr64(words: Uint32Array, at: number, value: number): void {
  // Storing takes the low 32 bits.
  words[at] = value;
  words[at + 1] = value / TWO_POW_32;
}

/* These find out what was wrong with a range; the driver refuses every mistake with the same EINVAL. */

function checkAlignment(runs: PageRuns): void {
  let isAligned = runs.count > 0;
  for (let run = 0; run < runs.count; run++)
    isAligned &&= runs.offset(run) % PAGE_SIZE === 0 && runs.size(run) % PAGE_SIZE === 0 && runs.size(run) > 0;
  if (!isAligned)
    throw new UdmabufError(
      'not-page-aligned',
      `udmabuf of ${runs.length} bytes: offset and length of each range must be multiples of ${PAGE_SIZE}`,
    );
}

function checkSeals(memfd: BorrowedFd): void {
  let seals: number;
  try {
    seals = getSeals(memfd);
  } catch (cause) {
    throw new UdmabufError('not-a-memfd', 'udmabuf accepts only the pages of memfds (QEMU: memory-backend-memfd)', {
      cause,
    });
  }
  if ((seals & F_SEAL_SHRINK) === 0 || (seals & F_SEAL_WRITE) !== 0) {
    throw new UdmabufError(
      'wrong-seals',
      'udmabuf needs guest memory with F_SEAL_SHRINK and without F_SEAL_WRITE (QEMU: memory-backend-memfd with seal=on)',
    );
  }
}
