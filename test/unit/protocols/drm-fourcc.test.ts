import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type FormatName,
  type Fourcc,
  DRM_FORMAT,
  DRM_FORMAT_BIG_ENDIAN,
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  NAMED_MODIFIERS,
  describeModifier,
  formatInfo,
  formatName,
  fourcc,
  fourccCharacters,
  minPitch,
  minPlaneSize,
  modifierCode,
  modifierVendor,
  opaqueOf,
  parseFormat,
  parseModifier,
  planeHeight,
  planeSize,
  planeWidth,
} from '../../../protocols/drm-fourcc.ts';
import { runC, skipWithoutC } from '../../rig/c-headers.ts';

const allFormats = Object.entries(DRM_FORMAT) as [FormatName, Fourcc][];
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

const libdrm = ['-I/usr/include/libdrm'];
const skipLibdrm = skipWithoutC(['xf86drm.h'], libdrm);

/** What libdrm prints for each argument of a function `char *fn(number)`. */
function askLibdrm(fn: string, values: readonly (number | bigint)[]): string[] {
  const numbers = values.map((value) => `${value.toString()}ull`).join(', ');
  const source = `
    #include <stdio.h>
    #include <stdint.h>
    #include <xf86drm.h>
    int main(void) {
      static const uint64_t values[] = { ${numbers} };
      for (unsigned i = 0; i < ${values.length}; i++) {
        char *text = ${fn}(values[i]);
        puts(text ? text : "-");
      }
      return 0;
    }`;
  return runC(source, libdrm, ['-ldrm']).split('\n').slice(0, values.length);
}

describe('DRM format names', () => {
  test('name, macro and four characters parse to the format, and the format gives its name', () => {
    for (const [name, format] of allFormats) {
      expect(formatName(format)).toBe(name);
      expect(parseFormat(name)).toBe(format);
      expect(parseFormat(`DRM_FORMAT_${name}`)).toBe(format);
      expect(parseFormat(fourccCharacters(format))).toBe(format);
    }
  });

  test('no two formats share a code', () => {
    expect(new Set(Object.values(DRM_FORMAT)).size).toBe(allFormats.length);
  });

  test('the big-endian bit is written and parsed', () => {
    const format = fourcc('X', 'R', '2', '4') | DRM_FORMAT_BIG_ENDIAN;
    expect(formatName(format)).toBe('XRGB8888|BIG_ENDIAN');
    expect(parseFormat('XRGB8888|BIG_ENDIAN')).toBe(format >>> 0);
  });

  test('an unknown code gives its characters and number, and does not parse', () => {
    expect(formatName(fourcc('A', 'B', '9', '9'))).toBe("'AB99' (0x39394241)");
    expect(formatName(0x01020304)).toBe("'????' (0x01020304)");
    expect(parseFormat('AB99')).toBeNull();
    expect(parseFormat('')).toBeNull();
    expect(parseFormat('__proto__')).toBeNull();
  });

  test('every number has a name, which parses to that number or not at all', () => {
    fc.assert(fc.property(u32, (format) => [null, format].includes(parseFormat(formatName(format)))));
  });

  test('any text parses to a format or to null', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const format = parseFormat(text);
        expect(format === null || formatInfo(format) === null || formatName(format).length > 0).toBe(true);
      }),
    );
  });

  test.skipIf(skipLibdrm)('libdrm prints the same four characters', () => {
    const formats = allFormats.map(([, format]) => format);
    expect(askLibdrm('drmGetFormatName', formats)).toEqual(formats.map(fourccCharacters));
  });
});

