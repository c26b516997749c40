import { fstatSync } from 'node:fs';
import type { PageRange } from '../core/framebuffer.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { SysError } from '../sys/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../sys/mapping.ts';
import { VhostUserError } from './vhost-user/errors.ts';

/** Guest RAM as a VMM describes it, one run of one file; all in bytes. */
export interface RegionDescription {
  readonly guestAddress: number;
  readonly size: number;
  /** Where the VMM itself has it mapped; ring addresses are given in this space. */
  readonly userAddress: number;
  readonly mmapOffset: number;
}

/** A run of guest RAM in a mapping of its own. `bytes` is dead after dispose. */
export interface RingArea extends Disposable {
  readonly bytes: Uint8Array;
}

/** No view reaches 4 GiB, where Node 20 aborts; one window is also the largest huge page. */
const WINDOW = 2 ** 30;

/** Up to here a loop is cheaper than the view object that `set` needs. */
const SMALL_COPY = 256;

/**
 * The guest's RAM: an immutable table of regions, mapped shared and writable. A changed table is
 * a new GuestMemory that shares the mappings of the regions that stayed. Guest addresses are
 * untrusted and may be any number that `addr64` yields; ranges handed out borrow our fds and are
 * valid until dispose.
 */
export class GuestMemory implements Disposable {
  /** By guest address. */
  readonly #regions: readonly Region[];
  /** Neighbouring accesses mostly hit the same region. */
  #recent: Region | undefined;
  #disposed = false;

  private constructor(regions: readonly Region[]) {
    this.#regions = regions;
  }

  /**
   * Maps a whole table and consumes `fds`, one for each region. VhostUserError 'memory' for
   * regions that are empty, wrap, overlap or reach past the end of their file.
   */
  static map(descriptions: readonly RegionDescription[], fds: readonly OwnedFd[]): GuestMemory {
    using stack = new DisposableStack();
    for (const fd of fds) stack.use(fd);
    if (fds.length !== descriptions.length) throw new VhostUserError('fds', `${descriptions.length} memory regions with ${fds.length} file descriptors`);
    const regions = descriptions.map((description, i) => stack.use(Region.map(description, fds[i]!)));
    const memory = new GuestMemory(sorted(regions));
    stack.move();
    return memory;
  }

  get regionCount(): number {
    return this.#regions.length;
  }

  /** Where RAM is, by guest address. Allocates. */
  get regions(): readonly { readonly guestAddress: number; readonly size: number }[] {
    return this.#regions.map(({ guestAddress, guestEnd }) => ({ guestAddress, size: guestEnd - guestAddress }));
  }

