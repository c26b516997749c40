import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  parseByteSize,
  parseClipboardSpec,
  parseGuestSpec,
  parseInputSpec,
  parseInputSpecs,
  type MonitorOptions,
  parseMonitorOptions,
  parseOutputSpec,
  parseWhenOff,
  windowsAmong,
  withBackground,
} from '../../../src/cli/specs.ts';
import { UsageError } from '../../../src/core/errors.ts';

const ALL = { cursor: 'guest', input: { except: [], touch: [] } };

describe('parseMonitorOptions', () => {
  test.each<[string, MonitorOptions, boolean, unknown]>([
    ['nothing, for a guest without input', {}, false, { cursor: 'guest', input: null }],
    ['nothing, for a guest with input', {}, true, ALL],
    ['a hidden cursor', { cursor: 'hide' }, false, { cursor: 'hide', input: null }],
    [
      'devices that are wanted and not',
      { inputDevices: ['event3', 'not:Power Button', '/dev/input/by-id/none'] },
      true,
      { ...ALL, input: { ...ALL.input, only: ['event3', '/dev/input/by-id/none'], except: ['Power Button'] } },
    ],
    [
      "touchscreens' monitors",
      { touch: ['HDMI-A-1=a=b'] },
      true,
      { ...ALL, input: { ...ALL.input, touch: [{ connector: 'HDMI-A-1', device: 'a=b' }] } },
    ],
    [
      'quit keys, for a guest without input',
      { quitKeys: 'Ctrl+q' },
      false,
      { ...ALL, input: { ...ALL.input, quitKeys: [[29, 97], [16]] } },
    ],
    ['seconds until idle', { idleOff: 90 }, false, { ...ALL, input: { ...ALL.input, idleOffMs: 90_000 } }],
  ])('takes %s', (_, options, guestHasInput, expected) => {
    expect(parseMonitorOptions(options, guestHasInput, true)).toEqual(expected);
  });

  test.each<[string, MonitorOptions, boolean, RegExp]>([
    ['an option without monitors', { idleOff: 5 }, false, /^--idle-off: works only with --output kms$/],
    ['a touchscreen without a device', { touch: ['HDMI-A-1'] }, true, /^--touch: cannot use 'HDMI-A-1'; write CONN/],
    ['a path that is no input device', { inputDevices: ['/dev/null'] }, true, /\/dev\/null is no input device/],
    ['an excluded path that is none', { inputDevices: ['not:/etc'] }, true, /\/etc is no input device/],
    ['an empty name', { inputDevices: ['not:'] }, true, /names no device/],
    ['an unknown key', { quitKeys: 'ctrl+any' }, true, /^--quit-keys: cannot use 'ctrl\+any'/],
    ['one key', { quitKeys: 'q' }, true, /write two or more keys/],
    ['a property of all objects as a key', { quitKeys: 'ctrl+constructor' }, true, /cannot use/],
  ])('refuses %s', (_, options, guestHasInput, message) => {
    const hasMonitors = !message.source.includes('works only');
    expect(() => parseMonitorOptions(options, guestHasInput, hasMonitors)).toThrow(UsageError);
    expect(() => parseMonitorOptions(options, guestHasInput, hasMonitors)).toThrow(message);
  });

  test('refuses devices for a guest that takes no input', () => {
    expect(() => parseMonitorOptions({ inputDevices: ['event3'] }, false, true)).toThrow(/add --input/);
  });
});

