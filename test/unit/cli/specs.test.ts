import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  parseByteSize,
  parseGuestSpec,
  parseInputSpec,
  parseInputSpecs,
  parseOutputSpec,
  parseWhenOff,
  windowsAmong,
  withBackground,
} from '../../../src/cli/specs.ts';
import { UsageError } from '../../../src/core/errors.ts';

/** Texts similar to the accepted forms. */
const nearly = fc.oneof(
  fc.string(),
  fc.stringMatching(
    /^(headless|vmm|kms|wayland|vhost-user|fd)?[:=,]?(mode=|connector=|kind=)?[0-9xX@.+-]{0,12}[KMGT]?$/,
  ),
);

function valueOrUsage<T>(parse: () => T): T | null {
  try {
    return parse();
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return null;
  }
}

describe('parseOutputSpec', () => {
  test.each([
    ['headless:1280x800', { kind: 'headless', width: 1280, height: 800, refreshMhz: 60_000 }],
    ['headless:1x1@144', { kind: 'headless', width: 1, height: 1, refreshMhz: 144_000 }],
    ['headless:1920x1080@59.94', { kind: 'headless', width: 1920, height: 1080, refreshMhz: 59_940 }],
    ['vmm', { kind: 'vmm', dmabuf: false }],
    ['vmm:dmabuf', { kind: 'vmm', dmabuf: true }],
    ['kms', { kind: 'kms' }],
    ['kms:card1', { kind: 'kms', card: 'card1' }],
    ['kms:/dev/dri/card0,connector=HDMI-A-1', { kind: 'kms', card: '/dev/dri/card0', connector: 'HDMI-A-1' }],
    ['kms,mode=1920x1080', { kind: 'kms', mode: { width: 1920, height: 1080 } }],
    ['wayland', { kind: 'wayland' }],
    ['wayland:wayland-1', { kind: 'wayland', display: 'wayland-1' }],
    [
      'wayland:/run/user/0/wayland-0,fullscreen,scale=1.5,tearing',
      { kind: 'wayland', display: '/run/user/0/wayland-0', fullscreen: true, scale: 1.5, tearing: true },
    ],
    ['wayland,title=a guest, of mine', { kind: 'wayland', title: 'a guest, of mine' }],
    [
      'kms,mode=1920x1080@59.94,connector=DP-2',
      { kind: 'kms', connector: 'DP-2', mode: { width: 1920, height: 1080, refreshMhz: 59_940 } },
    ],
  ])('parses %s', (text, spec) => {
    expect(parseOutputSpec(text)).toEqual(spec);
  });

  test.each([
    '',
    'headless',
    'headless:',
    'headless:1280',
    'headless:1280x',
    'headless:1280x800@',
    'headless:1280x800@sixty',
    'headless:-1x800',
    'headless:1280x800x2',
    ' vmm',
    'vmm:',
    'wayland:',
    'wayland,',
    'wayland,scale=0',
    'wayland,scale=17',
    'wayland,fullscreen,fullscreen',
    'wayland,title=',
    'wayland,title=a,fullscreen\0',
    'wayland1',
    'headless:123456x1',
    'kms:',
    'kms,',
    'kms,mode=large',
    'kms,mode=1x1,mode=2x2',
    'kms,connector=',
    'kms,colour=red',
    'kms:card0,card1',
  ])("refuses '%s' and lists the valid forms", (text) => {
    expect(() => parseOutputSpec(text)).toThrow(/headless:WIDTHxHEIGHT.*wayland.*kms.*vmm:dmabuf/);
  });

  test('parses any mode, and throws only UsageError for any text', () => {
    const side = fc.integer({ min: 0, max: 99_999 });
    fc.assert(
      fc.property(side, side, fc.integer({ min: 0, max: 9_999_999 }), (width, height, refreshMhz) => {
        expect(parseOutputSpec(`headless:${width}x${height}@${(refreshMhz / 1000).toFixed(3)}`)).toEqual({
          kind: 'headless',
          width,
          height,
          refreshMhz,
        });
      }),
    );
    fc.assert(fc.property(nearly, (text) => void valueOrUsage(() => parseOutputSpec(text))));
  });
});

describe('windowsAmong', () => {
  const wayland = { kind: 'wayland', scale: 2 } as const;
  const headless = { kind: 'headless' } as const;

  test('adds the choices to the Wayland output; null without one', () => {
    expect(windowsAmong([headless, wayland], { title: 'x', scale: 3 })).toEqual({
      kind: 'wayland',
      title: 'x',
      scale: 3,
    });
    expect(windowsAmong([headless], {})).toBeNull();
  });

  test('refuses two Wayland outputs, and choices without one', () => {
    expect(() => windowsAmong([wayland, wayland], {})).toThrow(UsageError);
    expect(() => windowsAmong([headless], { fullscreen: true })).toThrow(/--fullscreen/);
  });
});

