/** A VM whose D-Bus display is scripted; test/host has QEMU's own. */
import { closeSync, ftruncateSync, openSync, readlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { PIXMAN_FORMAT } from '../../../../protocols/pixman.ts';
import * as uapi from '../../../../protocols/qemu-display1.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import { virtualMonitor } from '../../../../src/core/monitor.ts';
import type { Flush } from '../../../../src/core/source.ts';
import { QemuDbusGuest, type QemuDbusGuestOptions } from '../../../../src/guest/qemu-dbus/guest.ts';
import type * as CopyRect from '../../../../src/sys/copy-rect.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { type FakeConsole, FakeVm } from './fake-vm.ts';
import { eventually } from '../../../rig/eventually.ts';

/** A machine without a GPU has no dma-bufs: memfds stand in for them. */
vi.mock('../../../../src/sys/dma-buf.ts', async (original) => ({
  ...(await original<object>()),
  isDmabuf: ({ fd }: { fd: number }) => readlinkSync(`/proc/self/fd/${fd}`).startsWith('/memfd:dmabuf'),
  readDmabuf: (_: unknown, read: () => unknown) => read(),
}));

/** Bytes of each copy. */
const copies: number[] = [];

vi.mock('../../../../src/sys/copy-rect.ts', async (original) => {
  const real = await original<typeof CopyRect>();
  const copyRect: typeof real.copyRect = (...args) => {
    copies.push(args[6] * args[7]);
    real.copyRect(...args);
  };
  return { ...real, copyRect };
});

expectNoLeaks();

const XRGB = PIXMAN_FORMAT.x8r8g8b8;
const WIDTH = 64;
const HEIGHT = 48;
const STRIDE = WIDTH * 4;

let vm: FakeVm;
let guest: QemuDbusGuest;
let bridge: Bridge;
let outputs: HeadlessOutput[];
const log: string[] = [];

/** A guest with one output for each scanout, whose VM has these consoles. */
async function start(
  consoles: readonly FakeConsole[] = [{}],
  options: Omit<QemuDbusGuestOptions, 'vm'> = {},
): Promise<void> {
  vm = new FakeVm(consoles);
  guest = QemuDbusGuest.open({ vm, log: (_, message) => log.push(message), ...options });
  bridge = new Bridge(guest, { input: guest.input, keepLast: true });
  outputs = Array.from({ length: guest.scanouts }, (_, index) =>
    HeadlessOutput.open({ width: WIDTH, height: HEIGHT, name: `screen ${index}` }),
  );
  outputs.forEach((output, index) => bridge.show(index, output));
  await eventually(() => expect(guest.isConnected).toBe(true));
  await vm.registered();
}

beforeEach(() => {
  log.length = 0;
  copies.length = 0;
});

afterEach(() => {
  bridge[Symbol.dispose]();
  guest[Symbol.dispose]();
  outputs.forEach((output) => output[Symbol.dispose]());
  vm[Symbol.dispose]();
});

/** A memfd as QEMU makes it: not sealed. */
function surface(draw: (x: number, y: number) => number, offset = 0): OwnedFd {
  const memfd = createMemfd('qemu-surface', offset + STRIDE * HEIGHT, 0);
  using mapping = Mapping.file(memfd, 0, offset + STRIDE * HEIGHT, 'read-write');
  for (let y = 0; y < HEIGHT; y++)
    for (let x = 0; x < WIDTH; x++) mapping.view.setUint32(offset + y * STRIDE + x * 4, draw(x, y), true);
  return memfd;
}

function rows(draw: (x: number, y: number) => number, width = WIDTH, height = HEIGHT): Uint8Array {
  const view = new DataView(new ArrayBuffer(width * height * 4));
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) view.setUint32((y * width + x) * 4, draw(x, y), true);
  return new Uint8Array(view.buffer);
}

function scanoutMap(memfd: OwnedFd, offset = 0, format: number = XRGB, id = 0): Promise<string | null> {
  return vm.call(id, uapi.LISTENER_MAP, 'ScanoutMap', 'huuuuu', [memfd, offset, WIDTH, HEIGHT, STRIDE, format]);
}

function updateMap(x = 0, y = 0, width = WIDTH, height = HEIGHT, id = 0): Promise<string | null> {
  return vm.call(id, uapi.LISTENER_MAP, 'UpdateMap', 'iiii', [x, y, width, height]);
}