  /** This table and one more region. Consumes `fd`; errors as of `map`. */
  with(description: RegionDescription, fd: OwnedFd): GuestMemory {
    using stack = new DisposableStack();
    stack.use(fd);
    const added = stack.use(Region.map(description, fd));
    const memory = new GuestMemory(sorted([...this.#regions, added]));
    stack.move();
    for (const region of this.#regions) region.retain();
    return memory;
  }

  /** This table less one region, which its two addresses and its size identify. VhostUserError 'memory' if it is not there. */
  without(description: RegionDescription): GuestMemory {
    const removed = this.#regions.find((region) => region.is(description));
    if (removed === undefined) throw new VhostUserError('memory', `no memory region ${describe(description)} to remove`);
    const kept = this.#regions.filter((region) => region !== removed);
    for (const region of kept) region.retain();
    return new GuestMemory(kept);
  }

  /** Whether every byte of the range is RAM, be it of several adjoining regions. */
  covers(guestAddress: number, length: number): boolean {
    // Counting down, not up to an end: a sum above 2^53 rounds.
    let at = guestAddress;
    for (let left = length; left > 0; ) {
      const region = this.#find(at);
      if (region === undefined) return false;
      left -= region.guestEnd - at;
      at = region.guestEnd;
    }
    return true;
  }

  /** The range as part of a file; null unless it is not empty and lies in one region. */
  range(guestAddress: number, length: number): PageRange | null {
    const region = this.#find(guestAddress);
    if (region === undefined || length <= 0 || length > region.guestEnd - guestAddress) return null;
    return { memfd: region.fd, offset: region.fileOffset + (guestAddress - region.guestAddress), length };
  }

  /** Copies guest RAM to `into[at]`; false, with nothing copied, if part of it is not RAM. */
  copyOut(guestAddress: number, length: number, into: Uint8Array, at: number): boolean {
    if (!this.covers(guestAddress, length)) return false;
    for (let done = 0; done < length; ) {
      done += this.#find(guestAddress + done)!.copyOut(guestAddress + done, length - done, into, at + done);
    }
    return true;
  }

  /** Copies `length` bytes of `from[at]` to guest RAM; false, with nothing copied, if part of it is not RAM. */
  copyIn(guestAddress: number, from: Uint8Array, at: number, length: number): boolean {
    if (!this.covers(guestAddress, length)) return false;
    for (let done = 0; done < length; ) {
      done += this.#find(guestAddress + done)!.copyIn(guestAddress + done, from, at + done, length - done);
    }
    return true;
  }

  /**
   * `length` bytes at an address of the VMM, in a mapping that outlives this table and that the
   * caller disposes. VhostUserError 'ring' if no region holds all of them.
   */
  ring(userAddress: number, length: number): RingArea {
    const region = this.#regions.find((candidate) => candidate.holdsUser(userAddress, length));
    if (region === undefined) throw new VhostUserError('ring', `ring area ${hex(userAddress)}+${hex(length)} is not in guest memory`);
    return region.mapUser(userAddress, length);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#recent = undefined;
    for (const region of this.#regions) region[Symbol.dispose]();
  }

  #find(guestAddress: number): Region | undefined {
    if (this.#disposed) throw new Error('guest memory used after dispose');
    if (this.#recent?.holds(guestAddress) === true) return this.#recent;
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#regions[middle]!.guestEnd <= guestAddress) low = middle + 1;
      else high = middle;
    }
    const region = this.#regions[low];
    if (region?.holds(guestAddress) !== true) return undefined;
    this.#recent = region;
    return region;
  }
}

/** One mapped region. Shared by all tables that list it; the last to dispose it unmaps it. */
class Region implements Disposable {
  readonly guestAddress: number;
  readonly guestEnd: number;
  readonly fileOffset: number;
  readonly fd: OwnedFd;
  readonly #userAddress: number;
  readonly #align: number;
  readonly #fileEnd: number;
  /** Where the first window starts in the file. */
  readonly #base: number;
  /** Windows. Their views come on first use: V8 collects garbage more eagerly the more a view spans. */
  readonly #mappings: readonly Mapping[];
  #holders = 1;

  private constructor(description: RegionDescription, fd: OwnedFd, stack: DisposableStack) {
    const { size, blksize } = fstatSync(fd.fd);
    const fileEnd = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
    if (description.mmapOffset + description.size > size) {
      throw new VhostUserError('memory', `memory region ${describe(description)} reaches past its file of ${size} bytes`);
    }
    this.guestAddress = description.guestAddress;
    this.guestEnd = description.guestAddress + description.size;
    this.fileOffset = description.mmapOffset;
    this.fd = fd;
    this.#userAddress = description.userAddress;
    // hugetlbfs maps and unmaps whole huge pages, and tells their size here.
    this.#align = Math.max(blksize, PAGE_SIZE);
    this.#fileEnd = fileEnd;
    this.#base = alignDown(this.fileOffset, this.#align);
    const end = this.#alignUp(this.fileOffset + description.size);
    const mappings: Mapping[] = [];
    for (let at = this.#base; at < end; at += WINDOW) {
      mappings.push(stack.use(Mapping.file(fd, at, Math.min(WINDOW, end - at), 'read-write')));
    }
    this.#mappings = mappings;
  }

  /** Consumes `fd` when it succeeds. */
  static map(description: RegionDescription, fd: OwnedFd): Region {
    const { guestAddress, size, userAddress, mmapOffset } = description;
    if (size === 0) throw new VhostUserError('memory', `memory region ${describe(description)} is empty`);
    if (![guestAddress + size, userAddress + size, mmapOffset + size].every(Number.isSafeInteger)) {
      throw new VhostUserError('memory', `memory region ${describe(description)} wraps around the address space`);
    }
    using stack = new DisposableStack();
    try {
      const region = new Region(description, fd, stack);
      stack.move();
      return region;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      throw new VhostUserError('memory', `cannot map memory region ${describe(description)}: ${error.message}`, { cause: error });
    }
  }

  holds(guestAddress: number): boolean {
    return guestAddress >= this.guestAddress && guestAddress < this.guestEnd;
  }

  holdsUser(userAddress: number, length: number): boolean {
    const at = userAddress - this.#userAddress;
    return at >= 0 && at + length <= this.guestEnd - this.guestAddress;
  }

  is(description: RegionDescription): boolean {
    return description.guestAddress === this.guestAddress && description.userAddress === this.#userAddress && description.size === this.guestEnd - this.guestAddress;
  }

  /** Copies as far as one window reaches; the number of bytes. */
  copyOut(guestAddress: number, length: number, into: Uint8Array, at: number): number {
    const position = guestAddress - this.guestAddress + (this.fileOffset - this.#base);
    const index = Math.floor(position / WINDOW);
    const start = position - index * WINDOW;
    const window = this.#mappings[index]!.bytes;
    const count = Math.min(length, window.length - start, this.guestEnd - guestAddress);
    if (count <= SMALL_COPY) for (let i = 0; i < count; i++) into[at + i] = window[start + i]!;
    else into.set(window.subarray(start, start + count), at);
    return count;
  }

  copyIn(guestAddress: number, from: Uint8Array, at: number, length: number): number {
    const position = guestAddress - this.guestAddress + (this.fileOffset - this.#base);
    const index = Math.floor(position / WINDOW);
    const start = position - index * WINDOW;
    const window = this.#mappings[index]!.bytes;
    const count = Math.min(length, window.length - start, this.guestEnd - guestAddress);
    if (count <= SMALL_COPY) for (let i = 0; i < count; i++) window[start + i] = from[at + i]!;
    else window.set(from.subarray(at, at + count), start);
    return count;
  }

  mapUser(userAddress: number, length: number): RingArea {
    const offset = this.fileOffset + (userAddress - this.#userAddress);
    const start = alignDown(offset, this.#align);
    const mapping = Mapping.file(this.fd, start, this.#alignUp(offset + length) - start, 'read-write');
    return { bytes: mapping.bytes.subarray(offset - start, offset - start + length), [Symbol.dispose]: () => mapping[Symbol.dispose]() };
  }

  retain(): void {
    this.#holders++;
  }

  [Symbol.dispose](): void {
    if (--this.#holders > 0) return;
    for (const mapping of this.#mappings) mapping[Symbol.dispose]();
    this.fd[Symbol.dispose]();
  }

  #alignUp(offset: number): number {
    return Math.min(Math.ceil(offset / this.#align) * this.#align, this.#fileEnd);
  }
}

function sorted(regions: readonly Region[]): readonly Region[] {
  const byAddress = regions.toSorted((a, b) => a.guestAddress - b.guestAddress);
  byAddress.forEach((region, i) => {
    const next = byAddress[i + 1];
    if (next !== undefined && next.guestAddress < region.guestEnd) {
      throw new VhostUserError('memory', `memory regions overlap at guest address ${hex(next.guestAddress)}`);
    }
  });
  return byAddress;
}

function alignDown(at: number, align: number): number {
  return Math.floor(at / align) * align;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function describe(description: RegionDescription): string {
  return `${hex(description.guestAddress)}+${hex(description.size)} (file offset ${hex(description.mmapOffset)})`;
}
