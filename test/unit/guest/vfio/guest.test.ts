import { constants } from 'node:os';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { bytesOf } from '../../../rig/bytes-of.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { monitorName } from '../../../../protocols/edid.ts';
import * as uapi from '../../../../protocols/vfio.ts';
import type { DmabufBacking, PagesBacking } from '../../../../src/core/framebuffer.ts';
import { virtualMonitor } from '../../../../src/core/monitor.ts';
import { VfioDevice, VfioError } from '../../../../src/guest/vfio/device.ts';
import { VfioGuest } from '../../../../src/guest/vfio/guest.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { cursor, FakeAccess, FakeDevice, primary, SinkLog } from './fake-device.ts';

const REFRESH_MS = 1000 / 60;
const MONITOR = virtualMonitor('test', 64, 48, 60_000);
const { ENODEV, ENOMEM } = constants.errno;

let device: FakeDevice;
let access: FakeAccess;
let guest: VfioGuest;
let sink: SinkLog;
let log: string[];

expectNoLeaks();

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  device = new FakeDevice();
  device.primary = primary(1);
  access = new FakeAccess(device);
  sink = new SinkLog();
  log = [];
});

afterEach(() => {
  guest[Symbol.dispose]();
  device[Symbol.dispose]();
  vi.useRealTimers();
});

function start(): void {
  guest = VfioGuest.over(access, { log: (_, message) => log.push(message) });
  guest.connect(sink);
  guest.setMonitor(0, MONITOR);
}

/** One refresh of the screen. What was flushed before comes on screen. */
function refresh(): string[] {
  if (sink.flushes.length > 0) sink.present();
  else vi.advanceTimersToNextTimer();
  return sink.take();
}

