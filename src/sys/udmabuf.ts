import { fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import {
  udmabuf_create_item,
  udmabuf_create_list,
  UDMABUF_CREATE_LIST,
  UDMABUF_FLAGS_CLOEXEC,
} from '../../protocols/udmabuf.ts';
import { type BorrowedFd, OwnedFd } from './fd.ts';
import { ScanoutError } from './errors.ts';
import { ioctl } from './ioctl.ts';
import { PAGE_SIZE } from './mapping.ts';
import { F_SEAL_SHRINK, F_SEAL_WRITE, getSeals } from './memfd.ts';

/** `length` bytes at `offset` of a memfd, both in bytes. */
export interface PageRange {
  readonly memfd: BorrowedFd;
  readonly offset: number;
  readonly length: number;
}

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

/** Guest pages cannot become a dma-buf. They can still be copied. */
export class UdmabufError extends ScanoutError<UdmabufErrorCode> {}

const DEVICE = '/dev/udmabuf';
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

/** Joins adjacent ranges of one memfd, so that a list has as few items as possible. */
function mergeRanges(ranges: readonly PageRange[]): PageRange[] {
  const merged: PageRange[] = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last && last.memfd === range.memfd && last.offset + last.length === range.offset) {
      merged[merged.length - 1] = { memfd: last.memfd, offset: last.offset, length: last.length + range.length };
    } else {
      merged.push(range);
    }
  }
  return merged;
}

/** How to gain permission to open the device. */
function remedy(path: string): string {
  try {
    const { gid, mode } = statSync(path);
    if ((mode & 0o060) !== 0o060)
      return 'give it a group with access, by the udev rule KERNEL=="udmabuf", GROUP="kvm", MODE="0660"';
    const entry = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find((line) => line.split(':')[2] === String(gid));
    const group = entry?.split(':')[0] ?? String(gid);
    return `join the group ${group}, which owns it (usermod -aG ${group} USER, then log in again)`;
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
   * Makes one dma-buf of the ranges' pages, in list order; the caller owns it. It keeps the pages
   * alive without keeping the memfds open. Throws UdmabufError.
   */
  create(ranges: readonly PageRange[]): OwnedFd {
    const items = mergeRanges(ranges);
    const total = items.reduce((sum, { length }) => sum + length, 0);
    items.forEach(check);
    const { listLimit, sizeLimitBytes } = this;
    if (items.length > listLimit) {
      throw new UdmabufError(
        'too-many-ranges',
        `udmabuf of ${items.length} page ranges: the limit is ${listLimit}, raise it: echo ${items.length} >${PARAMETERS}/list_limit`,
      );
    }
    if (total > sizeLimitBytes) {
      throw new UdmabufError(
        'too-large',
        `udmabuf of ${total} bytes: the limit is ${sizeLimitBytes}, raise it: echo ${Math.ceil(total / 2 ** 20)} >${PARAMETERS}/size_limit_mb`,
      );
    }
    const request = new Uint8Array(udmabuf_create_list.size + items.length * udmabuf_create_item.size);
    const view = new DataView(request.buffer);
    udmabuf_create_list.set(view, 0, { flags: UDMABUF_FLAGS_CLOEXEC, count: items.length });
    items.forEach(({ memfd, offset, length }, i) => {
      udmabuf_create_item.set(view, udmabuf_create_list.size + i * udmabuf_create_item.size, {
        memfd: memfd.fd,
        __pad: 0,
        offset,
        size: length,
      });
    });
    try {
      return OwnedFd.adopt(ioctl(this.#fd, UDMABUF_CREATE_LIST, 'UDMABUF_CREATE_LIST', request));
    } catch (cause) {
      const what = `udmabuf of ${total} bytes in ${items.length} ranges: ${String(cause)}`;
      if (items.some(({ memfd }) => fstatSync(memfd.fd).blksize > PAGE_SIZE)) {
        throw new UdmabufError(
          'huge-pages',
          `${what}; guest memory is in huge pages, which not every kernel can share: turn them off (QEMU: memory-backend-memfd with hugetlb=off)`,
          { cause },
        );
      }
      throw new UdmabufError('create-failed', what, { cause });
    }
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** Finds out what is wrong with a range; the driver would refuse every mistake with the same EINVAL. */
function check({ memfd, offset, length }: PageRange): void {
  if (offset % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0 || length === 0) {
    throw new UdmabufError(
      'not-page-aligned',
      `udmabuf of ${length} bytes at offset ${offset}: both must be multiples of ${PAGE_SIZE}`,
    );
  }
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
