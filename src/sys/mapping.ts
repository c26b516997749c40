import { fstatSync } from 'node:fs';
import type { BorrowedFd } from './fd.ts';
import { mmap, munmap } from './libc.ts';
import { SysError } from './errors.ts';
import { MAX_VIEW_LENGTH, NativeView } from './native-buffer.ts';

const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

export const PAGE_SIZE = 4096;

export type Access = 'read' | 'read-write';

/** The bytes from `offset` to `offset + length` of a file. */
export interface FilePiece {
  readonly fd: BorrowedFd;
  readonly offset: number;
  readonly length: number;
}

/**
 * Mapped memory with one owner. After dispose the getters throw, and views taken earlier are
 * detached before the pages are unmapped, so they cannot touch them. Lengths are in bytes; more
 * than 3 GiB is a RangeError.
 *
 * Files are mapped shared. A mapping never reaches past the end of its file, where an access would
 * raise SIGBUS. That only holds while the file keeps its size, so map sealed memfds
 * (F_SEAL_SHRINK), or the files of a VMM's memory table.
 */
export class Mapping implements Disposable {
  readonly length: number;
  #address: number;
  #native: NativeView | null = null;

  private constructor(address: number, length: number) {
    this.#address = address;
    this.length = length;
  }

  /**
   * Maps `length` bytes of a file from `offset`, a multiple of the page size. The caller keeps `fd`
   * and may close it at once. SysError EINVAL past the end of the file, or mmap's (EACCES, ENOMEM).
   */
  static file(fd: BorrowedFd, offset: number, length: number, access: Access): Mapping {
    checkLength(length);
    if (!(offset >= 0 && offset + length <= mappableEnd(fd)))
      throw new SysError('mmap', 'EINVAL', `${offset}+${length} is past the end of the file`);
    const address = mmap(0, length, protection(access), MAP_SHARED, fd.fd, offset);
    if (address === -1) throw SysError.fromErrno('mmap');
    return new Mapping(address, length);
  }

  /** Zeroed private memory. */
  static anonymous(length: number): Mapping {
    checkLength(length);
    const address = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address === -1) throw SysError.fromErrno('mmap');
    return new Mapping(address, length);
  }

  /**
   * Maps pieces of files side by side, in the order given, as one run of memory. Offsets and
   * lengths, except the last length, must be multiples of the page size, or it is a SysError
   * EINVAL. Nothing stays mapped after a failure.
   */
  static linear(pieces: readonly FilePiece[], access: Access): Mapping {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    checkLength(length);
    checkPieces(pieces);
    // Reserve the whole run first, so that no other thread maps anything into it.
    const address = mmap(0, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address === -1) throw SysError.fromErrno('mmap');
    let at = address;
    for (const piece of pieces) {
      if (mmap(at, piece.length, protection(access), MAP_SHARED | MAP_FIXED, piece.fd.fd, piece.offset) === -1) {
        const error = SysError.fromErrno('mmap');
        munmap(address, length);
        throw error;
      }
      at += piece.length;
    }
    return new Mapping(address, length);
  }

  get address(): number {
    if (this.#address === 0) throw new Error('mapping used after dispose');
    return this.#address;
  }

  /** The whole mapping. Writing to a mapping made with 'read' kills the process with SIGSEGV. */
  get bytes(): Uint8Array {
    return this.#views().bytes;
  }

  get view(): DataView {
    return this.#views().view;
  }

  [Symbol.dispose](): void {
    if (this.#address === 0) return;
    this.#native?.detach();
    munmap(this.#address, this.length);
    this.#address = 0;
  }

  #views(): NativeView {
    return (this.#native ??= new NativeView(this.address, this.length));
  }
}

function protection(access: Access): number {
  return access === 'read' ? PROT_READ : PROT_READ | PROT_WRITE;
}

function checkLength(length: number): void {
  if (!Number.isSafeInteger(length) || length <= 0 || length > MAX_VIEW_LENGTH) {
    throw new RangeError(`not a mapping length: ${length} (1 to ${MAX_VIEW_LENGTH})`);
  }
}

function checkPieces(pieces: readonly FilePiece[]): void {
  const ends = new Map<BorrowedFd, number>();
  pieces.forEach(({ fd, offset, length }, index) => {
    const last = index === pieces.length - 1;
    const end = ends.get(fd) ?? mappableEnd(fd);
    ends.set(fd, end);
    if (!(length > 0 && offset >= 0 && offset + length <= end)) {
      throw new SysError('mmap', 'EINVAL', `piece ${index} (${offset}+${length}) is empty or past the end of the file`);
    }
    if (offset % PAGE_SIZE !== 0 || (!last && length % PAGE_SIZE !== 0)) {
      throw new SysError('mmap', 'EINVAL', `piece ${index} (${offset}+${length}) is not page-aligned`);
    }
  });
}

/** The end of a file's last page. Devices and dma-bufs have no size: mmap checks the range itself. */
function mappableEnd(fd: BorrowedFd): number {
  const stat = fstatSync(fd.fd);
  return stat.isFile() ? Math.ceil(stat.size / PAGE_SIZE) * PAGE_SIZE : Number.MAX_SAFE_INTEGER;
}