/** 0xRRGGBB of a pixel of the picture that an output shows. */
function pixel(x: number, y: number, output = 0): number | null {
  const picture = outputs[output]!.capture();
  if (!picture) return null;
  const at = (y * picture.width + x) * 4;
  return (picture.data[at]! << 16) | (picture.data[at + 1]! << 8) | picture.data[at + 2]!;
}

async function shows(colour: number, x = 0, y = 0, output = 0): Promise<void> {
  await eventually(() => expect(pixel(x, y, output)).toBe(colour));
}

const gradient = (x: number, y: number): number => (x << 16) | (y << 8) | 0x55;

describe('QemuDbusGuest: pictures', () => {
  test('offers shared memory and dma-bufs of several planes to QEMU', async () => {
    await start();
    expect(vm.interfaces[0]).toEqual([uapi.LISTENER_MAP, uapi.LISTENER_DMABUF2]);
  });

  test('shows shared memory, every pixel, without bytes over the socket', async () => {
    await start();
    using memfd = surface(gradient, 8192);
    expect(await scanoutMap(memfd, 8192)).toBeNull();
    expect(await updateMap()).toBeNull();
    await shows(gradient(63, 47), 63, 47);
    for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) expect(pixel(x, y)).toBe(gradient(x, y));
    expect(guest.stats.consoles[0]).toMatchObject({ way: 'mapped', switches: 1, updates: 1, socketBytes: 0 });
  });

  test('reports what changed in shared memory: all changes that have arrived in one flush', async () => {
    await start();
    bridge[Symbol.dispose]();
    const flushes: string[][] = [];
    const nothing = (): void => undefined;
    guest.connect({
      ...{ scanout: nothing, cursor: nothing, cursorMoved: nothing, halted: nothing, destroyed: nothing },
      flush: (_, damage) =>
        flushes.push(
          Array.from(
            { length: damage.count },
            (__, i) => `${damage.width(i)}x${damage.height(i)}+${damage.x(i)}+${damage.y(i)}`,
          ),
        ),
    });
    using memfd = surface(() => 0);
    await scanoutMap(memfd);
    await Promise.all([updateMap(8, 4, 16, 2), updateMap(-5, -5, 6, 6), updateMap(60, 40, 2 ** 31 - 1, 100)]);
    expect(flushes.flat().toSorted()).toEqual(['16x2+8+4', '1x1+0+0', '4x8+60+40']);
  });

  test('shows each of the memories that a guest flips between', async () => {
    await start();
    using one = surface(() => 0x0000ff);
    using other = surface(() => 0x00ff00);
    for (let flip = 0; flip < 20; flip++) {
      await scanoutMap(flip % 2 === 0 ? one : other);
      await updateMap();
    }
    await shows(0x00ff00);
    expect(guest.stats.consoles[0]!.switches).toBe(20);
  });

  test('shows pixels that come over the socket, and changes of them', async () => {
    await start();
    const data = rows(gradient);
    expect(await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [WIDTH, HEIGHT, STRIDE, XRGB, data])).toBeNull();
    await shows(gradient(63, 47), 63, 47);
    const patch = rows(() => 0xabcdef, 3, 2);
    await vm.call(0, uapi.LISTENER, 'Update', 'iiiiuuay', [10, 20, 3, 2, 12, XRGB, patch]);
    await shows(0xabcdef, 12, 21);
    expect([pixel(13, 21), pixel(9, 20), pixel(10, 22)]).toEqual([gradient(13, 21), gradient(9, 20), gradient(10, 22)]);
    expect(guest.stats.consoles[0]).toMatchObject({ way: 'copied', socketBytes: data.length + patch.length });
  });

  describe('of many megabytes over the socket', () => {
    const SIDE = 2048;
    const whole = [SIDE, SIDE, SIDE * 4, XRGB];

    test('are copied a mebibyte at a time, before anything that follows', async () => {
      await start();
      const picture = rows(() => 0x112233, SIDE, SIDE);
      const answers = [
        vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [...whole, picture]),
        vm.call(0, uapi.LISTENER, 'Update', 'iiiiuuay', [0, 0, 1, 1, 4, XRGB, rows(() => 0x445566, 1, 1)]),
        vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [...whole, picture.fill(0x77)]),
        vm.call(0, uapi.LISTENER, 'Update', 'iiiiuuay', [9, 9, 1, 1, 4, XRGB, rows(() => 0x445566, 1, 1)]),
      ];
      expect(await Promise.all(answers)).toEqual([null, null, null, null]);
      await shows(0x445566, 9, 9);
      expect(pixel(SIDE - 1, SIDE - 1)).toBe(0x777777);
      expect(pixel(0, 0)).toBe(0x777777);
      expect(guest.stats.consoles[0]).toMatchObject({ switches: 1, updates: 4, socketBytes: 2 * SIDE * SIDE * 4 + 8 });
      expect(Math.max(...copies)).toBe(2 ** 20);
    });

    test('are forgotten when the guest goes before all has been copied', async () => {
      await start();
      void vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [...whole, rows(() => 1, SIDE, SIDE)]);
      await eventually(() => expect(copies.length).toBeGreaterThan(0));
      guest[Symbol.dispose]();
      expect(guest.budget.used).toBe(0);
    });
  });

  test.each([
    ['r5g6b5', 2, 0b11111_000000_00000, 0xff0000],
    ['x1r5g5b5', 2, 0b0_00000_11111_00000, 0x00ff00],
    ['x8b8g8r8', 4, 0x0000ff, 0xff0000],
    ['b8g8r8x8', 4, 0x0000ff00, 0xff0000],
    ['r8g8b8x8', 4, 0xff00_0000, 0xff0000],
    ['x2r10g10b10', 4, 0x3ff << 20, 0xff0000],
  ] as const)('converts %s, in shared memory and over the socket', async (name, bytes, value, colour) => {
    await start();
    const stride = WIDTH * bytes;
    const data = new Uint8Array(stride * HEIGHT);
    const view = new DataView(data.buffer);
    for (let at = 0; at < data.length; at += bytes) {
      if (bytes === 2) view.setUint16(at, value, true);
      else view.setUint32(at, value, true);
    }
    const format = PIXMAN_FORMAT[name];
    using memfd = createMemfd('qemu-surface', data.length, 0);
    using mapping = Mapping.file(memfd, 0, data.length, 'read-write');
    mapping.bytes.set(data);
    await vm.call(0, uapi.LISTENER_MAP, 'ScanoutMap', 'huuuuu', [memfd, 0, WIDTH, HEIGHT, stride, format]);
    await updateMap();
    await shows(colour, 63, 47);
    data.fill(0);
    await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [WIDTH, HEIGHT, stride, format, data]);
    await shows(0, 63, 47);
  });

  test('turns the screen dark while QEMU has disabled it', async () => {
    await start();
    bridge.hide(outputs[0]!);
    bridge.show(0, outputs[0]!, { keepLast: false });
    await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [WIDTH, HEIGHT, STRIDE, XRGB, rows(() => 0x123456)]);
    await shows(0x123456);
    await vm.call(0, uapi.LISTENER, 'Disable', '', []);
    await eventually(() => expect(outputs[0]!.capture()).toBeNull());
  });

  test('shows a picture to a bridge that joins later', async () => {
    await start();
    await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [WIDTH, HEIGHT, STRIDE, XRGB, rows(() => 0x123456)]);
    bridge[Symbol.dispose]();
    bridge = new Bridge(guest);
    bridge.show(0, outputs[0]!);
    await shows(0x123456);
  });

  test('shows a cursor where QEMU has it, and hides it', async () => {
    await start();
    using memfd = surface(() => 0x333333);
    await scanoutMap(memfd);
    await updateMap();
    const image = rows(() => 0xffff0000, 8, 8);
    await vm.call(0, uapi.LISTENER, 'CursorDefine', 'iiiiay', [8, 8, 100, -3, image]);
    await shows(0x333333, 20, 10);
    await vm.call(0, uapi.LISTENER, 'MouseSet', 'iii', [20, 10, 1]);
    await shows(0xff0000, 20, 10);
    await vm.call(0, uapi.LISTENER, 'MouseSet', 'iii', [40, 30, 1]);
    await shows(0xff0000, 47, 37);
    expect(pixel(20, 10)).toBe(0x333333);
    await vm.call(0, uapi.LISTENER, 'MouseSet', 'iii', [40, 30, 0]);
    await shows(0x333333, 47, 37);
  });

  test('shows graphic consoles in the order of their numbers, and text consoles on request', async () => {
    await start([{ type: 'Text', label: 'vc' }, { label: 'one' }, { label: 'two' }], { scanouts: 3, text: true });
    await eventually(() => expect(guest.stats.consoles.map(({ label }) => label)).toEqual(['one', 'two', 'vc']));
    await Promise.all([vm.registered(0), vm.registered(1), vm.registered(2)]);
    using memfd = surface(() => 0x010203);
    await scanoutMap(memfd, 0, XRGB, 2);
    await updateMap(0, 0, WIDTH, HEIGHT, 2);
    await shows(0x010203, 0, 0, 1);
  });
});

