import { openSync, readFileSync } from 'node:fs';
import { udmabuf_create_item, udmabuf_create_list, UDMABUF_CREATE_LIST, UDMABUF_FLAGS_CLOEXEC } from '../../protocols/udmabuf.ts';
import { ScanoutError } from '../core/errors.ts';
import type { PageRange } from '../core/framebuffer.ts';
import { OwnedFd } from '../sys/fd.ts';
import { ioctl } from '../sys/ioctl.ts';
import { F_SEAL_SHRINK, F_SEAL_WRITE, getSeals } from '../sys/memfd.ts';

export type UdmabufErrorCode =
  | 'driver-missing'
  | 'driver-forbidden'
  | 'driver-open-failed'
  | 'not-page-aligned'
  | 'too-many-ranges'
  | 'too-large'
  | 'wrong-seals'
  | 'create-failed';

/** Guest pages cannot become a dma-buf. The next rung is a copy. */
export class UdmabufError extends ScanoutError<UdmabufErrorCode> {}

const DEVICE = '/dev/udmabuf';
const PARAMETERS = '/sys/module/udmabuf/parameters';
const PAGE = 4096;

/** linux/drivers/dma-buf/udmabuf.c's defaults, should the module not tell. */
const DEFAULT_LIST_LIMIT = 1024;
const DEFAULT_SIZE_LIMIT_MB = 64;

function readParameter(name: string, fallback: number): number {
  try {
    return Number(readFileSync(`${PARAMETERS}/${name}`, 'utf8'));
  } catch {
    return fallback;
  }
}

/** Adjacent ranges of one memfd as one, so that a list says what the pages say in the fewest items. */
export function mergeRanges(ranges: readonly PageRange[]): PageRange[] {
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

/** The open /dev/udmabuf: makes dma-bufs of memfd pages (linux/udmabuf.h). */
export class UdmabufDriver implements Disposable {
  readonly #fd: OwnedFd;
  readonly listLimit: number;
  readonly sizeLimitBytes: number;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
    this.listLimit = readParameter('list_limit', DEFAULT_LIST_LIMIT);
    this.sizeLimitBytes = readParameter('size_limit_mb', DEFAULT_SIZE_LIMIT_MB) * 1024 * 1024;
  }

  /** Returns the reason, rather than throwing, when this machine has no usable driver. */
  static open(path: string = DEVICE): UdmabufDriver | UdmabufError {
    try {
      return new UdmabufDriver(OwnedFd.adopt(openSync(path, 'r+')));
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
        return new UdmabufError('driver-missing', `${path} does not exist: load the udmabuf module (CONFIG_UDMABUF)`, { cause });
      }
      if (code === 'EACCES' || code === 'EPERM') {
        return new UdmabufError('driver-forbidden', `${path} may not be opened: join the group that owns it (usually kvm)`, { cause });
      }
      return new UdmabufError('driver-open-failed', `${path} cannot be opened: ${String(cause)}`, { cause });
    }
  }

  /**
   * One dma-buf of the ranges' pages, in list order; the caller owns it. It keeps the pages, not
   * the memfds' fds. Throws UdmabufError.
   */
  create(ranges: readonly PageRange[]): OwnedFd {
    const items = mergeRanges(ranges);
    let total = 0;
    for (const { memfd, offset, length } of items) {
      if (offset % PAGE !== 0 || length % PAGE !== 0 || length === 0) {
        throw new UdmabufError('not-page-aligned', `udmabuf of ${length} bytes at offset ${offset}: both must be multiples of ${PAGE}`);
      }
      const seals = getSeals(memfd);
      if ((seals & F_SEAL_SHRINK) === 0 || (seals & F_SEAL_WRITE) !== 0) {
        throw new UdmabufError('wrong-seals', 'udmabuf needs guest memory with F_SEAL_SHRINK and without F_SEAL_WRITE (QEMU: memory-backend-memfd with seal=on)');
      }
      total += length;
    }
    if (items.length > this.listLimit) {
      throw new UdmabufError('too-many-ranges', `udmabuf of ${items.length} page ranges: the limit is ${this.listLimit}, raise ${PARAMETERS}/list_limit`);
    }
    if (total > this.sizeLimitBytes) {
      throw new UdmabufError('too-large', `udmabuf of ${total} bytes: the limit is ${this.sizeLimitBytes}, raise ${PARAMETERS}/size_limit_mb`);
    }
    const request = new Uint8Array(udmabuf_create_list.size + items.length * udmabuf_create_item.size);
    const view = new DataView(request.buffer);
    udmabuf_create_list.set(view, 0, { flags: UDMABUF_FLAGS_CLOEXEC, count: items.length });
    items.forEach(({ memfd, offset, length }, i) => {
      udmabuf_create_item.set(view, udmabuf_create_list.size + i * udmabuf_create_item.size, { memfd: memfd.fd, __pad: 0, offset, size: length });
    });
    try {
      return OwnedFd.adopt(ioctl(this.#fd, UDMABUF_CREATE_LIST, 'UDMABUF_CREATE_LIST', request));
    } catch (cause) {
      throw new UdmabufError('create-failed', `udmabuf of ${total} bytes in ${items.length} ranges: ${String(cause)}`, { cause });
    }
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}
