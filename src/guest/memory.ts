import { fstatSync } from 'node:fs';
import { ScanoutError, SysError } from '../sys/errors.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { Mapping, PAGE_SIZE, WINDOW, WindowedMapping } from '../sys/mapping.ts';
import { F_SEAL_SHRINK, getSeals, mayLackPages } from '../sys/memfd.ts';

/** `memory`: a region of guest memory cannot be used; `ring`: a ring is not in guest memory. */
export class GuestMemoryError extends ScanoutError<'memory' | 'ring'> {}

/** A region of guest RAM as a VMM describes it: one run of one file, all in bytes. */
export interface RegionDescription {
  readonly guestAddress: number;
  readonly size: number;
  /** Where the VMM has mapped it. Ring addresses are in this address space. */
  readonly userAddress: number;
  readonly mmapOffset: number;
}

/** A run of guest RAM in a mapping of its own. `bytes` must not be used after dispose. */
export interface RingArea extends Disposable {
  readonly bytes: Uint8Array;
}

/**
 * A guest address as the one element of a Float64Array; a function that takes one advances it. V8 may allocate
 * an object for a number above 2^31 that is passed to a function, but not for this.
 */
export type AddressCell = Float64Array;

/** The address space that one table may take, and all of the process, in bytes: x86-64 has 128 TiB. */
const MAX_TABLE = 4 * 2 ** 40;
const MAX_MAPPED = 64 * 2 ** 40;

/** What the regions of this process take. */
let mapped = 0;

export interface GuestMemoryOptions {
  /**
   * Whether to map files that can be truncated (no F_SEAL_SHRINK). A VMM that truncates one kills this process, whatever
   * else it serves (SIGBUS). Default false.
   */
  readonly allowUnsealed?: boolean;
}

/** Up to this many bytes, a loop is cheaper than the view object that `set` needs. */
const SMALL_COPY = 256;

/** One mapped region, shared by all tables that list it and all pictures in it, and unmapped when the last disposes it. */
export class MemoryRegion implements Disposable {
  readonly guestAddress: number;
  readonly guestEnd: number;
  readonly fileOffset: number;
  readonly fd: OwnedFd;
  readonly #userAddress: number;
  readonly #align: number;
  readonly #fileEnd: number;
  /** The file offset of the mapping. */
  readonly #base: number;
  readonly #mapping: WindowedMapping;
  #holders = 1;

  private constructor(description: RegionDescription, fd: OwnedFd) {
    const { size, blksize } = fstatSync(fd.fd);
    const fileEnd = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
    if (description.mmapOffset + description.size > size) {
      throw new GuestMemoryError(
        'memory',
        `memory region ${describe(description)} reaches past the end of its file of ${size} bytes`,
      );
    }
    this.guestAddress = description.guestAddress;
    this.guestEnd = description.guestAddress + description.size;
    this.fileOffset = description.mmapOffset;
    this.fd = fd;
    this.#userAddress = description.userAddress;
    // hugetlbfs maps whole huge pages only, and reports their size as the block size.
    this.#align = Math.max(blksize, PAGE_SIZE);
    this.#fileEnd = fileEnd;
    this.#base = alignDown(this.fileOffset, this.#align);
    const length = this.#alignUp(this.fileOffset + description.size) - this.#base;
    if (mapped + length > MAX_MAPPED)
      throw new GuestMemoryError('memory', `cannot map memory region ${describe(description)}: others take too much`);
    this.#mapping = WindowedMapping.file(fd, this.#base, length, 'read-write');
    mapped += length;
  }

  /** Consumes `fd` if it succeeds. */
  static map(description: RegionDescription, fd: OwnedFd, { allowUnsealed = false }: GuestMemoryOptions): MemoryRegion {
    const { guestAddress, size, userAddress, mmapOffset } = description;
    if (size === 0) throw new GuestMemoryError('memory', `memory region ${describe(description)} is empty`);
    if (![guestAddress + size, userAddress + size, mmapOffset + size].every(Number.isSafeInteger)) {
      throw new GuestMemoryError('memory', `memory region ${describe(description)} wraps around the address space`);
    }
    try {
      checkFile(description, fd, allowUnsealed);
      return new MemoryRegion(description, fd);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      throw new GuestMemoryError('memory', `cannot map memory region ${describe(description)}: ${error.message}`, {
        cause: error,
      });
    }
  }