describe('DRM format geometry', () => {
  /** Minimal pitch and rows of each plane of a 1922x1081 picture, worked out by hand from the header's layouts. */
  const figures: [FormatName, ...[pitch: number, rows: number][]][] = [
    ['C1', [241, 1081]],
    ['C4', [961, 1081]],
    ['RGB332', [1922, 1081]],
    ['RGB565', [3844, 1081]],
    ['RGB888', [5766, 1081]],
    ['XRGB8888', [7688, 1081]],
    ['ARGB2101010', [7688, 1081]],
    ['RGB161616', [11532, 1081]],
    ['ABGR16161616F', [15376, 1081]],
    ['XRGB8888_A8', [7688, 1081], [1922, 1081]],
    ['YUYV', [3844, 1081]],
    ['Y210', [7688, 1081]],
    ['X0L2', [3844, 1081]],
    ['NV12', [1922, 1081], [1922, 541]],
    ['NV16', [1922, 1081], [1922, 1081]],
    ['NV24', [1922, 1081], [3844, 1081]],
    ['NV15', [2403, 1081], [2403, 541]],
    ['P010', [3844, 1081], [3844, 541]],
    ['P030', [2563, 1081], [2563, 541]],
    ['YUV410', [1922, 1081], [481, 271], [481, 271]],
    ['YUV420', [1922, 1081], [961, 541], [961, 541]],
    ['YVU422', [1922, 1081], [961, 1081], [961, 1081]],
    ['YUV444', [1922, 1081], [1922, 1081], [1922, 1081]],
    ['S010', [3844, 1081], [1922, 541], [1922, 541]],
  ];

  test.each(figures)('%s has the pitches and rows of the header', (name, ...planes) => {
    const info = formatInfo(DRM_FORMAT[name])!;
    expect(info.planes.map((_, i) => [minPitch(info, i, 1922), planeHeight(info, i, 1081)])).toEqual(planes);
  });

  test('a whole NV12 picture of 1920x1080 is 3110400 bytes', () => {
    const info = formatInfo(DRM_FORMAT.NV12)!;
    const sizes = info.planes.map((_, i) => planeSize(info, i, minPitch(info, i, 1920), 1080));
    expect(sizes).toEqual([2073600, 1036800]);
    expect(planeWidth(info, 1, 1920)).toBe(960);
  });

  test('minPlaneSize does not pad the last row', () => {
    const info = formatInfo(DRM_FORMAT.XRGB8888)!;
    expect(planeSize(info, 0, 8192, 10)).toBe(81920);
    expect(minPlaneSize(info, 0, 8192, 1922, 10)).toBe(9 * 8192 + 7688);
    expect(minPlaneSize(info, 0, 8192, 0, 10)).toBe(0);
    expect(minPlaneSize(info, 0, 8192, 10, 0)).toBe(0);
  });

  test('every format with a linear layout is known', () => {
    const unknown = allFormats.filter(([, format]) => formatInfo(format) === null).map(([name]) => name);
    expect(unknown).toEqual(['VUY101010', 'YUV420_8BIT', 'YUV420_10BIT']);
    expect(formatInfo(0)).toBeNull();
  });

  test('a plane that the format does not have is a RangeError', () => {
    expect(() => minPitch(formatInfo(DRM_FORMAT.NV12)!, 2, 64)).toThrow(RangeError);
  });

  test('sizes are exact up to 2^53 and too large above, for any arguments of a guest', () => {
    const ceil = (a: bigint, b: bigint) => (a + b - 1n) / b;
    fc.assert(
      fc.property(fc.constantFrom(...allFormats), u32, u32, u32, ([, format], width, height, pitch) => {
        const info = formatInfo(format);
        for (const [i, p] of info?.planes.entries() ?? []) {
          const rows = ceil(BigInt(height), BigInt(p.vsub));
          const row = ceil(
            ceil(BigInt(width), BigInt(p.hsub)) * BigInt(p.bytesPerBlock),
            BigInt(p.blockWidth * p.blockHeight),
          );
          const least = width > 0 && height > 0 ? BigInt(pitch) * (rows - 1n) + row : 0n;
          const expectSame = (ours: number, exact: bigint) =>
            expect(
              exact <= BigInt(Number.MAX_SAFE_INTEGER) ? BigInt(ours) === exact : ours > Number.MAX_SAFE_INTEGER,
            ).toBe(true);
          expectSame(minPitch(info!, i, width), row);
          expectSame(planeSize(info!, i, pitch, height), BigInt(pitch) * rows);
          expectSame(minPlaneSize(info!, i, pitch, width, height), least);
        }
      }),
    );
  });

  test('opaqueOf gives a format with the same planes and no alpha', () => {
    expect(opaqueOf(DRM_FORMAT.ARGB8888)).toBe(DRM_FORMAT.XRGB8888);
    expect(opaqueOf(DRM_FORMAT.NV12)).toBe(DRM_FORMAT.NV12);
    expect(opaqueOf(fourcc('A', 'B', '9', '9'))).toBeNull();
    const twinless = allFormats
      .filter(([, format]) => formatInfo(format) !== null && opaqueOf(format) === null)
      .map(([name]) => name);
    expect(twinless.filter((name) => !name.endsWith('_A8'))).toEqual(['AXBXGXRX106106106106']);
    for (const [, format] of allFormats) {
      const twin = opaqueOf(format);
      if (twin === null) continue;
      expect(formatInfo(twin)).toEqual({ ...formatInfo(format), hasAlpha: false });
    }
  });
});

