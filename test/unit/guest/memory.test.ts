import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GuestMemory, GuestMemoryError, type RegionDescription } from '../../../src/guest/memory.ts';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { type BorrowedFd, dupFd } from '../../../src/sys/fd.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { mappingCount } from '../../rig/process-resources.ts';
import { skipBecause } from '../../rig/skip.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;
const PAGE = 0x1000;
const USER = 0x7f00_0000_0000;

expectNoLeaks();

/** Regions of one memfd, which is as long as the last of them needs. */
function table(
  regions: readonly Partial<RegionDescription>[],
  fileSize?: number,
): { descriptions: RegionDescription[]; map: () => GuestMemory } {
  const descriptions = regions.map((region) => ({
    guestAddress: 0,
    size: PAGE,
    userAddress: USER + (region.guestAddress ?? 0),
    mmapOffset: 0,
    ...region,
  }));
  const length = fileSize ?? Math.max(...descriptions.map((region) => region.mmapOffset + region.size));
  return {
    descriptions,
    map: () => {
      using memfd = createMemfd('guest', length);
      return GuestMemory.map(
        descriptions,
        descriptions.map(() => memfd.dup()),
      );
    },
  };
}

function code(run: () => Disposable): string {
  try {
    run()[Symbol.dispose]();
    return 'accepted';
  } catch (error) {
    expect(error).toBeInstanceOf(GuestMemoryError);
    return (error as GuestMemoryError).code;
  }
}

describe('GuestMemory.range', () => {
  const seeds = table([
    { guestAddress: 0x100, mmapOffset: 0 },
    { guestAddress: 0x1100, mmapOffset: 0x1000 },
    { guestAddress: 0x2100, mmapOffset: 0x2000 },
  ]);

  test.each([
    [0x300, 1, 0x200],
    [0x1200, 1, 0x1100],
    [0x1100, 0x1000, 0x1000],
    [0x20ff, 1, 0x1fff],
    [0x1100, 0x1001, undefined],
    [0xff, 1, undefined],
    [0x3100, 1, undefined],
    [0x100, 0, undefined],
    [2 ** 64 - 1, 2, undefined],
    [0x300, 2 ** 64, undefined],
  ])('of %i, %i bytes long, is at file offset %s', (guestAddress, length, offset) => {
    using memory = seeds.map();
    expect(memory.region(guestAddress, length)?.fileOffsetOf(guestAddress)).toBe(offset);
  });

  test('adds the file offset of the region', () => {
    using memory = table([{ guestAddress: 4 * GIB, mmapOffset: 3 * PAGE }]).map();
    expect(memory.region(4 * GIB + 5, 7)?.fileOffsetOf(4 * GIB + 5)).toBe(3 * PAGE + 5);
  });
});

describe('GuestMemory refuses', () => {
  test.each<[string, Partial<RegionDescription>[], number | undefined]>([
    ['an empty region', [{ size: 0 }], PAGE],
    ['a region past the end of its file', [{ size: 2 * PAGE }], PAGE],
    ['a region whose offset is past the end of its file', [{ mmapOffset: PAGE }], PAGE],
    ['a region of a file that ends within the last page', [{ size: PAGE }], PAGE - 1],
    ['a region that wraps around in guest space', [{ guestAddress: 2 ** 64 - PAGE }], PAGE],
    ['a region that wraps around in user space', [{ userAddress: 2 ** 64 - PAGE }], PAGE],
    ['a region that wraps around in its file', [{ mmapOffset: 2 ** 64 - PAGE }], PAGE],
    ['regions that overlap', [{ guestAddress: PAGE }, { guestAddress: PAGE + 1 }], PAGE],
    ['the same region twice', [{}, {}], PAGE],
  ])('%s', (_name, regions, fileSize) => {
    expect(code(table(regions, fileSize).map)).toBe('memory');
  });

  test('an added region that overlaps, and the table stays as it was', () => {
    using memory = table([{}]).map();
    expect(
      code(() =>
        memory.with({ guestAddress: 1, size: PAGE, userAddress: USER, mmapOffset: 0 }, createMemfd('more', PAGE)),
      ),
    ).toBe('memory');
    expect(memory.region(0, PAGE)).not.toBeNull();
  });

  test('more than 4 TiB, in one region or in several', () => {
    const half = { size: 2 * 2 ** 40 + PAGE };
    expect(code(table([{ size: 4 * 2 ** 40 + PAGE }]).map)).toBe('memory');
    expect(code(table([half, { ...half, guestAddress: 2 ** 42 }]).map)).toBe('memory');
    expect(code(table([half]).map)).toBe('accepted');
  });

  test('a descriptor that cannot be mapped', () => {
    using memfd = createMemfd('sealed', PAGE, 0x08 | 0x02);
    expect(
      code(() => GuestMemory.map([{ guestAddress: 0, size: PAGE, userAddress: USER, mmapOffset: 0 }], [memfd.dup()])),
    ).toBe('memory');
  });
});