describe('QemuDbusGuest: dma-bufs', () => {
  const FOURCC = DRM_FORMAT.XRGB8888;

  function dmabuf(colour: number): OwnedFd {
    const memfd = createMemfd('dmabuf', STRIDE * HEIGHT, 0);
    using mapping = Mapping.file(memfd, 0, STRIDE * HEIGHT, 'read-write');
    new Uint32Array(mapping.bytes.buffer).fill(colour);
    return memfd;
  }

  function scanoutDmabuf(buffer: OwnedFd, modifier = 0n): Promise<string | null> {
    const values = [buffer, WIDTH, HEIGHT, STRIDE, FOURCC, modifier, false];
    return vm.call(0, uapi.LISTENER, 'ScanoutDMABUF', 'huuuutb', values);
  }

  function updateDmabuf(): Promise<string | null> {
    return vm.call(0, uapi.LISTENER, 'UpdateDMABUF', 'iiii', [0, 0, WIDTH, HEIGHT]);
  }

  /** Framebuffers and flushes, of which none is done. */
  function recordSink(): { framebuffers: Framebuffer[]; flushes: Flush[] } {
    bridge[Symbol.dispose]();
    const seen: { framebuffers: Framebuffer[]; flushes: Flush[] } = { framebuffers: [], flushes: [] };
    const nothing = (): void => undefined;
    guest.connect({
      ...{ cursor: nothing, cursorMoved: nothing, halted: nothing, destroyed: nothing },
      scanout: (_, framebuffer) => framebuffer && seen.framebuffers.push(framebuffer),
      flush: (_, __, flush) => flush && seen.flushes.push(flush),
    });
    return seen;
  }

  test('shows them, and answers when the frame is shown', async () => {
    await start();
    using one = dmabuf(0x123456);
    expect(await scanoutDmabuf(one)).toBeNull();
    expect(await updateDmabuf()).toBeNull();
    await shows(0x123456, 63, 47);
    expect(guest.stats.consoles[0]).toMatchObject({ way: 'dmabuf', socketBytes: 0 });
  });

  test.each([
    ['of the format of the screen', FOURCC, 4, 0x00010000],
    ['of another format', DRM_FORMAT.RGB565, 2, 0x0800],
  ])(
    '%s whose first row is the lowest are shown the right way up, also where they change',
    async (_, fourcc, cpp, red) => {
      await start();
      using memfd = createMemfd('dmabuf', STRIDE * HEIGHT, 0);
      using mapping = Mapping.file(memfd, 0, STRIDE * HEIGHT, 'read-write');
      const write = (x: number, row: number, value: number): void => {
        const at = row * STRIDE + x * cpp;
        if (cpp === 4) mapping.view.setUint32(at, value, true);
        else mapping.view.setUint16(at, value, true);
      };
      for (let row = 0; row < HEIGHT; row++) for (let x = 0; x < WIDTH; x++) write(x, row, (row % 32) * red);
      const values = [memfd, WIDTH, HEIGHT, STRIDE, fourcc, 0n, true];
      await vm.call(0, uapi.LISTENER, 'ScanoutDMABUF', 'huuuutb', values);
      await updateDmabuf();
      await eventually(() => expect(pixel(0, HEIGHT - 1)).toBe(0));
      const reds = Array.from({ length: HEIGHT }, (__, y) => pixel(5, y)! >> 16);
      const shown = (value: number): number => (cpp === 4 ? value : (value << 3) | (value >> 2));
      expect(reds).toEqual(reds.map((__, y) => shown((HEIGHT - 1 - y) % 32)));

      // The third row from the top.
      write(7, HEIGHT - 3, 31 * red);
      await vm.call(0, uapi.LISTENER, 'UpdateDMABUF', 'iiii', [7, 2, 1, 1]);
      await eventually(() => expect(pixel(7, 2)! >> 16).toBe(shown(31)));
    },
  );

  test('shows the next after QEMU has disabled the last one, as it does when it frees it', async () => {
    await start();
    bridge.hide(outputs[0]!);
    bridge.show(0, outputs[0]!, { keepLast: false });
    using one = dmabuf(0x123456);
    using other = dmabuf(0x654321);
    await scanoutDmabuf(one);
    await updateDmabuf();
    await scanoutDmabuf(other);
    await vm.call(0, uapi.LISTENER, 'Disable', '', []);
    await updateDmabuf();
    await shows(0x654321);
  });

  test('outlive a VM that has just ended, as do a new monitor and what waits for input', async () => {
    await start();
    const { flushes } = recordSink();
    using buffer = dmabuf(0x123456);
    await scanoutDmabuf(buffer);
    void updateDmabuf();
    await eventually(() => expect(flushes).toHaveLength(1));
    const taken = guest.input.taken();

    vm.kill();
    // Nothing has said yet that it is gone.
    expect(guest.isConnected).toBe(true);
    guest.setMonitor(0, virtualMonitor('late', 800, 600, 60_000));
    flushes[0]!.done();
    await taken;
    await guest.input.taken();
    await eventually(() => expect(guest.isConnected).toBe(false));
  });

  test('answers an update that no screen shows after a while, and only then', async () => {
    await start();
    const { flushes } = recordSink();
    using buffer = dmabuf(0x123456);
    await scanoutDmabuf(buffer);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      let isAnswered = false;
      const answer = updateDmabuf().finally(() => (isAnswered = true));
      // `eventually` would wait for a timer.
      while (flushes.length === 0) await new Promise(setImmediate);
      await vm.call(0, uapi.LISTENER, 'MouseSet', 'iii', [0, 0, 0]);
      expect([isAnswered, flushes.length]).toEqual([false, 1]);
      vi.advanceTimersByTime(100);
      expect(await answer).toBeNull();
      flushes[0]!.done();
    } finally {
      vi.useRealTimers();
    }
  });

  test('passes several planes of one dma-buf on as they are, with the rectangle that is shown', async () => {
    await start();
    const { framebuffers } = recordSink();
    using buffer = dmabuf(0);
    const shown = [[buffer, buffer], 8, 4, 32, 16];
    const memory = [[0, 4096], [WIDTH, WIDTH], 2, DRM_FORMAT.NV12, WIDTH, HEIGHT, 1n << 56n, false];
    const values = [...shown, ...memory];
    expect(await vm.call(0, uapi.LISTENER_DMABUF2, 'ScanoutDMABUF2', 'ahuuuuauauuuuutb', values)).toBeNull();
    expect(framebuffers[0]).toMatchObject({
      width: WIDTH,
      height: HEIGHT,
      format: DRM_FORMAT.NV12,
      modifier: 1n << 56n,
      isBottomUp: false,
      planes: [
        { offset: 0, stride: WIDTH },
        { offset: 4096, stride: WIDTH },
      ],
    });
  });

  test('refuses what is no dma-buf, and planes in different ones', async () => {
    await start();
    using memfd = createMemfd('other', STRIDE * HEIGHT, 0);
    expect(await scanoutDmabuf(memfd)).toBe('EINVAL');
    using small = createMemfd('dmabuf', 4096, 0);
    expect(await scanoutDmabuf(small)).toBe('EINVAL');
    using one = dmabuf(1);
    const values = [[one, small], 0, 0, 8, 8, [0, 0], [64, 64], 2, DRM_FORMAT.NV12, 8, 8, 0n, true];
    expect(await vm.call(0, uapi.LISTENER_DMABUF2, 'ScanoutDMABUF2', 'ahuuuuauauuuuutb', values)).toBe('EINVAL');
    const long = Array.from({ length: 2 ** 20 }, () => 0);
    for (const [fds, offsets] of [
      [[one], long],
      [[one, one, one, one, one], [0]],
    ]) {
      const many = [fds!, 0, 0, 8, 8, offsets!, [64], 1, DRM_FORMAT.XRGB8888, 8, 8, 0n, true];
      expect(await vm.call(0, uapi.LISTENER_DMABUF2, 'ScanoutDMABUF2', 'ahuuuuauauuuuutb', many)).toBe('EINVAL');
    }
    expect(log.join()).toContain('E2BIG');
  });
});