describe('VfioGuest with planes in dma-bufs', () => {
  test('shows the primary plane, and all of it once per refresh', () => {
    start();
    expect(refresh()).toEqual(['scanout 0 a 64x48', 'flush 0 0,0,64,48']);
    expect(refresh()).toEqual(['flush 0 0,0,64,48']);
    expect(sink.framebuffers[0]).toMatchObject({
      format: DRM_FORMAT.XRGB8888,
      modifier: 0n,
      planes: [{ offset: 0, stride: 256 }],
    });
    expect(guest.stats).toMatchObject({ mode: 'dma-buf', looks: 2, flips: 1, opened: 1, dmabufs: 1 });
  });

  test('looks at nothing until the frame is on screen', () => {
    start();
    refresh();
    const { queries } = device;
    vi.advanceTimersByTime(10 * REFRESH_MS);
    expect(device.queries).toBe(queries);
    refresh();
    expect(device.queries).toBe(queries + 2);
  });

  test('waits for the next refresh if a frame is done at once', () => {
    sink.flush = (_id, _damage, flush) => flush!.done();
    start();
    vi.advanceTimersToNextTimer();
    expect(guest.stats.looks).toBe(1);
    const firstMs = performance.now();
    vi.advanceTimersToNextTimer();
    expect(guest.stats.looks).toBe(2);
    // Timers count whole milliseconds.
    expect(performance.now() - firstMs).toBeGreaterThan(REFRESH_MS - 1);
  });

  test('asks the device nothing while no screen shows it, and goes on with the next one', () => {
    start();
    refresh();
    guest.setMonitor(0, null);
    sink.present();
    const { queries } = device;
    vi.advanceTimersByTime(1000);
    expect(device.queries).toBe(queries);
    guest.setMonitor(0, MONITOR);
    expect(refresh()).toEqual(['flush 0 0,0,64,48']);
  });

  test('opens each buffer of a guest that flips between three once', () => {
    start();
    for (let frame = 0; frame < 30; frame++) {
      device.primary = primary(1 + (frame % 3));
      refresh();
    }
    expect(device.taken).toEqual([1, 2, 3]);
    expect(guest.stats).toMatchObject({ flips: 30, dmabufs: 3 });
  });

  test('asks again for an id that is out of date', () => {
    device.mayTake = (id) => {
      device.primary = primary(2);
      return id === 2;
    };
    start();
    expect(refresh()).toEqual(['scanout 0 a 64x48', 'flush 0 0,0,64,48']);
    expect(device.taken).toEqual([2]);
    expect(guest.stats.stale).toBe(1);
  });

  test('keeps its picture while the device refuses every id, and says so once', () => {
    start();
    refresh();
    device.primary = primary(9);
    device.mayTake = () => false;
    for (let frame = 0; frame < 5; frame++) expect(refresh()).toEqual([]);
    expect(log.filter((line) => line.includes('ENOENT'))).toHaveLength(1);
    device.primary = primary(1);
    expect(refresh()).toEqual(['flush 0 0,0,64,48']);
  });

  test('asks again when a query fails for a moment', () => {
    device.failures.push(-ENOMEM);
    start();
    expect(refresh()).toEqual(['scanout 0 a 64x48', 'flush 0 0,0,64,48']);
    expect(log.join()).not.toContain('ENOMEM');
  });

  test('takes an id that comes back with another size for another picture', () => {
    start();
    refresh();
    device.primary = primary(1, 32, 16);
    expect(refresh()).toEqual(['scanout 0 b 32x16', 'flush 0 0,0,32,16', 'destroyed a']);
    expect(device.taken).toEqual([1, 1]);
    device.primary = primary(1, 32, 16, { drm_format_mod: (1n << 56n) | 1n });
    expect(refresh()[0]).toBe('scanout 0 c 32x16');
  });

  test('keeps the buffers of the old mode for when it comes back', () => {
    start();
    refresh();
    device.primary = primary(2, 32, 16);
    refresh();
    device.primary = primary(1);
    expect(refresh()).toEqual(['scanout 0 a 64x48', 'flush 0 0,0,64,48']);
    expect(device.taken).toEqual([1, 2]);
  });

  test('gives up the buffers that were not shown for longest', () => {
    start();
    for (let id = 1; id <= 40; id++) {
      device.primary = primary(id);
      refresh();
    }
    expect(guest.stats).toMatchObject({ opened: 40, dmabufs: 32 });
  });

  test('turns the scanout off and on with the plane', () => {
    start();
    refresh();
    device.primary = {};
    expect(refresh()).toEqual(['scanout 0 nothing 0x0']);
    expect(refresh()).toEqual([]);
    device.primary = primary(1);
    expect(refresh()).toEqual(['scanout 0 a 64x48', 'flush 0 0,0,64,48']);
  });

  test.each([
    ['without pixels', { width: 0 }],
    ['of more than any screen has', { width: 16385, stride: 1 << 17 }],
    ['of an unknown format', { drm_format: 0x12345678 }],
    ['of several memory planes', { drm_format: DRM_FORMAT.NV12 }],
    ['with rows that overlap', { stride: 255 }],
    ['that is larger than its dma-buf', { height: 16000 }],
  ])('shows no plane %s', (_, fields) => {
    device.primary = primary(1, 64, 48, fields);
    start();
    expect(refresh()).toEqual([]);
    expect(log.at(-1)).toContain('vfio: ');
    device.primary = primary(2);
    expect(refresh()).toEqual(['scanout 0 a 64x48', 'flush 0 0,0,64,48']);
  });

  test('offers the CPU only the pixels of linear pictures', () => {
    start();
    refresh();
    device.primary = primary(2, 64, 48, { drm_format_mod: (1n << 56n) | 1n });
    refresh();
    const [linear, tiled] = sink.framebuffers.map(({ backing }) => backing as DmabufBacking);
    expect(linear!.pixels!().length).toBe(64 * 48 * 4);
    expect(tiled!.pixels).toBeUndefined();
  });

  test('shows, moves and hides the cursor', () => {
    start();
    refresh();
    device.cursor = cursor(2, 10, 20);
    expect(refresh()).toEqual(['flush 0 0,0,64,48', 'cursor 0 b hot 2,3 at 10,20']);
    device.cursor = cursor(2, -5, 20);
    expect(refresh()).toEqual(['flush 0 0,0,64,48', 'cursor 0 to -5,20']);
    device.cursor = cursor(3, -5, 20, { x_hot: 0xffffffff, y_hot: 0xffffffff });
    expect(refresh()).toEqual(['flush 0 0,0,64,48', 'cursor 0 c hot 0,0 at -5,20']);
    device.cursor = {};
    expect(refresh()).toEqual(['flush 0 0,0,64,48', 'cursor 0 nothing hot 0,0 at 0,0']);
    expect(refresh()).toEqual(['flush 0 0,0,64,48']);
  });

  test('shows no cursor of a device that answers with the primary plane whatever it is asked', () => {
    device.cursor = primary(1);
    start();
    refresh();
    const { queries } = device;
    expect(refresh()).toEqual(['flush 0 0,0,64,48']);
    expect(device.queries).toBe(queries + 1);
  });
});