describe('GuestMemory: a file', () => {
  const region = { guestAddress: 0, size: PAGE, userAddress: USER, mmapOffset: 0 };
  const map =
    (fd: BorrowedFd, allowUnsealed = false) =>
    (): GuestMemory =>
      GuestMemory.map([region], [dupFd(fd)], { allowUnsealed });

  test('that can be truncated is refused, unless that is allowed', () => {
    using memfd = createMemfd('unsealed', PAGE, 0);
    expect(code(map(memfd))).toBe('memory');
    expect(map(memfd)).toThrow('--allow-unsealed-memory');
    expect(code(map(memfd, true))).toBe('accepted');
  });

  test('that is allowed stays so for regions that are added', () => {
    using memfd = createMemfd('unsealed', PAGE, 0);
    using memory = map(memfd, true)();
    const added = { ...region, guestAddress: PAGE };
    expect(code(() => memory.with(added, memfd.dup()))).toBe('accepted');
  });

  test.each<[string, string]>([
    ['a device', '/dev/zero'],
    ['a directory', '/proc/self'],
    ['a file of a file system that makes its files up', '/proc/self/maps'],
  ])('that is %s is refused, whatever is allowed', (_kind, path) => {
    const fd = openSync(path, 'r');
    expect(map({ fd }, true)).toThrow('no memfd');
    closeSync(fd);
  });

  test('that is an eventfd or a socket is refused, whatever is allowed', () => {
    using event = EventFd.create();
    expect(map(event, true)).toThrow('no memfd');
    const [near, far] = socketPair();
    expect(map(near, true)).toThrow('no memfd');
    near[Symbol.dispose]();
    far[Symbol.dispose]();
  });

  const SHM = '/dev/shm';
  const skip =
    statfsSync(SHM).type !== 0x0102_1994 || statfsSync(SHM).blocks === 0
      ? skipBecause(`${SHM} is no tmpfs of limited size`)
      : false;

  test.skipIf(skip)('with holes on a tmpfs that may be full is refused until it is allocated', () => {
    const directory = mkdtempSync(join(SHM, 'guest-memory-'));
    const fd = openSync(join(directory, 'ram'), 'w+');
    ftruncateSync(fd, 2 * PAGE);
    writeSync(fd, 'x');
    expect(map({ fd }, true)).toThrow('prealloc=on');
    writeSync(fd, 'y', PAGE);
    expect(code(map({ fd }, true))).toBe('accepted');
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });
});