describe('QemuDbusGuest: what QEMU should not send', () => {
  test('refuses memory that is no memory file, so that QEMU sends pixels instead', async () => {
    await start();
    const fd = openSync(process.execPath, 'r');
    expect(await vm.call(0, uapi.LISTENER_MAP, 'ScanoutMap', 'huuuuu', [{ fd }, 0, 8, 8, 32, XRGB])).toBe('EINVAL');
    closeSync(fd);
    expect(
      await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [WIDTH, HEIGHT, STRIDE, XRGB, rows(() => 7)]),
    ).toBeNull();
    await shows(7);
  });

  test.each([
    ['more pixels than the memory has', [0, WIDTH, HEIGHT + 1, STRIDE, XRGB]],
    ['an offset beyond the memory', [2 ** 31, WIDTH, HEIGHT, STRIDE, XRGB]],
    ['no pixels', [0, 0, HEIGHT, STRIDE, XRGB]],
    ['a side of 2^32 - 1', [0, 2 ** 32 - 1, 2 ** 32 - 1, STRIDE, XRGB]],
    ['rows that overlap', [0, WIDTH, HEIGHT, STRIDE - 4, XRGB]],
    ['a format that DRM does not have', [0, WIDTH, HEIGHT, STRIDE, PIXMAN_FORMAT.x8r8g8b8 ^ 0x0f]],
  ])('refuses a picture of %s, and shows the next', async (_what, values) => {
    await start();
    using memfd = surface(() => 0x445566);
    expect(await vm.call(0, uapi.LISTENER_MAP, 'ScanoutMap', 'huuuuu', [memfd, ...values])).toBe('EINVAL');
    expect(await updateMap()).toBe('EINVAL');
    await scanoutMap(memfd);
    await updateMap();
    await shows(0x445566);
  });

  test('keeps its picture, and lives, when QEMU shortens memory that is shown', async () => {
    await start();
    using memfd = surface(() => 0x445566);
    await scanoutMap(memfd);
    await updateMap();
    await shows(0x445566);
    ftruncateSync(memfd.fd, 4096);
    expect(await updateMap()).toBeNull();
    expect(await updateMap(0, 20, 5, 5)).toBeNull();
    expect(pixel(63, 47)).toBe(0x445566);
    using next = surface(() => 0x00aa00);
    await scanoutMap(next);
    await updateMap();
    await shows(0x00aa00);
  });

  test.each([
    ['an update outside of the picture', 'Update', 'iiiiuuay', [WIDTH - 1, 0, 2, 1, 8, XRGB, new Uint8Array(8)]],
    ['an update before the picture', 'Update', 'iiiiuuay', [-1, 0, 2, 1, 8, XRGB, new Uint8Array(8)]],
    ['an update with too few bytes', 'Update', 'iiiiuuay', [0, 0, 2, 2, 8, XRGB, new Uint8Array(15)]],
    ['an update in another format', 'Update', 'iiiiuuay', [0, 0, 1, 1, 4, PIXMAN_FORMAT.r5g6b5, new Uint8Array(4)]],
    ['a picture with too few bytes', 'Scanout', 'uuuuay', [8, 8, 32, XRGB, new Uint8Array(255)]],
    ['a cursor with too few bytes', 'CursorDefine', 'iiiiay', [8, 8, 0, 0, new Uint8Array(255)]],
    ['a cursor of a negative size', 'CursorDefine', 'iiiiay', [-8, -8, 0, 0, new Uint8Array(256)]],
    ['values of other types', 'Scanout', 's', ['picture']],
    ['no values', 'CursorDefine', '', []],
  ] as const)('refuses %s, and shows what it showed', async (_what, member, signature, values) => {
    await start();
    await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [WIDTH, HEIGHT, STRIDE, XRGB, rows(() => 0x123456)]);
    await shows(0x123456);
    expect(await vm.call(0, uapi.LISTENER, member, signature, values)).toMatch(/^E(INVAL|NXIO)$/);
    expect(pixel(0, 0)).toBe(0x123456);
  });

  test('refuses pictures beyond its memory limit', async () => {
    await start([{}], { maxGuestMemory: STRIDE * HEIGHT * 4 });
    const wide = new Uint8Array(256 * 256 * 4);
    expect(await vm.call(0, uapi.LISTENER, 'Scanout', 'uuuuay', [256, 256, 1024, XRGB, wide])).toBe('EINVAL');
    expect(log.join()).toContain('--max-guest-memory');
  });

  test('counts the image of a cursor against its memory limit, the one before until the next is shown', async () => {
    await start([{}], { maxGuestMemory: 2 * STRIDE * HEIGHT });
    const before = guest.budget.used;
    const image = rows(() => 0xff0000ff);
    const values = [WIDTH, HEIGHT, 0, 0, image];
    for (let i = 0; i < 3; i++) expect(await vm.call(0, uapi.LISTENER, 'CursorDefine', 'iiiiay', values)).toBeNull();
    expect(guest.budget.used).toBe(before + STRIDE * HEIGHT);
    const larger = [WIDTH, HEIGHT + 1, 0, 0, rows(() => 0, WIDTH, HEIGHT + 1)];
    expect(await vm.call(0, uapi.LISTENER, 'CursorDefine', 'iiiiay', larger)).toBe('EINVAL');
    expect(guest.budget.used).toBe(before + STRIDE * HEIGHT);
  });

  test('answers methods and objects that it does not have with an error', async () => {
    await start();
    expect(await vm.call(0, uapi.LISTENER, 'Explode', '', [])).toBe('EBADR');
    expect(await vm.call(0, uapi.PROPERTIES, 'Set', 's', [uapi.LISTENER])).toBe('EBADR');
  });
});