  /** Where byte 0 of the file would be mapped, if it were in the mapping. */
  get fileAddress(): number {
    return this.#mapping.address - this.#base;
  }

  /** Where a guest address inside is in the file. */
  fileOffsetOf(guestAddress: number): number {
    return this.fileOffset + (guestAddress - this.guestAddress);
  }

  /** Whether `length` bytes at an address of the VMM are all inside. */
  holdsUser(userAddress: number, length: number): boolean {
    const at = userAddress - this.#userAddress;
    return at >= 0 && at + length <= this.guestEnd - this.guestAddress;
  }

  /** Whether the two addresses and the size are those of `description`. */
  is(description: RegionDescription): boolean {
    return (
      description.guestAddress === this.guestAddress &&
      description.userAddress === this.#userAddress &&
      description.size === this.guestEnd - this.guestAddress
    );
  }

  /** Copies up to the end of a window; returns the number of bytes. */
  copy(address: AddressCell, length: number, bytes: Uint8Array, at: number, toGuest: boolean): number {
    const inRegion = address[0]! - this.guestAddress;
    const position = inRegion + (this.fileOffset - this.#base);
    const index = Math.floor(position / WINDOW);
    const start = position - index * WINDOW;
    const window = this.#mapping.window(index);
    const count = Math.min(length, window.length - start, this.guestEnd - this.guestAddress - inRegion);
    if (toGuest) copyBytes(bytes, at, window, start, count);
    else copyBytes(window, start, bytes, at, count);
    return count;
  }

  /** Maps `length` bytes at an address of the VMM, all inside. */
  mapUser(userAddress: number, length: number): RingArea {
    const offset = this.fileOffset + (userAddress - this.#userAddress);
    const start = alignDown(offset, this.#align);
    const mapping = Mapping.file(this.fd, start, this.#alignUp(offset + length) - start, 'read-write');
    return {
      bytes: mapping.bytes.subarray(offset - start, offset - start + length),
      [Symbol.dispose]: () => mapping[Symbol.dispose](),
    };
  }

  /** Adds a holder, which disposes it, too. */
  retain(): this {
    this.#holders++;
    return this;
  }

  [Symbol.dispose](): void {
    if (--this.#holders > 0) return;
    this.#mapping[Symbol.dispose]();
    mapped -= this.#mapping.length;
    this.fd[Symbol.dispose]();
  }

  #alignUp(offset: number): number {
    return Math.min(Math.ceil(offset / this.#align) * this.#align, this.#fileEnd);
  }
}

/** Refuses files whose pages might not be there when they are touched. Asks what cannot block first. */
function checkFile(description: RegionDescription, fd: OwnedFd, allowUnsealed: boolean): void {
  const refuse = (why: string): never => {
    throw new GuestMemoryError('memory', `memory region ${describe(description)} ${why}`);
  };
  let seals: number;
  try {
    seals = getSeals(fd);
  } catch {
    return refuse('is in no memfd, and in no file on tmpfs or hugetlbfs');
  }
  if ((seals & F_SEAL_SHRINK) === 0 && !allowUnsealed)
    refuse(
      'is in a file that could be truncated (no F_SEAL_SHRINK), which would kill this process: use a sealed memfd (QEMU: memory-backend-memfd), or allow it with --allow-unsealed-memory',
    );
  if (mayLackPages(fd))
    refuse(
      'is in a file with holes on a tmpfs of limited size, which may be full when they are touched: preallocate it (QEMU: prealloc=on)',
    );
}

function copyBytes(from: Uint8Array, fromAt: number, into: Uint8Array, intoAt: number, count: number): void {
  if (count <= SMALL_COPY) for (let i = 0; i < count; i++) into[intoAt + i] = from[fromAt + i]!;
  else into.set(from.subarray(fromAt, fromAt + count), intoAt);
}

function alignDown(at: number, align: number): number {
  return Math.floor(at / align) * align;
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

export function describe(description: RegionDescription): string {
  return `${hex(description.guestAddress)}+${hex(description.size)} (file offset ${hex(description.mmapOffset)})`;
}

/**
 * The guest's RAM: an immutable table of regions, mapped shared and writable. A changed table is a new
 * GuestMemory, which shares the mappings of the regions that stayed. Guest addresses are untrusted and may be
 * any number that `addr64` returns. Ranges that are handed out borrow the table's descriptors and are valid
 * until dispose.
 */
export class GuestMemory implements Disposable {
  /** Sorted by guest address. */
  readonly #regions: readonly MemoryRegion[];
  /** The region of the last access, which mostly holds the next one too. */
  #recent: MemoryRegion | undefined;
  readonly #cell: AddressCell = new Float64Array(1);
  readonly #ahead: AddressCell = new Float64Array(1);
  readonly #options: GuestMemoryOptions;
  #disposed = false;

  private constructor(regions: readonly MemoryRegion[], options: GuestMemoryOptions) {
    this.#regions = regions;
    this.#options = options;
  }

  /**
   * Maps a whole table. Consumes `fds`, one for each region, even on failure. GuestMemoryError `memory` for
   * regions that are empty, wrap around, overlap, reach past the end of their file or are larger than 4 TiB together,
   * and for files whose pages might not stay: those that are no memfd and on neither tmpfs nor hugetlbfs, those that
   * can be truncated (see `allowUnsealed`), and those with holes on a tmpfs of limited size.
   */
  static map(
    descriptions: readonly RegionDescription[],
    fds: readonly OwnedFd[],
    options: GuestMemoryOptions = {},
  ): GuestMemory {
    using stack = new DisposableStack();
    for (const fd of fds) stack.use(fd);
    if (fds.length !== descriptions.length)
      throw new GuestMemoryError(
        'memory',
        `${descriptions.length} memory regions came with ${fds.length} file descriptors`,
      );
    checkTotal(descriptions);
    const regions = descriptions.map((description, i) => stack.use(MemoryRegion.map(description, fds[i]!, options)));
    const memory = new GuestMemory(sorted(regions), options);
    stack.move();
    return memory;
  }

  get regionCount(): number {
    return this.#regions.length;
  }

  /** The regions, sorted by guest address. Allocates. */
  get regions(): readonly { readonly guestAddress: number; readonly size: number }[] {
    return this.#regions.map(({ guestAddress, guestEnd }) => ({ guestAddress, size: guestEnd - guestAddress }));
  }

  /** A table with one more region. Consumes `fd`, even on failure; throws what `map` throws. */
  with(description: RegionDescription, fd: OwnedFd): GuestMemory {
    using stack = new DisposableStack();
    stack.use(fd);
    checkTotal([...this.regions, description]);
    const added = stack.use(MemoryRegion.map(description, fd, this.#options));
    const memory = new GuestMemory(sorted([...this.#regions, added]), this.#options);
    stack.move();
    for (const region of this.#regions) region.retain();
    return memory;
  }

  /** A table without the region of these two addresses and this size. GuestMemoryError `memory` if there is none. */
  without(description: RegionDescription): GuestMemory {
    const removed = this.#regions.find((region) => region.is(description));
    if (removed === undefined)
      throw new GuestMemoryError('memory', `no memory region ${describe(description)} to remove`);
    const kept = this.#regions.filter((region) => region !== removed);
    for (const region of kept) region.retain();
    return new GuestMemory(kept, this.#options);
  }

  /** Whether every byte of the range is RAM, which may be of several adjoining regions. */
  covers(guestAddress: number, length: number): boolean {
    this.#cell[0] = guestAddress;
    return this.coversAt(this.#cell, length);
  }

  /** `covers` without an allocation. Leaves `address` undefined. */
  coversAt(address: AddressCell, length: number): boolean {
    // Counts down instead of up to an end, because a sum above 2^53 rounds.
    for (let left = length; left > 0;) {
      const region = this.#find(address);
      if (region === undefined) return false;
      left -= region.guestEnd - address[0]!;
      address[0] = region.guestEnd;
    }
    return true;
  }

  /** The region that holds all of the range; null if none does, or if the range is empty. */
  region(guestAddress: number, length: number): MemoryRegion | null {
    this.#cell[0] = guestAddress;
    const region = this.#find(this.#cell);
    return region === undefined || length <= 0 || length > region.guestEnd - guestAddress ? null : region;
  }

  /** Copies guest RAM to `into[at]`. False, and nothing is copied, if part of it is not RAM. */
  copyOut(guestAddress: number, length: number, into: Uint8Array, at: number): boolean {
    this.#cell[0] = guestAddress;
    return this.copyOutAt(this.#cell, length, into, at);
  }

  /** `copyOut` without an allocation. Advances `address`. */
  copyOutAt(address: AddressCell, length: number, into: Uint8Array, at: number): boolean {
    return this.#copy(address, length, into, at, false);
  }

  /** Copies `length` bytes from `from[at]` to guest RAM. False, and nothing is copied, if part of it is not RAM. */
  copyIn(guestAddress: number, from: Uint8Array, at: number, length: number): boolean {
    this.#cell[0] = guestAddress;
    return this.copyInAt(this.#cell, from, at, length);
  }

  /** `copyIn` without an allocation. Advances `address`. */
  copyInAt(address: AddressCell, from: Uint8Array, at: number, length: number): boolean {
    return this.#copy(address, length, from, at, true);
  }

  /**
   * `length` bytes at an address of the VMM, in a mapping that outlives this table and that the caller disposes.
   * GuestMemoryError `ring` if no region holds all of them. Regions need not begin at whole pages, so that the bytes
   * may be less aligned than the address is.
   */
  ring(userAddress: number, length: number): RingArea {
    const region = this.#regions.find((candidate) => candidate.holdsUser(userAddress, length));
    if (region === undefined)
      throw new GuestMemoryError('ring', `ring area ${hex(userAddress)}+${hex(length)} is not in guest memory`);
    return region.mapUser(userAddress, length);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#recent = undefined;
    for (const region of this.#regions) region[Symbol.dispose]();
  }

  #copy(address: AddressCell, length: number, bytes: Uint8Array, at: number, toGuest: boolean): boolean {
    const recent = this.#recent;
    // The last region mostly holds all of it. Otherwise check the whole range first, to copy all or nothing.
    if (recent === undefined || address[0]! < recent.guestAddress || length > recent.guestEnd - address[0]!) {
      this.#ahead[0] = address[0]!;
      if (!this.coversAt(this.#ahead, length)) return false;
    }
    for (let done = 0; done < length;) {
      const count = this.#find(address)!.copy(address, length - done, bytes, at + done, toGuest);
      address[0]! += count;
      done += count;
    }
    return true;
  }

  #find(address: AddressCell): MemoryRegion | undefined {
    if (this.#disposed) throw new Error('guest memory used after dispose');
    const wanted = address[0]!;
    const recent = this.#recent;
    if (recent !== undefined && wanted >= recent.guestAddress && wanted < recent.guestEnd) return recent;
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#regions[middle]!.guestEnd <= wanted) low = middle + 1;
      else high = middle;
    }
    const region = this.#regions[low];
    if (region === undefined || wanted < region.guestAddress) return undefined;
    this.#recent = region;
    return region;
  }
}

function checkTotal(descriptions: readonly { readonly size: number }[]): void {
  const total = descriptions.reduce((sum, { size }) => sum + size, 0);
  if (total > MAX_TABLE)
    throw new GuestMemoryError('memory', `memory regions of ${hex(total)} bytes; ${hex(MAX_TABLE)} are supported`);
}

function sorted(regions: readonly MemoryRegion[]): readonly MemoryRegion[] {
  const byAddress = regions.toSorted((a, b) => a.guestAddress - b.guestAddress);
  byAddress.forEach((region, i) => {
    const next = byAddress[i + 1];
    if (next !== undefined && next.guestAddress < region.guestEnd) {
      throw new GuestMemoryError('memory', `memory regions overlap at guest address ${hex(next.guestAddress)}`);
    }
  });
  return byAddress;
}
