import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Type,
  addr64,
  array,
  bytes,
  i32,
  io,
  ior,
  iow,
  iowr,
  struct,
  u16,
  u32,
  u64,
  u8,
} from '../../../protocols/layout.ts';
import { runC, skipWithoutC } from '../../rig/c-headers.ts';

/* eslint-disable @typescript-eslint/no-explicit-any */

const skip = skipWithoutC();

/** A field: its C declaration for a name, its type here, and values that it can hold. */
interface Sample {
  readonly c: (name: string) => string;
  readonly type: Type<any>;
  readonly values: fc.Arbitrary<any>;
}

const u32Values = fc.integer({ min: 0, max: 0xffff_ffff });
const scalars: Sample[] = [
  { c: (name) => `uint8_t ${name}`, type: u8, values: fc.integer({ min: 0, max: 0xff }) },
  { c: (name) => `uint16_t ${name}`, type: u16, values: fc.integer({ min: 0, max: 0xffff }) },
  { c: (name) => `uint32_t ${name}`, type: u32, values: u32Values },
  { c: (name) => `int32_t ${name}`, type: i32, values: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }) },
  { c: (name) => `uint64_t ${name}`, type: u64, values: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
  { c: (name) => `uint64_t ${name}`, type: addr64, values: fc.maxSafeNat() },
];

const field: fc.Arbitrary<Sample> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...scalars) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(...scalars), fc.integer({ min: 1, max: 5 })).map(([element, n]): Sample => ({
      c: (name) => `${element.c(name)}[${n}]`,
      type: array(element.type, n),
      values: fc.array(element.values, { minLength: n, maxLength: n }),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 9 }).map((n): Sample => ({
      c: (name) => `uint8_t ${name}[${n}]`,
      type: bytes(n),
      values: fc.uint8Array({ minLength: n, maxLength: n }),
    })),
  },
);

const fields = fc.array(field, { minLength: 1, maxLength: 8 });

function structOf(samples: readonly Sample[], packed: boolean) {
  return struct('sample', Object.fromEntries(samples.map((sample, i) => [`f${i}`, sample.type])), { packed });
}

function declaration(samples: readonly Sample[], packed: boolean): string {
  return `struct ${packed ? '__attribute__((packed)) ' : ''}{ ${samples.map((sample, i) => `${sample.c(`f${i}`)};`).join(' ')} }`;
}

describe('struct', () => {
  test.skipIf(skip)('lays fields out as the C compiler does', () => {
    const samples = fc.sample(fc.tuple(fields, fc.boolean()), { numRuns: 40, seed: 1 });
    const asked = samples.map(([members, packed], n) => {
      const offsets = members.map((_, i) => `offsetof(struct s${n}, f${i})`);
      const type = declaration(members, packed)
        .replace(/^struct /, `struct `)
        .replace('{', `s${n} {`);
      const expressions = [`sizeof(struct s${n})`, ...offsets];
      return { type, print: expressions.map((e) => `printf("%zu ", ${e});`).join('') + 'puts("");' };
    });
    const source = `#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n${asked.map((a) => `${a.type};`).join('\n')}\nint main(void) {${asked.map((a) => a.print).join('\n')} return 0; }`;
    const theirs = runC(source)
      .trimEnd()
      .split('\n')
      .map((line) => line.trim().split(' ').map(Number));
    const ours = samples.map(([members, packed]) => {
      const s = structOf(members, packed);
      return [s.size, ...Object.values(s.offset)];
    });
    expect(ours).toEqual(theirs);
  });

  test('aligns a nested struct by its widest member', () => {
    const inner = struct('inner', { a: u8, b: u64 });
    const outer = struct('outer', { c: u8, inner, d: u8 });
    expect(outer.offset).toEqual({ c: 0, inner: 8, d: 24 });
    expect(outer.size).toBe(32);
  });

  test('reads back what it wrote, at any offset', () => {
    const valued = fc.tuple(fields, fc.boolean()).chain(([samples, packed]) =>
      fc.record({
        s: fc.constant(structOf(samples, packed)),
        value: fc.record(Object.fromEntries(samples.map((sample, i) => [`f${i}`, sample.values]))),
        at: fc.nat(9),
      }),
    );
    fc.assert(
      fc.property(valued, ({ s, value, at }) => {
        expect(s.decode(s.encode(value))).toEqual({ ...value });
        const view = new DataView(new ArrayBuffer(s.size + at));
        s.set(view, at, value);
        expect(s.get(view, at)).toEqual({ ...value });
        for (const name of Object.keys(value)) expect(s.field[name]!.get(view, at)).toEqual(value[name]);
      }),
    );
  });

  test('encode leaves padding and missing fields zero', () => {
    const s = struct('s', { a: u8, b: u32 });
    expect([...s.encode({ b: 0xffff_ffff })]).toEqual([0, 0, 0, 0, 255, 255, 255, 255]);
  });

  test('decode refuses an array that is too short', () => {
    expect(() => struct('s', { a: u32 }).decode(new Uint8Array(3))).toThrow(RangeError);
  });

  test('decode reads from a view into a larger buffer', () => {
    const whole = Uint8Array.of(9, 9, 1, 0, 0, 0, 9);
    expect(struct('s', { a: u32 }).decode(whole.subarray(2))).toEqual({ a: 1 });
  });
});

describe('field types', () => {
  test('addr64 is exact to 2^53 and keeps the magnitude above', () => {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, (1n << 53n) - 1n, true);
    expect(addr64.get(view, 0)).toBe(Number.MAX_SAFE_INTEGER);
    view.setBigUint64(0, (1n << 64n) - 1n, true);
    expect(addr64.get(view, 0)).toBe(2 ** 64);
  });

  test('array and bytes refuse a value of the wrong length', () => {
    const view = new DataView(new ArrayBuffer(8));
    expect(() => array(u16, 3).set(view, 0, [1, 2])).toThrow(RangeError);
    expect(() => bytes(3).set(view, 0, new Uint8Array(4))).toThrow(RangeError);
  });

  test('bytes returns a copy', () => {
    const source = Uint8Array.of(1, 2);
    const copy = bytes(2).get(new DataView(source.buffer), 0);
    source[0] = 7;
    expect([...copy]).toEqual([1, 2]);
  });
});

test.skipIf(skip)('io, iow, ior and iowr give the numbers of the C macros', () => {
  const source = `#include <stdint.h>\n#include <stdio.h>\n#include <sys/ioctl.h>
    struct s { uint64_t a[5]; };
    int main(void) { printf("%lu %lu %lu %lu", (unsigned long)_IO('d', 0x1e), (unsigned long)_IOW('u', 0x42, struct s), (unsigned long)_IOR('d', 0xff, uint32_t), (unsigned long)_IOWR('d', 0xbc, struct s)); return 0; }`;
  const s = struct('s', { a: array(u64, 5) });
  expect([io('d', 0x1e), iow('u', 0x42, s), ior('d', 0xff, u32), iowr('d', 0xbc, s)]).toEqual(
    runC(source).split(' ').map(Number),
  );
});