describe('DRM modifiers', () => {
  test("LINEAR and INVALID have the kernel's values", () => {
    expect(DRM_FORMAT_MOD_LINEAR).toBe(0n);
    expect(DRM_FORMAT_MOD_INVALID).toBe(0x00ff_ffff_ffff_ffffn);
  });

  const cases: [bigint, string][] = [
    [0n, 'LINEAR'],
    [0x00ff_ffff_ffff_ffffn, 'INVALID'],
    [0x0100_0000_0000_000an, 'INTEL 4_TILED_DG2_RC_CCS'],
    [0x0100_0000_0000_0063n, 'INTEL 0x63'],
    [0x0400_0000_0000_0002n, 'SAMSUNG 16_16_TILE'],
    [0x0300_0000_0060_6014n, 'NVIDIA 0x606014'],
    [0x0800_0000_0000_0151n, 'ARM AFBC 16x16 YTR SPARSE TILED'],
    [0x0800_0000_0000_1004n, 'ARM AFBC 32x8_64x4 USM'],
    [0x0800_0000_0000_0000n, 'ARM AFBC BLOCK_SIZE=0'],
    [0x0820_0000_0000_0111n, 'ARM AFRC P0=CU_16 P12=CU_16 SCAN'],
    [0x0810_0000_0000_0001n, 'ARM 16X16_BLOCK_U_INTERLEAVED'],
    [0x0200_0000_0000_0901n, 'AMD GFX9 64K_S'],
    [0x0200_0000_0440_1901n, 'AMD GFX9 64K_S_X PIPE_XOR_BITS=2 BANK_XOR_BITS=4'],
    [
      0x0200_0000_1877_7b03n,
      'AMD GFX10_RBPLUS 64K_R_X DCC DCC_RETILE DCC_INDEPENDENT_64B DCC_INDEPENDENT_128B DCC_MAX_COMPRESSED_BLOCK=128B DCC_CONSTANT_ENCODE PIPE_XOR_BITS=3 PACKERS=3',
    ],
    [0x0200_0000_1860_3b03n, 'AMD GFX10_RBPLUS 64K_R_X DCC DCC_MAX_COMPRESSED_BLOCK=64B PIPE_XOR_BITS=3 PACKERS=3'],
    [0x0200_0000_0000_0305n, 'AMD GFX12 64K_2D'],
    [0x2a00_0000_0000_0001n, 'VENDOR_0x2a 0x1'],
  ];

  test.each(cases)('%s is described as %s', (modifier, text) => {
    expect(describeModifier(modifier)).toBe(text);
  });

  test('macros and descriptions of named modifiers parse to the modifier', () => {
    for (const [macro, modifier] of NAMED_MODIFIERS) {
      expect(parseModifier(macro)).toBe(modifier);
      expect(parseModifier(describeModifier(modifier))).toBe(modifier);
    }
    expect(parseModifier('0x100000000000001')).toBe(modifierCode('INTEL', 1n));
    expect(parseModifier('LINEAR')).toBe(0n);
    expect(parseModifier('0x10000000000000000')).toBeNull();
    expect(parseModifier('X_TILED')).toBeNull();
    expect(parseModifier('')).toBeNull();
  });

  test('different modifiers have different descriptions', () => {
    const shift = fc.bigInt({ min: 0n, max: 63n });
    const vendor = fc.constantFrom(0n, 1n, 2n, 3n, 8n, 0x82n);
    fc.assert(
      fc.property(vendor, u64, shift, (id, bits, at) => {
        const modifier = (id << 56n) | (bits >> 8n);
        expect(describeModifier(modifier)).not.toBe(describeModifier(modifier ^ (1n << at)));
      }),
    );
  });

  test('any number has a description, and any text parses to a modifier or to null', () => {
    fc.assert(fc.property(fc.bigInt(), (modifier) => describeModifier(modifier).length > 0));
    fc.assert(fc.property(fc.string(), (text) => ['bigint', 'object'].includes(typeof parseModifier(text))));
  });

  test.skipIf(skipLibdrm)('libdrm has the same names for the modifiers it knows', () => {
    const modifiers = [...NAMED_MODIFIERS.values(), ...cases.map(([modifier]) => modifier)];
    const vendors = askLibdrm('drmGetFormatModifierVendor', modifiers);
    const names = askLibdrm('drmGetFormatModifierName', modifiers);
    /** libdrm: `BLOCK_SIZE=16x16,MODE=YTR|SPARSE`, `GFX9,GFX9_64K_S`; ours: words. It also names NVIDIA's fields. */
    const words = (name: string) =>
      name
        .replace('BLOCK_SIZE=', '')
        .replace('MODE=', '')
        .replace(/,GFX9_/, ',')
        .split(/[,|]/)
        .join(' ');
    const theirs = modifiers.flatMap((modifier, i) => {
      const name = names[i]!;
      if (name === '-' || name.startsWith('BLOCK_LINEAR_2D')) return [];
      return [[modifier, vendors[i] === 'NONE' ? words(name) : `${vendors[i]!} ${words(name)}`]];
    });
    expect(theirs.length).toBeGreaterThan(25);
    expect(theirs).toEqual(
      theirs.map(([modifier]) => [modifier, describeModifier(modifier as bigint).replace(/AFBC |AFRC /, '')]),
    );
  });

  test('modifierVendor gives the name, or the number of an unknown vendor', () => {
    expect(modifierVendor(0n)).toBe('NONE');
    expect(modifierVendor(0x0c00_0000_0000_0001n)).toBe('APPLE');
    expect(modifierVendor(0xff00_0000_0000_0001n)).toBe('VENDOR_0xff');
  });
});
