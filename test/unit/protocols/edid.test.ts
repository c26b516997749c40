import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { makeEdid, type EdidMonitor } from '../../../protocols/edid.ts';
import { skipBecause } from '../../rig/skip.ts';

const isMissing = spawnSync('edid-decode', ['--version']).error !== undefined;
const isSkipped = isMissing && skipBecause('edid-decode is not installed');

function monitor(width: number, height: number, refreshMhz: number, more: Partial<EdidMonitor> = {}): EdidMonitor {
  return {
    width,
    height,
    refreshMhz,
    widthMm: Math.round((width * 25.4) / 96),
    heightMm: Math.round((height * 25.4) / 96),
    name: 'scanout',
    ...more,
  };
}

/** The verdict of edid-decode, and the timings it found, as `1920x1080 60.0`. */
function decode(edid: Uint8Array): { status: number | null; text: string; timings: string[] } {
  const { status, stdout } = spawnSync('edid-decode', ['--check', '--skip-hex-dump'], { input: edid });
  const text = stdout.toString();
  const timings = [...text.matchAll(/DTD(?: \d+)?: +(\d+x\d+) +([\d.]+) Hz/g)].map(
    ([, size, hz]) => `${size} ${Number(hz).toFixed(1)}`,
  );
  return { status, text, timings };
}

describe.skipIf(isSkipped)('makeEdid: edid-decode accepts', () => {
  it.each<[number, number, number, string[]]>([
    [640, 480, 60_000, ['640x480 60.0']],
    [1024, 768, 75_000, ['1024x768 75.0']],
    [1280, 800, 60_000, ['1280x800 60.0']],
    [1366, 768, 60_000, ['1366x768 60.0']],
    [1920, 1080, 60_000, ['1920x1080 60.0']],
    [1920, 1080, 59_940, ['1920x1080 59.9']],
    [2560, 1440, 144_000, ['2560x1440 144.0']],
    [3840, 2160, 60_000, ['3840x2160 60.0']],
    [1, 1, 60_000, ['1x1 60.0']],
    [33, 17, 60_000, ['33x17 60.0']],
    [4095, 1, 60_000, ['4095x1 60.0']],
    [1920, 1080, 1_000, ['1920x1080 1.0']],
    // Beyond the descriptors of the base block: a mode that fits, and the native one.
    [4096, 2160, 60_000, ['2048x1080 60.0', '4096x2160 60.0']],
    [3840, 2160, 144_000, ['3840x2160 60.0', '3840x2160 144.0']],
    [7680, 4320, 60_000, ['3840x2160 60.0', '7680x4320 60.0']],
    [16384, 16384, 60_000, ['2048x2048 60.0', '16384x16384 60.0']],
    [1280, 800, 1_000_000, ['1280x800 60.0', '1280x800 1000.0']],
  ])('a monitor of %ix%i at %i mHz', (width, height, refreshMhz, timings) => {
    const edid = makeEdid(monitor(width, height, refreshMhz));
    const decoded = decode(edid);
    expect(decoded.text).toContain('EDID conformity: PASS');
    expect(decoded).toMatchObject({ status: 0, timings });
    expect(edid).toHaveLength(timings.length * 128);
  });

  it('monitors of any size, refresh, extent and name', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 16384 }),
        fc.integer({ min: 1, max: 16384 }),
        fc.integer({ min: 1_000, max: 1_000_000 }),
        fc.record({
          widthMm: fc.nat(5000),
          heightMm: fc.nat(5000),
          name: fc.string({ maxLength: 20, unit: 'grapheme' }),
        }),
        (width, height, refreshMhz, more) => {
          const { status, text } = decode(makeEdid(monitor(width, height, refreshMhz, more)));
          expect(text).toContain('EDID conformity: PASS');
          expect(status).toBe(0);
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe.skipIf(isSkipped)('makeEdid: the smaller modes', () => {
  const offered = (width: number, height: number) =>
    [...decode(makeEdid(monitor(width, height, 60_000))).text.matchAll(/DMT 0x[0-9a-f]+: +(\d+x\d+)/g)].map(
      ([, size]) => size!,
    );

  it('are the common ones that fit', () => {
    expect(offered(1280, 800)).toEqual(['640x480', '800x600', '1024x768', '1280x720']);
  });

  it('are the full list on a large screen', () => {
    expect(offered(3840, 2160)).toEqual([
      '640x480',
      '800x600',
      '1024x768',
      '1280x720',
      '1280x800',
      '1280x1024',
      '1440x900',
      '1600x900',
      '1680x1050',
      '1920x1080',
      '1920x1200',
    ]);
  });

  it('are only the 640x480 fallback on a tiny screen', () => {
    expect(offered(320, 200)).toEqual(['640x480']);
  });
});

describe('makeEdid', () => {
  it('makes the bytes of every block sum up to 0', () => {
    const edid = makeEdid(monitor(7680, 4320, 60_000));
    for (const start of [0, 128])
      expect(edid.subarray(start, start + 128).reduce((sum, byte) => sum + byte, 0) % 256).toBe(0);
  });

  it('writes at most 13 printable characters of the name', () => {
    const named = (name: string) =>
      Buffer.from(makeEdid(monitor(640, 480, 60_000, { name })).subarray(77, 90)).toString('latin1');
    expect(named('kms:HDMI-A-1')).toBe('kms:HDMI-A-1\n');
    expect(named('a much too long name')).toBe('a much too lo');
    expect(named('µ')).toBe('?\n           ');
  });

  it('writes the physical size, or 0 if it is unknown', () => {
    const size = (widthMm: number, heightMm: number) => [
      ...makeEdid(monitor(640, 480, 60_000, { widthMm, heightMm })).subarray(21, 23),
    ];
    expect(size(597, 336)).toEqual([60, 34]);
    expect(size(0, 0)).toEqual([0, 0]);
    expect(size(3000, 100)).toEqual([0, 0]);
  });
});