describe('QemuDbusGuest: life', () => {
  test('keeps a copy of the picture when QEMU ends, and shows the next QEMU', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      await start();
      using memfd = surface(() => 0x445566);
      await scanoutMap(memfd);
      await updateMap();
      await eventually(() => {
        vi.advanceTimersByTime(20);
        expect(pixel(0, 0)).toBe(0x445566);
      });
      vm.kill();
      await eventually(() => expect(guest.isConnected).toBe(false));
      expect(pixel(0, 0)).toBe(0x445566);
      expect(guest.stats).toMatchObject({ vm: null, consoles: [], losses: 1 });

      vm.isGone = false;
      vm.unexported = 1;
      await eventually(() => {
        vi.advanceTimersByTime(500);
        expect(guest.isConnected).toBe(true);
      });
      await vm.registered();
      using next = surface(() => 0x00aa00);
      await scanoutMap(next);
      await updateMap();
      await eventually(() => {
        vi.advanceTimersByTime(20);
        expect(pixel(0, 0)).toBe(0x00aa00);
      });
    } finally {
      vi.useRealTimers();
    }
  });

  test('has halted before its pictures go with QEMU', async () => {
    await start();
    bridge[Symbol.dispose]();
    const events: string[] = [];
    const nothing = (): void => undefined;
    guest.connect({
      ...{ scanout: nothing, flush: nothing, cursor: nothing, cursorMoved: nothing },
      halted: () => events.push('halted'),
      destroyed: () => events.push('destroyed'),
    });
    using memfd = surface(() => 1);
    await scanoutMap(memfd);
    await vm.call(0, uapi.LISTENER, 'CursorDefine', 'iiiiay', [8, 8, 0, 0, new Uint8Array(256)]);
    vm.kill();
    await eventually(() => expect(events).toEqual(['halted', 'destroyed', 'destroyed']));
  });

  test('tells QEMU the monitors, side by side, when there is a VM and when they change', async () => {
    await start([{}, {}], { scanouts: 2 });
    await eventually(() => expect(vm.calls.filter(([member]) => member === 'Console.SetUIInfo')).toHaveLength(2));
    expect(vm.calls.map(([, , , ...rest]) => rest)).toEqual([
      [0, 0, WIDTH, HEIGHT],
      [WIDTH, 0, WIDTH, HEIGHT],
    ]);
    guest.setMonitor(0, virtualMonitor('bigger', 1920, 1080, 60_000));
    await eventually(() => expect(vm.calls.at(-1)).toEqual(['Console.SetUIInfo', 'q', 'q', 0, 0, 1920, 1080]));
  });

  test('disposes while QEMU is being connected to', async () => {
    await start();
    let connected: (socket: OwnedFd) => void = () => undefined;
    const early = QemuDbusGuest.open({ vm: { connect: () => new Promise((resolve) => (connected = resolve)) } });
    early[Symbol.dispose]();
    connected(await vm.connect());
  });
});