describe('GuestMemory copies', () => {
  test.each([1, 4, 256, 257, 5000])('%i bytes across adjoining regions unchanged, in and out', (length) => {
    using memory = table([
      { guestAddress: 0x10_0000, size: 2 * PAGE, mmapOffset: 2 * PAGE },
      { guestAddress: 0x10_0000 + 2 * PAGE, size: 2 * PAGE, mmapOffset: 0 },
    ]).map();
    const from = Uint8Array.from({ length: length + 3 }, (_, i) => i * 7 + 1);
    const at = 0x10_0000 + 2 * PAGE - Math.floor(length / 2) - 1;
    expect(memory.copyIn(at, from, 3, length)).toBe(true);
    const into = new Uint8Array(length + 2);
    expect(memory.copyOut(at, length, into, 2)).toBe(true);
    expect(into.subarray(2)).toEqual(from.subarray(3));
  });

  test('nothing if there is a hole in the range', () => {
    using memory = table([{ guestAddress: 0 }, { guestAddress: 2 * PAGE, mmapOffset: PAGE }]).map();
    expect(memory.copyIn(PAGE - 1, Uint8Array.of(1, 2, 3), 0, 2)).toBe(false);
    const into = new Uint8Array(2);
    expect(memory.copyOut(PAGE - 1, 1, into, 0)).toBe(true);
    expect(into).toEqual(Uint8Array.of(0, 0));
  });

  test('to every mapping window of 10 GiB above 4 GiB, and across their borders', () => {
    using memory = table([{ guestAddress: 4 * GIB, size: 10 * GIB, mmapOffset: PAGE }]).map();
    const picture = Uint8Array.from({ length: 1000 }, (_, i) => i);
    for (let window = 1; window <= 10; window++) {
      const at = Math.min((4 + window) * GIB - 500, 14 * GIB - 1000);
      expect(memory.copyIn(at, picture, 0, 1000)).toBe(true);
      const into = new Uint8Array(1000);
      expect(memory.copyOut(at, 1000, into, 0)).toBe(true);
      expect(into).toEqual(picture);
      const region = memory.region(at, 1000)!;
      readSync(region.fd.fd, into.fill(0), 0, 1000, region.fileOffsetOf(at));
      expect(into).toEqual(picture);
    }
    expect(memory.covers(14 * GIB - 1, 1)).toBe(true);
    expect(memory.covers(14 * GIB - 1, 2)).toBe(false);
  });

  test('only inside the table and never throws, for any address', () => {
    using memory = table([
      { guestAddress: 0x1000 },
      { guestAddress: 0x2000, mmapOffset: PAGE },
      { guestAddress: 0x8000 },
    ]).map();
    const into = new Uint8Array(0x4000);
    const address = fc.oneof(
      fc.integer({ min: 0, max: 0xa000 }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(Number),
    );
    fc.assert(
      fc.property(address, fc.integer({ min: 1, max: 0x4000 }), (at, length) => {
        const inside = (at >= 0x1000 && at + length <= 0x3000) || (at >= 0x8000 && at + length <= 0x9000);
        expect(memory.covers(at, length)).toBe(inside);
        expect(memory.copyOut(at, length, into, 0)).toBe(inside);
        expect(memory.copyIn(at, into, 0, length)).toBe(inside);
      }),
    );
  });
});

describe('GuestMemory tables', () => {
  test('share the mappings of regions that stay, and unmap those that go', () => {
    const first = table([{ guestAddress: 0, size: MIB }]).map();
    const mapped = mappingCount();
    const added = { guestAddress: 16 * MIB, size: MIB, userAddress: USER + 16 * MIB, mmapOffset: 0 };
    const second = first.with(added, createMemfd('more', MIB));
    expect(mappingCount()).toBe(mapped + 1);
    first.copyIn(5, Uint8Array.of(42), 0, 1);
    first[Symbol.dispose]();
    const third = second.without(added);
    second[Symbol.dispose]();
    expect(mappingCount()).toBe(mapped);
    const into = new Uint8Array(1);
    expect(third.copyOut(5, 1, into, 0)).toBe(true);
    expect(into[0]).toBe(42);
    expect(third.covers(16 * MIB, 1)).toBe(false);
    third[Symbol.dispose]();
  });

  test('take one mapping for a region, however large', () => {
    const mapped = mappingCount();
    using memory = table([{ guestAddress: 0, size: 2 ** 40 }]).map();
    expect(mappingCount()).toBe(mapped + 1);
    expect(memory.copyIn(2 ** 40 - 3, Uint8Array.of(1, 2, 3), 0, 3)).toBe(true);
  });

  test('remove a region by its addresses and size, whatever its mapping offset', () => {
    const { descriptions, map } = table([{ guestAddress: PAGE, mmapOffset: PAGE }]);
    using memory = map();
    const region = descriptions[0]!;
    expect(code(() => memory.without({ ...region, mmapOffset: 0 }))).toBe('accepted');
    expect(code(() => memory.without({ ...region, size: 2 * PAGE }))).toBe('memory');
    expect(code(() => memory.without({ ...region, userAddress: USER }))).toBe('memory');
    expect(code(() => memory.without({ ...region, guestAddress: 0 }))).toBe('memory');
  });

  test('throw when used after dispose', () => {
    const memory = table([{}]).map();
    memory[Symbol.dispose]();
    memory[Symbol.dispose]();
    expect(() => memory.region(0, 1)).toThrow('after dispose');
  });
});

describe('GuestMemory.ring', () => {
  test('maps a user address inside a page, and the mapping outlives the table', () => {
    const memory = table([{ guestAddress: 8 * GIB, size: 4 * PAGE, mmapOffset: PAGE }]).map();
    memory.copyIn(8 * GIB + 0x1f0, Uint8Array.of(1, 2, 3), 0, 3);
    using area = memory.ring(USER + 8 * GIB + 0x1f0, PAGE);
    memory[Symbol.dispose]();
    expect(area.bytes.length).toBe(PAGE);
    expect(area.bytes.subarray(0, 4)).toEqual(Uint8Array.of(1, 2, 3, 0));
  });

  test.each([
    [USER - 1, 1],
    [USER + PAGE - 1, 2],
    [0, 1],
    [2 ** 64 - 1, 1],
  ])('refuses user address %i, %i bytes long, outside guest memory', (userAddress, length) => {
    using memory = table([{}]).map();
    expect(code(() => memory.ring(userAddress, length))).toBe('ring');
  });
});
