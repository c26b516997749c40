import type { PageRange } from '../core/framebuffer.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { type AddressCell, MemoryRegion, type RegionDescription, type RingArea, describe, hex } from './memory-region.ts';
import { VhostUserError } from './vhost-user/errors.ts';

/**
 * The guest's RAM: an immutable table of regions, mapped shared and writable. A changed table is
 * a new GuestMemory that shares the mappings of the regions that stayed. Guest addresses are
 * untrusted and may be any number that `addr64` yields; ranges handed out borrow our fds and are
 * valid until dispose.
 */
export class GuestMemory implements Disposable {
  /** By guest address. */
  readonly #regions: readonly MemoryRegion[];
  /** Neighbouring accesses mostly hit the same region. */
  #recent: MemoryRegion | undefined;
  readonly #cell: AddressCell = new Float64Array(1);
  readonly #ahead: AddressCell = new Float64Array(1);
  #disposed = false;

  private constructor(regions: readonly MemoryRegion[]) {
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
    const regions = descriptions.map((description, i) => stack.use(MemoryRegion.map(description, fds[i]!)));
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
    const added = stack.use(MemoryRegion.map(description, fd));
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
    this.#cell[0] = guestAddress;
    return this.coversAt(this.#cell, length);
  }

  /** `covers` for a hot path. */
  coversAt(address: AddressCell, length: number): boolean {
    // Counting down, not up to an end: a sum above 2^53 rounds.
    for (let left = length; left > 0; ) {
      const region = this.#find(address);
      if (region === undefined) return false;
      left -= region.guestEnd - address[0]!;
      address[0] = region.guestEnd;
    }
    return true;
  }

  /** The range as part of a file; null unless it is not empty and lies in one region. */
  range(guestAddress: number, length: number): PageRange | null {
    this.#cell[0] = guestAddress;
    const region = this.#find(this.#cell);
    if (region === undefined || length <= 0 || length > region.guestEnd - guestAddress) return null;
    return { memfd: region.fd, offset: region.fileOffset + (guestAddress - region.guestAddress), length };
  }

  /** Copies guest RAM to `into[at]`; false, with nothing copied, if part of it is not RAM. */
  copyOut(guestAddress: number, length: number, into: Uint8Array, at: number): boolean {
    this.#cell[0] = guestAddress;
    return this.copyOutAt(this.#cell, length, into, at);
  }

  /** `copyOut` for a hot path. */
  copyOutAt(address: AddressCell, length: number, into: Uint8Array, at: number): boolean {
    return this.#copy(address, length, into, at, false);
  }

  /** Copies `length` bytes of `from[at]` to guest RAM; false, with nothing copied, if part of it is not RAM. */
  copyIn(guestAddress: number, from: Uint8Array, at: number, length: number): boolean {
    this.#cell[0] = guestAddress;
    return this.copyInAt(this.#cell, from, at, length);
  }

  /** `copyIn` for a hot path. */
  copyInAt(address: AddressCell, from: Uint8Array, at: number, length: number): boolean {
    return this.#copy(address, length, from, at, true);
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

  #copy(address: AddressCell, length: number, bytes: Uint8Array, at: number, toGuest: boolean): boolean {
    const recent = this.#recent;
    // Mostly the region of the access before holds all of it; else look ahead, to copy all or nothing.
    if (recent === undefined || address[0]! < recent.guestAddress || length > recent.guestEnd - address[0]!) {
      this.#ahead[0] = address[0]!;
      if (!this.coversAt(this.#ahead, length)) return false;
    }
    for (let done = 0; done < length; ) {
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

function sorted(regions: readonly MemoryRegion[]): readonly MemoryRegion[] {
  const byAddress = regions.toSorted((a, b) => a.guestAddress - b.guestAddress);
  byAddress.forEach((region, i) => {
    const next = byAddress[i + 1];
    if (next !== undefined && next.guestAddress < region.guestEnd) {
      throw new VhostUserError('memory', `memory regions overlap at guest address ${hex(next.guestAddress)}`);
    }
  });
  return byAddress;
}
