import { fstatSync } from 'node:fs';
import type { BorrowedFd } from './fd.ts';
import { errno, mmap, munmap } from './libc.ts';
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
 * raise SIGBUS. That only holds while the file keeps its size, so map memfds that are sealed
 * (F_SEAL_SHRINK). It asks for the size of the file, which blocks on a file system that does not
 * answer (FUSE, NFS): ask `getSeals` first of a file that came from a peer.
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
    return new Mapping(mapFile(fd, offset, length, access), length);
  }

  /** Zeroed private memory. */
  static anonymous(length: number): Mapping {
    checkLength(length);
    const address = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address === -1) throw SysError.fromErrno('mmap', errno());
    return new Mapping(address, length);
  }

  /**
   * Maps pieces of files side by side, in the order given, as one run of memory. Offsets and
   * lengths, except the last length, must be multiples of the page size, or it is a SysError
   * EINVAL. Nothing stays mapped after a failure.
   */
  static linear(pieces: readonly FilePiece[], access: Access): Mapping {
    checkPieces(pieces);
    const mapping = Mapping.reserve(pieces.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    try {
      for (const { fd, offset, length } of pieces) {
        mapping.place(at, fd, offset, length, access);
        at += length;
      }
    } catch (error) {
      mapping[Symbol.dispose]();
      throw error;
    }
    return mapping;
  }

  /** Addresses where nothing else is mapped, and no memory: touching them kills the process until `place` fills them. */
  static reserve(length: number): Mapping {
    checkLength(length);
    const address = mmap(0, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address === -1) throw SysError.fromErrno('mmap', errno());
    return new Mapping(address, length);
  }

  /**
   * Maps a piece of a file, which must not reach beyond the file's end, at byte `at` of a reserved mapping. All are
   * multiples of the page size, except the length of a piece at the end. RangeError outside the mapping, or mmap's SysError.
   */
  place(at: number, fd: BorrowedFd, offset: number, length: number, access: Access): void {
    if (!(at >= 0 && length > 0 && at + length <= this.length))
      throw new RangeError(`${at}+${length} is not inside a mapping of ${this.length} bytes`);
    if (mmap(this.address + at, length, protection(access), MAP_SHARED | MAP_FIXED, fd.fd, offset) === -1)
      throw SysError.fromErrno('mmap', errno());
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

/** The length of a window, in bytes. */
export const WINDOW = 2 ** 22;

/**
 * A run of a file of any length in one shared mapping, seen through windows of WINDOW bytes, of which the last may be
 * shorter. V8 limits the length of a view, and collects garbage more often the more memory new views span, so windows are
 * short and each is made at its first use. After dispose `window` throws, and windows made earlier are detached.
 */
export class WindowedMapping implements Disposable {
  readonly length: number;
  readonly #windows: NativeView[] = [];
  #address: number;

  private constructor(address: number, length: number) {
    this.#address = address;
    this.length = length;
  }

  /** As `Mapping.file`, but for any length. */
  static file(fd: BorrowedFd, offset: number, length: number, access: Access): WindowedMapping {
    return new WindowedMapping(mapFile(fd, offset, length, access), length);
  }

  get address(): number {
    if (this.#address === 0) throw new Error('mapping used after dispose');
    return this.#address;
  }

  /** The bytes from `index * WINDOW` on. */
  window(index: number): Uint8Array {
    return (this.#windows[index] ?? this.#open(index)).bytes;
  }

  [Symbol.dispose](): void {
    if (this.#address === 0) return;
    this.#windows.forEach((window) => window.detach());
    munmap(this.#address, this.length);
    this.#address = 0;
  }

  #open(index: number): NativeView {
    if (this.#address === 0) throw new Error('mapping used after dispose');
    const start = index * WINDOW;
    return (this.#windows[index] = new NativeView(this.#address + start, Math.min(WINDOW, this.length - start)));
  }
}

/** The address. */
function mapFile(fd: BorrowedFd, offset: number, length: number, access: Access): number {
  if (!(offset >= 0 && offset + length <= mappableEnd(fd)))
    throw new SysError('mmap', 'EINVAL', `${offset}+${length} is past the end of the file`);
  const address = mmap(0, length, protection(access), MAP_SHARED, fd.fd, offset);
  if (address === -1) throw SysError.fromErrno('mmap', errno());
  return address;
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