describe('VfioGuest whose device goes away', () => {
  test('halts, gives everything back, and shows the next device', () => {
    start();
    refresh();
    access.listener.lost('the VMM has ended');
    expect(sink.take()).toEqual(['halted', 'destroyed a']);
    expect(device.isDisposed).toBe(true);
    expect(guest.isConnected).toBe(false);
    expect(log.at(-1)).toBe('vfio: the VMM has ended; the last picture stays');
    sink.present();
    device = new FakeDevice();
    access.open(device);
    // Its guest has not set a mode yet.
    expect(refresh()).toEqual([]);
    device.primary = primary(1);
    expect(refresh()).toEqual(['scanout 0 b 64x48', 'flush 0 0,0,64,48']);
  });

  test('gives a device back that answers that it is gone', () => {
    start();
    refresh();
    device.failures.push(-ENODEV, -ENODEV, -ENODEV);
    expect(refresh()).toEqual(['halted', 'destroyed a']);
    expect(device.isDisposed).toBe(true);
    expect(access.abandoned).toBe(1);
  });

  test('refuses a device without a display', () => {
    device.kinds = 0;
    guest = VfioGuest.over(new FakeAccess(), {});
    expect(() => VfioDevice.open(device)).toThrow(VfioError);
    expect(device.isDisposed).toBe(true);
  });
});

const REGION = 12;
const OFFSET = 8192;
const STRIDE = 1280;

describe('VfioGuest with planes in regions', () => {
  /** Draws a pixel of the plane. */
  function draw(x: number, y: number, value: number): void {
    device.memory.view.setUint32(OFFSET + y * STRIDE + x * 4, value, true);
  }

  beforeEach(() => {
    device.kinds = uapi.VFIO_GFX_PLANE_TYPE_REGION;
    device.region(REGION, OFFSET, 1 << 19);
    device.primary = primary(REGION, 320, 200);
  });

  test('shows the plane once, and then only the tiles that change', () => {
    start();
    expect(refresh()).toEqual(['scanout 0 a 320x200', 'flush 0 0,0,320,200']);
    expect(refresh()).toEqual([]);
    draw(70, 20, 0xffffff);
    draw(319, 199, 0xffffff);
    expect(refresh()).toEqual(['flush 0 64,16,64,16 256,192,64,8']);
    expect(refresh()).toEqual([]);
    expect(guest.stats.copiedBytes).toBe((320 * 200 + 64 * 16 + 64 * 8) * 4);
  });

  test('shows a copy that equals the plane', () => {
    start();
    refresh();
    for (let i = 0; i < 1000; i++) draw((i * 7919) % 320, (i * 104729) % 200, i * 2654435761);
    refresh();
    const copy = (sink.framebuffers[0]!.backing as PagesBacking).pixels();
    const live = device.memory.bytes.subarray(OFFSET, OFFSET + STRIDE * 200);
    expect(Buffer.compare(bytesOf(copy).subarray(0, live.length), live)).toBe(0);
  });

  test('asks a device that is drawn to all the time no sooner than the frame is on screen', () => {
    start();
    refresh();
    draw(1, 1, 1);
    refresh();
    const { looks } = guest.stats;
    draw(1, 1, 2);
    vi.advanceTimersByTime(10 * REFRESH_MS);
    expect(guest.stats.looks).toBe(looks);
    expect(refresh()).toEqual(['flush 0 0,0,64,16']);
  });

  test('follows another mode, and charges one copy at a time', () => {
    start();
    refresh();
    device.primary = primary(REGION, 160, 100);
    expect(refresh()).toEqual(['scanout 0 b 160x100', 'destroyed a', 'flush 0 0,0,160,100']);
    expect(guest.budget.used).toBe(65_536);
  });

  test.each([
    ['that is larger than its region', { height: 1000 }],
    ['in a region that it does not have', { dmabuf_id: 13 }],
    ['in tiles', { drm_format_mod: 1n << 56n }],
  ])('shows no plane %s', (_, fields) => {
    device.primary = primary(REGION, 320, 200, fields);
    start();
    expect(refresh()).toEqual([]);
    expect(log.at(-1)).toContain('vfio: ');
  });

  test('shows no plane whose copy is larger than the limit', () => {
    guest = VfioGuest.over(access, { maxGuestMemory: 1000, log: (_, message) => log.push(message) });
    guest.connect(sink);
    guest.setMonitor(0, MONITOR);
    expect(refresh()).toEqual([]);
    expect(log.at(-1)).toContain('--max-guest-memory');
  });

  test('shows a cursor, and again when its picture changes', () => {
    device.region(REGION + 1, 0, 4096);
    device.cursor = cursor(REGION + 1, 5, 6);
    start();
    expect(refresh()).toEqual(['scanout 0 a 320x200', 'flush 0 0,0,320,200', 'cursor 0 b hot 2,3 at 5,6']);
    device.cursor = cursor(REGION + 1, 7, 6);
    expect(refresh()).toEqual(['cursor 0 to 7,6']);
    device.memory.view.setUint32(0, 1, true);
    expect(refresh()).toEqual(['cursor 0 b hot 2,3 at 7,6']);
  });

  test('gives everything back when the device goes away', () => {
    start();
    refresh();
    access.listener.lost('gone');
    expect(sink.take()).toEqual(['halted', 'destroyed a']);
    expect(guest.budget.used).toBe(0);
    expect(guest.stats.copiedBytes).toBe(320 * 200 * 4);
  });
});