describe('QemuDbusGuest: input', () => {
  const sent = async (): Promise<unknown> => {
    await guest.input.taken();
    return vm.calls.filter(([member]) => member !== 'Console.SetUIInfo');
  };

  test('sends keys by the numbers of QEMU, and releases those that are down', async () => {
    await start();
    guest.input.key(30, true);
    guest.input.key(30, false);
    guest.input.key(103, true);
    guest.input.key(0x2ff, true);
    guest.input.releaseAll();
    expect(await sent()).toEqual([
      ['Keyboard.Press', 30],
      ['Keyboard.Release', 30],
      ['Keyboard.Press', 0xc8],
      ['Keyboard.Release', 0xc8],
    ]);
  });

  test('leaves QEMU 20 ms for each key, which its keyboards would drop otherwise', async () => {
    await start();
    const order: string[] = [];
    setTimeout(() => order.push('19 ms are over'), 19);
    guest.input.key(30, true);
    guest.input.key(30, false);
    await guest.input.taken();
    order.push('one key is taken');
    setTimeout(() => order.push('39 ms are over'), 39);
    for (const isPressed of [true, false]) for (const code of [42, 48]) guest.input.key(code, isPressed);
    await guest.input.taken();
    order.push('two keys are taken');
    expect(order).toEqual(['19 ms are over', 'one key is taken', '39 ms are over', 'two keys are taken']);
  });

  test('sends positions to a tablet: the newest of a frame, inside the picture, before a button', async () => {
    await start();
    using memfd = surface(() => 1);
    await scanoutMap(memfd);
    guest.input.pointerMovedTo(0, 3.5, 4);
    guest.input.pointerMovedTo(0, 1000, -5);
    guest.input.frame();
    guest.input.pointerMovedTo(0, 10, 11);
    guest.input.button(0x110, true);
    guest.input.button(0x110, false);
    guest.input.pointerMovedBy(-4, 0.6);
    guest.input.frame();
    expect(await sent()).toEqual([
      ['Mouse.SetAbsPosition', WIDTH - 1, 0],
      ['Mouse.SetAbsPosition', 10, 11],
      ['Mouse.Press', 0],
      ['Mouse.Release', 0],
      ['Mouse.SetAbsPosition', 6, 11],
    ]);
  });

  test('sends motion to a mouse, also of a pointer that has positions, and follows when that changes', async () => {
    await start([{ isAbsolute: false }]);
    using memfd = surface(() => 1);
    await scanoutMap(memfd);
    expect(guest.input.isRelative(0)).toBe(true);
    for (let i = 0; i < 3; i++) guest.input.pointerMovedBy(0.5, -1);
    guest.input.frame();
    guest.input.pointerMovedTo(0, 30, 20);
    guest.input.frame();
    expect(await sent()).toEqual([
      ['Mouse.RelMotion', 1, -3],
      ['Mouse.RelMotion', 29, 23],
    ]);
    vm.calls.length = 0;
    vm.change(0, uapi.MOUSE, 'IsAbsolute', 'b', true);
    await guest.input.taken();
    expect(guest.input.isRelative(0)).toBe(false);
    guest.input.pointerMovedTo(0, 5, 6);
    expect(await sent()).toEqual([['Mouse.SetAbsPosition', 5, 6]]);
  });

  test('turns wheels by a few notches at once, however far they were turned', async () => {
    await start();
    guest.input.wheel('vertical', 2 ** 31);
    await guest.input.taken();
    expect(vm.calls.filter(([name]) => name === 'Mouse.Press').length).toBeLessThan(100);
  });

  test('turns wheels notch by notch, and keeps the rest', async () => {
    await start();
    guest.input.wheel('vertical', -60);
    guest.input.wheel('vertical', -60);
    guest.input.wheel('vertical', 250);
    guest.input.wheel('horizontal', -120);
    guest.input.wheel('horizontal', 120);
    expect(await sent()).toEqual(
      [3, 4, 4, 7, 8].flatMap((button) => [
        ['Mouse.Press', button],
        ['Mouse.Release', button],
      ]),
    );
  });

  test('sends touches to a VM that has a touchscreen', async () => {
    await start();
    using memfd = surface(() => 1);
    await scanoutMap(memfd);
    guest.input.touchDown(0, 2, 5, 6);
    guest.input.touchMoved(0, 2, 7, 8);
    guest.input.touchUp(2);
    guest.input.touchDown(0, 1, 5, 6);
    guest.input.touchCancelled();
    guest.input.touchUp(1);
    expect(await sent()).toEqual([0, 1, 2, 0, 3].map((kind) => ['MultiTouch.SendEvent', kind, 't', 'd', 'd']));
  });

  test('sends no touches to a VM without a touchscreen', async () => {
    await start([{ touches: 0 }]);
    using memfd = surface(() => 1);
    await scanoutMap(memfd);
    guest.input.touchDown(0, 0, 5, 6);
    expect(await sent()).toEqual([]);
  });

  test('reports the LEDs by the numbers of the kernel', async () => {
    await start([{ modifiers: 2 }]);
    expect(guest.input.leds).toBe(1);
    const changes: number[] = [];
    const stop = guest.input.onLeds((leds) => changes.push(leds));
    vm.change(0, uapi.KEYBOARD, 'Modifiers', 'u', 5);
    await eventually(() => expect(changes).toEqual([0b110]));
    stop();
  });
});