describe('--when-off', () => {
  test.each([
    ['last', 'last'],
    ['black', 0],
    ['#000000', 0],
    ['#20304f', 0x20304f],
    ['#FFFFFF', 0xffffff],
  ] as const)('parseWhenOff parses %s', (text, whenOff) => {
    expect(parseWhenOff(text)).toBe(whenOff);
  });

  test.each(['', 'first', 'white', '#fff', '#1234567', '203040', '#20304g'])(
    "refuses '%s' and lists the valid forms",
    (text) => {
      expect(() => parseWhenOff(text)).toThrow(/last.*black.*#RRGGBB/);
    },
  );

  test('withBackground adds a colour to kms outputs only', () => {
    const kms = { kind: 'kms', card: 'card0' } as const;
    const vmm = { kind: 'vmm', dmabuf: false } as const;
    expect(withBackground([vmm, kms], 0x20304f)).toEqual([vmm, { ...kms, background: 0x20304f }]);
    expect(() => withBackground([vmm], 0x20304f)).toThrow(UsageError);
    expect([withBackground([vmm], 0), withBackground([vmm], 'last')]).toEqual([[vmm], [vmm]]);
  });
});

describe('parseGuestSpec', () => {
  test.each([
    ['vhost-user:/run/gpu.sock', { socket: '/run/gpu.sock' }],
    ['vhost-user:relative:with:colons', { socket: 'relative:with:colons' }],
    ['vhost-user:fd=3', { fd: 3 }],
  ])('parses %s', (text, spec) => {
    expect(parseGuestSpec(text)).toEqual(spec);
  });

  test.each([
    '',
    'vhost-user',
    'vhost-user:',
    'vhost-user:fd=',
    'vhost-user:fd=2',
    'vhost-user:fd=-1',
    'vhost-user:fd=3x',
    'vhost-user:a\0b',
    '/run/gpu.sock',
  ])("refuses '%s' and lists the valid forms", (text) => {
    expect(() => parseGuestSpec(text)).toThrow(/vhost-user:SOCKET.*vhost-user:fd=N/);
  });

  test('throws only UsageError for any text', () => {
    fc.assert(fc.property(nearly, (text) => void valueOrUsage(() => parseGuestSpec(text))));
  });
});

describe('parseInputSpec', () => {
  test.each([
    ['vhost-user:/run/input.sock', { kind: 'keyboard-pointer', from: { socket: '/run/input.sock' } }],
    ['vhost-user:/run/input.sock,kind=touch', { kind: 'touch', from: { socket: '/run/input.sock' } }],
    ['vhost-user:with,comma', { kind: 'keyboard-pointer', from: { socket: 'with,comma' } }],
    ['vhost-user:with,comma,kind=keyboard-pointer', { kind: 'keyboard-pointer', from: { socket: 'with,comma' } }],
    ['vhost-user:fd=4,kind=touch', { kind: 'touch', from: { fd: 4 } }],
  ])('parses %s', (text, spec) => {
    expect(parseInputSpec(text)).toEqual(spec);
  });

  test.each([
    '',
    'vhost-user',
    'vhost-user:',
    'vhost-user:,kind=touch',
    'vhost-user:/run/a,kind=',
    'vhost-user:/run/a,kind=mouse',
    'vhost-user:fd=2',
    'vhost-user:a\0b',
    '/run/input.sock',
  ])("refuses '%s' and lists the valid forms", (text) => {
    expect(() => parseInputSpec(text)).toThrow(/^--input: .*vhost-user:SOCKET.*kind=touch/s);
  });

  test('parseInputSpecs refuses a kind of device that is given twice', () => {
    expect(parseInputSpecs(['vhost-user:a', 'vhost-user:b,kind=touch'])).toHaveLength(2);
    expect(() => parseInputSpecs(['vhost-user:a', 'vhost-user:b'])).toThrow(UsageError);
  });

  test('throws only UsageError for any text', () => {
    fc.assert(fc.property(nearly, (text) => void valueOrUsage(() => parseInputSpec(text))));
  });
});

describe('parseByteSize', () => {
  test.each([
    ['512M', 512 * 2 ** 20],
    ['2G', 2 * 2 ** 30],
    ['1k', 1024],
    ['3GiB', 3 * 2 ** 30],
    ['1T', 2 ** 40],
  ])('parses %s', (text, bytes) => {
    expect(parseByteSize(text, '--memory')).toBe(bytes);
  });

  test.each(['', '0M', '512', '-1G', '1.5G', '1E', 'M', '99999999G'])("refuses '%s' and names the option", (text) => {
    expect(() => parseByteSize(text, '--memory')).toThrow(/^--memory: .*512M or 2G/);
  });

  test('returns a positive number of whole kibibytes, or throws UsageError', () => {
    fc.assert(
      fc.property(nearly, (text) => {
        const bytes = valueOrUsage(() => parseByteSize(text, '--memory'));
        expect(bytes === null || (bytes > 0 && bytes % 1024 === 0)).toBe(true);
      }),
    );
  });
});