const EDID_REGION = 9;
const EDID_AT = 4096;
const BLOB = 256;

describe('VfioGuest with an EDID region', () => {
  const regs = uapi.vfio_region_gfx_edid;
  const registers = () => regs.decode(device.memory.bytes.subarray(EDID_AT));

  beforeEach(() => {
    device.region(EDID_REGION, EDID_AT, 4096, {
      type: uapi.VFIO_REGION_TYPE_GFX,
      subtype: uapi.VFIO_REGION_SUBTYPE_GFX_EDID,
    });
    regs.set(device.memory.view, EDID_AT, {
      edid_offset: BLOB,
      edid_max_size: 512,
      edid_size: 0,
      max_xres: 1024,
      max_yres: 768,
      link_state: uapi.VFIO_DEVICE_GFX_LINK_STATE_DOWN,
    });
  });

  test('tells the guest its monitor, and that it was unplugged', () => {
    start();
    const { edid_size, link_state } = registers();
    expect(link_state).toBe(uapi.VFIO_DEVICE_GFX_LINK_STATE_UP);
    expect(monitorName(device.memory.bytes.slice(EDID_AT + BLOB, EDID_AT + BLOB + edid_size))).toBe('test');
    guest.setMonitor(0, null);
    expect(registers().link_state).toBe(uapi.VFIO_DEVICE_GFX_LINK_STATE_DOWN);
  });

  test('cuts a monitor to the largest mode of the device', () => {
    start();
    guest.setMonitor(0, { ...virtualMonitor('large', 1920, 1080, 60_000), edid: new Uint8Array(128) });
    const edid = device.memory.bytes.slice(EDID_AT + BLOB, EDID_AT + BLOB + 128);
    // The first detailed timing has the low eight bits of the active pixels at 56, of the lines at 59.
    expect([edid[56]! | ((edid[58]! & 0xf0) << 4), edid[59]! | ((edid[61]! & 0xf0) << 4)]).toEqual([1024, 768]);
  });

  test('passes on the EDID of a real monitor', () => {
    const edid = Uint8Array.from({ length: 128 }, (_, i) => i);
    start();
    guest.setMonitor(0, { ...MONITOR, edid });
    expect(device.memory.bytes.slice(EDID_AT + BLOB, EDID_AT + BLOB + 128)).toEqual(edid);
  });

  test('leaves the link down if no EDID fits', () => {
    regs.field.edid_max_size.set(device.memory.view, EDID_AT, 64);
    start();
    expect(registers()).toMatchObject({ edid_size: 0, link_state: uapi.VFIO_DEVICE_GFX_LINK_STATE_DOWN });
  });

  test('writes nothing outside the region', () => {
    regs.field.edid_offset.set(device.memory.view, EDID_AT, 4000);
    start();
    expect(registers().link_state).toBe(uapi.VFIO_DEVICE_GFX_LINK_STATE_DOWN);
  });
});