/** Texts similar to the accepted forms. */
const nearly = fc.oneof(
  fc.string(),
  fc.stringMatching(
    /^(headless|vmm|kms|wayland|export|vnc|vhost-user|vfio|qemu-dbus|fd)?[:=,]?(mode=|connector=|kind=|size=|group=|pid=|mdev=|qmp=|bus=)?[0-9xX@.+-]{0,12}[KMGT]?$/,
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
    ['export:/run/x.sock', { kind: 'export', path: '/run/x.sock' }],
    [
      'export:x,mode=0660,group=video,size=1920x1080@30,channel=/run/y.sock',
      {
        kind: 'export',
        path: 'x',
        mode: 0o660,
        group: 'video',
        size: { width: 1920, height: 1080, refreshMhz: 30_000 },
        channel: '/run/y.sock',
      },
    ],
    ['vnc', { kind: 'vnc' }],
    ['vnc:127.0.0.1:5900', { kind: 'vnc', address: { host: '127.0.0.1', port: 5900 } }],
    [
      'vnc:[::]:5901,size=1920x1080@30,password-file=/run/secret',
      {
        kind: 'vnc',
        address: { host: '::', port: 5901 },
        size: { width: 1920, height: 1080, refreshMhz: 30_000 },
        passwordFile: '/run/secret',
      },
    ],
    ['vnc:/run/vnc.sock', { kind: 'vnc', address: { path: '/run/vnc.sock' } }],
    ['vnc,size=640x480', { kind: 'vnc', size: { width: 640, height: 480 } }],
    ['wayland', { kind: 'wayland' }],
    ['wayland:wayland-1', { kind: 'wayland', display: 'wayland-1' }],
    [
      'wayland:/run/user/0/wayland-0,fullscreen,scale=1.5,tearing,inhibit-idle',
      {
        kind: 'wayland',
        display: '/run/user/0/wayland-0',
        fullscreen: true,
        scale: 1.5,
        tearing: true,
        inhibitIdle: true,
      },
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
    'export',
    'export:',
    'export:,mode=660',
    'export:x,mode=9',
    'export:x,mode=660,mode=600',
    'export:x,size=big',
    'export:x,group=',
    'export:x,frames',
    'vnc:',
    'vnc:5900',
    'vnc:host.example:5900',
    'vnc,size=big',
    'vnc,password-file=',
    'vnc,size=1x1,size=2x2',
    'vncs',
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

  test('refuses an address for VNC that other machines reach, unless there is a password', () => {
    expect(() => parseOutputSpec('vnc:0.0.0.0:5900')).toThrow(
      /other machines can reach 0\.0\.0\.0:5900: add password-file/,
    );
    expect(parseOutputSpec('vnc:0.0.0.0:5900,password-file=x')).toMatchObject({ passwordFile: 'x' });
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
    ['vfio:pid=1234', { vfio: { pid: 1234 } }],
    ['vfio:pid=1234,device=2', { vfio: { pid: 1234, device: 2 } }],
    ['vfio:pid=/run/vm.pid', { vfio: { pid: '/run/vm.pid' } }],
    ['vfio:pid=vm-1', { vfio: { pid: 'vm-1' } }],
    ['vfio:fd=5', { vfio: { fd: 5 } }],
    ['vfio:socket=/run/gpu,1.sock', { vfio: { socket: '/run/gpu,1.sock' } }],
    ['qemu-dbus:qmp=/run/vm.qmp', { dbus: { qmp: '/run/vm.qmp' } }],
    ['qemu-dbus:qmp=/run/a,b,text', { dbus: { qmp: '/run/a,b', text: true } }],
    ['qemu-dbus:bus', { dbus: { bus: 'session' } }],
    ['qemu-dbus:bus=system,name=my vm,text', { dbus: { bus: 'system', name: 'my vm', text: true } }],
    ['qemu-dbus:bus=unix:path=/run/bus,guid=1,name=a', { dbus: { bus: 'unix:path=/run/bus,guid=1', name: 'a' } }],
    ['vfio:mdev=83B8F4F2-509F-382F-3C1E-E6BFE0FA1001', { vfio: { mdev: '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001' } }],
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
    'vfio',
    'vfio:',
    'vfio:1234',
    'vfio:pid=',
    'vfio:pid=0',
    'vfio:pid=12345678901',
    'vfio:pid=1,device=',
    'vfio:pid=1,device=x',
    'vfio:pid=a\0b',
    'vfio:fd=1',
    'vfio:socket=',
    'vfio:socket=a\0b',
    'vfio:mdev=../../etc/passwd',
    'vfio:mdev=83b8f4f2-509f-382f-3c1e-e6bfe0fa100',
    'qemu-dbus',
    'qemu-dbus:',
    'qemu-dbus:qmp=',
    'qemu-dbus:qmp=a\0b',
    'qemu-dbus:bus=',
    'qemu-dbus:bus=nonsense',
    'qemu-dbus:bus,name=',
    'qemu-dbus:text',
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

describe('parseClipboardSpec', () => {
  test('parses a socket and an inherited descriptor', () => {
    expect(parseClipboardSpec('vdagent:/tmp/c.sock')).toEqual({ socket: '/tmp/c.sock' });
    expect(parseClipboardSpec('vdagent:fd=5')).toEqual({ fd: 5 });
  });

  test.each(['', 'vdagent', 'vdagent:', 'vdagent:fd=x', 'spice:/tmp/c', '/tmp/c.sock'])(
    "refuses '%s' and says what to write",
    (text) => {
      expect(() => parseClipboardSpec(text)).toThrow(/^--clipboard: .*write vdagent:SOCKET/s);
    },
  );
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
