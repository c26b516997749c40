import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BUFFER, BUFFERS, GUEST, INDIRECT, MIB, NEXT, Rig, rig, useRig, WRITE } from './rig.ts';

useRig();

describe('Virtqueue: breaks, and pops nothing any more, on', () => {
  const cases: [string, RegExp, () => void][] = [
    [
      'a loop',
      /loop/,
      () => {
        rig.describe(0, BUFFER, 1, NEXT, 1);
        rig.describe(1, BUFFER, 1, NEXT, 0);
      },
    ],
    [
      'a loop in an indirect table',
      /loop/,
      () => {
        rig.describe(0, BUFFER, 32, INDIRECT);
        rig.describe(0, BUFFER, 1, NEXT, 0, BUFFERS);
      },
    ],
    [
      'a chain of 1025 descriptors, 1024 of them indirect',
      /too long/,
      () => {
        rig.describe(0, BUFFER, 1, NEXT, 1);
        rig.describe(1, BUFFER, 1024 * 16, INDIRECT);
        for (let i = 0; i < 1024; i++) rig.describe(i, BUFFER, 1, i < 1023 ? NEXT : 0, i + 1, BUFFERS);
      },
    ],
    ['a successor beyond the table', /beyond its table/, () => rig.describe(0, BUFFER, 1, NEXT, 8)],
    [
      'a successor beyond the indirect table',
      /beyond its table/,
      () => {
        rig.describe(0, BUFFER, 32, INDIRECT);
        rig.describe(0, BUFFER, 1, NEXT, 2, BUFFERS);
      },
    ],
    [
      'an indirect table in an indirect table',
      /inside an indirect/,
      () => {
        rig.describe(0, BUFFER, 16, INDIRECT);
        rig.describe(0, BUFFER, 16, INDIRECT, 0, BUFFERS);
      },
    ],
    ['an indirect descriptor with a successor', /successor/, () => rig.describe(0, BUFFER, 16, INDIRECT | NEXT, 1)],
    ['an indirect table of zero length', /zero or odd/, () => rig.describe(0, BUFFER, 0, INDIRECT)],
    ['an indirect table of odd length', /zero or odd/, () => rig.describe(0, BUFFER, 17, INDIRECT)],
    ['an indirect table of 1025 descriptors', /more than 1024/, () => rig.describe(0, BUFFER, 1025 * 16, INDIRECT)],
    ['an indirect table of 4 GiB', /more than 1024/, () => rig.describe(0, BUFFER, 0xffff_fff0, INDIRECT)],
    ['an indirect table outside memory', /table outside memory/, () => rig.describe(0, GUEST + MIB - 8, 16, INDIRECT)],
    [
      'a readable descriptor after a writable one',
      /after a writable/,
      () => {
        rig.describe(0, BUFFER, 1, WRITE | NEXT, 1);
        rig.describe(1, BUFFER, 1);
      },
    ],
    ['a descriptor of zero length', /zero length/, () => rig.describe(0, BUFFER, 0)],
    ['a buffer outside memory', /outside memory/, () => rig.describe(0, 0, 1)],
    ['a buffer that ends outside memory', /outside memory/, () => rig.describe(0, GUEST + MIB - 1, 2)],
    ['a buffer that wraps', /outside memory/, () => rig.describe(0, 2 ** 64 - 4096, 8192)],
  ];

  test.each(cases)('%s', (_name, reason, arrange) => {
    arrange();
    rig.offer(0);
    rig.offer(1);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(reason);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.reasons).toHaveLength(1);
  });

  test('a head beyond the queue', () => {
    rig.offer(8);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/head beyond/);
  });

  test('an available index that jumps ahead', () => {
    rig.availableIndex = 9;
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/further ahead/);
  });

  test('an available index that goes back', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.queue.push(rig.pop(), 0);
    rig.availableIndex = 0;
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/further ahead/);
  });

  test('a head made available again while it is in flight, whose chain can still be pushed', () => {
    rig.describe(0, BUFFER, 1);
    rig.offer(0);
    rig.offer(0);
    const chain = rig.pop();
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/in flight/);
    rig.queue.push(chain, 0);
    expect(rig.usedIndex).toBe(0);
  });

  test('an indirect descriptor that was not negotiated', () => {
    rig.restart({ indirect: false });
    rig.describe(0, BUFFER, 16, INDIRECT);
    rig.offer(0);
    expect(rig.queue.pop()).toBeNull();
    expect(rig.queue.broken).toMatch(/negotiated/);
  });
});

test('Virtqueue: whatever a driver writes, nothing throws and no chain reaches outside memory', () => {
  const descriptor = fc.record({
    addr: fc.oneof(
      { weight: 20, arbitrary: fc.integer({ min: 0, max: 0x20 }).map((n) => BUFFER + n * 128) },
      { weight: 1, arbitrary: fc.integer({ min: -64, max: 64 }).map((at) => GUEST + MIB + at) },
      { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(Number) },
    ),
    len: fc.oneof(
      { weight: 20, arbitrary: fc.integer({ min: 1, max: 8 }).map((n) => n * 16) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
    ),
    flags: fc.constantFrom(
      0,
      0,
      0,
      WRITE,
      WRITE,
      NEXT,
      NEXT,
      NEXT | WRITE,
      INDIRECT,
      INDIRECT,
      INDIRECT | NEXT,
      0xffff,
    ),
    next: fc.integer({ min: 0, max: 9 }),
  });
  const into = new Uint8Array(0x1000);
  let popped = 0;
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 8, maxLength: 8 }),
      fc.array(descriptor, { minLength: 8, maxLength: 8 }),
      fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 10 }),
      (table, indirect, heads) => {
        using own = new Rig(8, { eventIdx: heads.length % 2 === 0 });
        table.forEach((d, i) => own.describe(i, d.addr % 2 ** 53, d.len, d.flags, d.next));
        for (let at = 0; at < 0x1000; at += 128)
          indirect.forEach((d, i) => own.describe(i, d.addr % 2 ** 53, d.len, d.flags, d.next, BUFFERS + at));
        for (const head of heads) own.offer(head);
        for (let chain = own.queue.pop(); chain !== null; chain = own.queue.pop()) {
          popped++;
          expect(chain.readable + chain.writable).toBeGreaterThan(0);
          expect(chain.read(0, into, 0, into.length)).toBe(Math.min(chain.readable, into.length));
          expect(chain.write(0, into, 0, into.length)).toBe(Math.min(chain.writable, into.length));
        }
      },
    ),
    { numRuns: 300 },
  );
  // Most tables are broken; enough must not be, or nothing above was tested.
  expect(popped).toBeGreaterThan(50);
});
