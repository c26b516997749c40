import { fstatSync } from 'node:fs';
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

/**
 * A guest address as the one element of a Float64Array, moved on by whoever is given it. A number
 * above 2^31 that is passed to a function may cost an object; this never does.
 */
export type AddressCell = Float64Array;

/** No view reaches 4 GiB, where Node 20 aborts; one window is also the largest huge page. */
const WINDOW = 2 ** 30;

/** Up to here a loop is cheaper than the view object that `set` needs. */
const SMALL_COPY = 256;

/** One mapped region. Shared by all tables that list it; the last to dispose it unmaps it. */
export class MemoryRegion implements Disposable {
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
  static map(description: RegionDescription, fd: OwnedFd): MemoryRegion {
    const { guestAddress, size, userAddress, mmapOffset } = description;
    if (size === 0) throw new VhostUserError('memory', `memory region ${describe(description)} is empty`);
    if (![guestAddress + size, userAddress + size, mmapOffset + size].every(Number.isSafeInteger)) {
      throw new VhostUserError('memory', `memory region ${describe(description)} wraps around the address space`);
    }
    using stack = new DisposableStack();
    try {
      const region = new MemoryRegion(description, fd, stack);
      stack.move();
      return region;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      throw new VhostUserError('memory', `cannot map memory region ${describe(description)}: ${error.message}`, { cause: error });
    }
  }

  holdsUser(userAddress: number, length: number): boolean {
    const at = userAddress - this.#userAddress;
    return at >= 0 && at + length <= this.guestEnd - this.guestAddress;
  }

  is(description: RegionDescription): boolean {
    return description.guestAddress === this.guestAddress && description.userAddress === this.#userAddress && description.size === this.guestEnd - this.guestAddress;
  }

  /** Copies as far as one window reaches; the number of bytes. */
  copy(address: AddressCell, length: number, bytes: Uint8Array, at: number, toGuest: boolean): number {
    const inRegion = address[0]! - this.guestAddress;
    const position = inRegion + (this.fileOffset - this.#base);
    const index = Math.floor(position / WINDOW);
    const start = position - index * WINDOW;
    const window = this.#mappings[index]!.bytes;
    const count = Math.min(length, window.length - start, this.guestEnd - this.guestAddress - inRegion);
    if (toGuest) copyBytes(bytes, at, window, start, count);
    else copyBytes(window, start, bytes, at, count);
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
