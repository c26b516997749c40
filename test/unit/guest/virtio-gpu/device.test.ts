import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { bytesOf } from '../../../rig/bytes-of.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import * as p from '../../../../protocols/virtio-gpu.ts';
import { vring_desc } from '../../../../protocols/virtio-ring.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import { virtualMonitor } from '../../../../src/core/monitor.ts';
import { Chain } from '../../../../src/guest/virtio/chain.ts';
import { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import type { VirtioGpuOptions } from '../../../../src/guest/virtio-gpu/device.ts';
import type { GpuTap } from '../../../../src/guest/virtio-gpu/tap.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { withFreeFds } from '../../sys/few-fds.ts';
import { eventually } from '../../../rig/eventually.ts';
import * as request from './requests.ts';
import { GpuRig, HEAP, PAGE, RAM_SIZE, RecordingSink, openThings } from './rig.ts';

const { VIRTIO_GPU_RESP: RESP, VIRTIO_GPU_CMD: CMD } = p;

/** Resource 1, 32x32, on scanout 0. */
function shown(rig: GpuRig): void {
  for (const bytes of [
    request.create2d(1, 32, 32),
    request.attach(1, request.contiguous(PAGE)),
    request.setScanout(0, 1, 0, 0, 32, 32),
  ])
    rig.type(bytes);
}

const silentTap = (): GpuTap => ({
  isBusy: false,
  attached: () => undefined,
  monitorChanged: () => undefined,
  memoryChanged: () => undefined,
  negotiated: () => undefined,
  pixels: () => undefined,
  command: () => undefined,
  reset: () => undefined,
});

const flush = (fence?: request.Fence) => request.flush(1, 0, 0, 32, 32, fence);

describe('VirtioGpu answers', () => {
  it('echo the fence, its context and its ring', () => {
    using rig = new GpuRig();
    const response = rig.ask(request.only(CMD.GET_DISPLAY_INFO, { id: 0xfedc_ba98_7654_3210n, ring: 5 }));
    expect(p.virtio_gpu_ctrl_hdr.decode(response)).toEqual({
      type: RESP.OK_DISPLAY_INFO,
      flags: 3,
      fence_id: 0xfedc_ba98_7654_3210n,
      ctx_id: 7,
      ring_idx: 5,
      padding: new Uint8Array(3),
    });
    const unfenced = rig.ask(request.only(CMD.GET_DISPLAY_INFO));
    expect(p.virtio_gpu_ctrl_hdr.decode(unfenced)).toMatchObject({ flags: 0, fence_id: 0n, ctx_id: 0, ring_idx: 0 });
  });

  it('echo the fence of a command that fails', () => {
    using rig = new GpuRig();
    expect(p.virtio_gpu_ctrl_hdr.decode(rig.ask(request.only(0x999, { id: 9n })))).toMatchObject({
      type: RESP.ERR_UNSPEC,
      flags: 1,
      fence_id: 9n,
    });
  });

  it('to a flush come when the flush is done', () => {
    using rig = new GpuRig();
    shown(rig);
    const token = rig.send(flush());
    expect(rig.answer(token)).toBeUndefined();
    rig.sink.flushes[0]!.done();
    expect(rig.answer(token)?.written).toBe(24);
  });

  it('that are outstanding are given when the queue stops, fenced ones in order', () => {
    using rig = new GpuRig();
    shown(rig);
    const tokens = [rig.send(flush({ id: 1n })), rig.send(flush()), rig.send(flush({ id: 2n }))];
    const order: number[] = [];
    rig.gpu.queueStopped(0);
    rig.drivers[0]!.drain((token) => order.push(token));
    expect(order.toSorted()).toEqual(tokens.toSorted());
    expect(order.indexOf(tokens[0]!)).toBeLessThan(order.indexOf(tokens[2]!));
    for (const pending of rig.sink.flushes) pending.done();
    expect(rig.log).toEqual([]);
  });

  it('to a flush wait for a Flush that says whether the command has a fence', () => {
    using rig = new GpuRig();
    shown(rig);
    rig.send(flush({ id: 1n }));
    rig.send(flush());
    rig.send(flush({ id: 2n }));
    expect(rig.sink.flushes).toMatchObject([{ isFenced: true }, { isFenced: false }, { isFenced: true }]);
  });

  it('to GET_DISPLAY_INFO wait for refreshMonitors, and hold back what comes after', async () => {
    let asked = 0;
    let settle = (): void => undefined;
    const refreshMonitors = () =>
      new Promise<void>((resolve) => {
        asked++;
        settle = resolve;
      });
    using rig = new GpuRig({ refreshMonitors });
    const question = rig.send(request.only(CMD.GET_DISPLAY_INFO));
    const later = rig.send(request.create2d(1, 8, 8));
    expect([asked, rig.answer(question), rig.answer(later)]).toEqual([1, undefined, undefined]);
    rig.gpu.setMonitor(0, virtualMonitor('late', 800, 600, 60_000));
    settle();
    await new Promise((resolve) => setImmediate(resolve));
    const told = p.virtio_gpu_display_one.decode(rig.answer(question)!.bytes.subarray(p.virtio_gpu_ctrl_hdr.size));
    expect(told).toMatchObject({ enabled: 1, r: { width: 800, height: 600 } });
    expect(rig.answer(later)).toBeDefined();
  });

  it('to a held GET_DISPLAY_INFO do not change when the guest overwrites the request', async () => {
    let settle = (): void => undefined;
    using rig = new GpuRig({ refreshMonitors: () => new Promise<void>((resolve) => (settle = resolve)) });
    const question = rig.send(request.only(CMD.GET_DISPLAY_INFO, { id: 5n }));
    const { addr } = vring_desc.get(rig.ram.view, rig.drivers[0]!.at.desc + question * vring_desc.size);
    rig.at(addr, p.virtio_gpu_ctrl_hdr.size).set(request.only(0x999));
    // The cursor queue is not held back: its commands come in between.
    expect(rig.type(request.moveCursor(0, 1, 1), 1)).toBe(RESP.OK_NODATA);
    settle();
    await new Promise((resolve) => setImmediate(resolve));
    expect(p.virtio_gpu_ctrl_hdr.decode(rig.answer(question)!.bytes)).toMatchObject({
      type: RESP.OK_DISPLAY_INFO,
      fence_id: 5n,
    });
  });

  it('read each command from guest memory once, held or not', async () => {
    using rig = new GpuRig({ refreshMonitors: () => Promise.resolve() });
    const read = vi.spyOn(Chain.prototype, 'read');
    rig.send(request.create2d(1, 8, 8));
    rig.send(request.only(CMD.GET_DISPLAY_INFO));
    await new Promise((resolve) => setImmediate(resolve));
    expect(rig.gpu.stats.commands).toBe(2);
    expect(read).toHaveBeenCalledTimes(2);
    read.mockRestore();
  });

  it('to a held GET_DISPLAY_INFO come with what is known when the queue stops', () => {
    using rig = new GpuRig({ refreshMonitors: () => new Promise<void>(() => undefined) });
    const question = rig.send(request.only(CMD.GET_DISPLAY_INFO));
    rig.gpu.queueStopped(0);
    expect(rig.answer(question)?.written).toBe(p.virtio_gpu_resp_display_info.size);
  });

  it('to a flush of several scanouts come when the last one is done', () => {
    using rig = new GpuRig({ scanouts: 2 });
    shown(rig);
    rig.type(request.setScanout(1, 1, 0, 0, 32, 32));
    const token = rig.send(flush());
    rig.sink.flushes[1]!.done();
    expect(rig.answer(token)).toBeUndefined();
    rig.sink.flushes[0]!.done();
    expect(rig.answer(token)).toBeDefined();
  });

  it('to fenced commands come in order, to others as soon as they are done', () => {
    using rig = new GpuRig();
    shown(rig);
    const first = rig.send(flush({ id: 1n }));
    const second = rig.send(flush({ id: 2n }));
    const third = rig.send(request.create2d(9, 8, 8));
    const fourth = rig.send(request.only(CMD.GET_DISPLAY_INFO, { id: 3n }));
    expect(rig.answer(third)).toBeDefined();
    rig.sink.flushes[1]!.done();
    expect([first, second, fourth].map((token) => rig.answer(token))).toEqual([undefined, undefined, undefined]);
    rig.sink.flushes[0]!.done();
    expect([first, second, fourth].map((token) => rig.answer(token)?.written)).toEqual([24, 24, 408]);
  });

  it('in flight are bounded by the ring, however many fences are sent', () => {
    using rig = new GpuRig();
    shown(rig);
    let accepted = 0;
    for (let id = 0n; id < 5000n; id++) if (rig.send(flush({ id })) >= 0) accepted++;
    expect(accepted).toBe(32);
    expect(rig.gpu.stats.flushes).toBe(32);
    for (const waiting of rig.sink.flushes.splice(0)) waiting.done();
    rig.drain();
    const token = rig.send(flush({ id: 6000n }));
    rig.sink.flushes[0]!.done();
    expect(rig.answer(token)).toBeDefined();
  });

  it('are given once if a flush is done twice', () => {
    using rig = new GpuRig();
    shown(rig);
    const token = rig.send(flush());
    for (let i = 0; i < 3; i++) rig.sink.flushes[0]!.done();
    expect(rig.answer(token)).toBeDefined();
    expect(rig.drivers[0]!.inFlight).toBe(0);
    expect(rig.log).toEqual(['error: a flush was reported done twice']);
  });

  it('are not given after a reset', () => {
    using rig = new GpuRig();
    shown(rig);
    rig.send(flush({ id: 1n }));
    rig.send(flush({ id: 2n }));
    rig.reset();
    for (const late of rig.sink.flushes) late.done();
    expect(rig.drivers[0]!.drain(() => undefined)).toBe(0);
    expect(rig.log).toEqual([]);
    shown(rig);
    const token = rig.send(flush({ id: 1n }));
    rig.sink.flushes.at(-1)!.done();
    expect(rig.answer(token)).toBeDefined();
  });

  it('come at once if there is no sink', () => {
    using rig = new GpuRig({}, false);
    shown(rig);
    expect(rig.type(flush({ id: 1n }))).toBe(RESP.OK_NODATA);
  });
});

describe('VirtioGpu monitors', () => {
  const display = (rig: GpuRig) =>
    p.virtio_gpu_resp_display_info.decode(rig.ask(request.only(CMD.GET_DISPLAY_INFO))).pmodes;

  it('stand side by side, and unplugged ones are disabled', () => {
    using rig = new GpuRig({ scanouts: 3 });
    rig.gpu.setMonitor(0, virtualMonitor('a', 1280, 800, 60_000));
    rig.gpu.setMonitor(2, virtualMonitor('b', 640, 480, 60_000));
    const off = { r: { x: 0, y: 0, width: 0, height: 0 }, enabled: 0, flags: 0 };
    expect(display(rig).slice(0, 4)).toEqual([
      { r: { x: 0, y: 0, width: 1280, height: 800 }, enabled: 1, flags: 0 },
      off,
      { r: { x: 1280, y: 0, width: 640, height: 480 }, enabled: 1, flags: 0 },
      off,
    ]);
  });

  it('raise the display event until the guest clears it', () => {
    using rig = new GpuRig({ scanouts: 2 });
    const config = () => p.virtio_gpu_config.decode(rig.gpu.config);
    rig.gpu.setMonitor(0, virtualMonitor('a', 1280, 800, 60_000));
    expect(rig.configChanges).toBe(1);
    expect(config()).toEqual({ events_read: 1, events_clear: 0, num_scanouts: 2, num_capsets: 0 });
    rig.gpu.writeConfig(0, Uint8Array.of(9, 9, 9, 9));
    rig.gpu.writeConfig(8, Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9, 9));
    expect(config().events_read).toBe(1);
    rig.gpu.writeConfig(4, Uint8Array.of(1, 0, 0, 0));
    expect(config()).toEqual({ events_read: 0, events_clear: 0, num_scanouts: 2, num_capsets: 0 });
  });

  it('have a generated EDID, or the one they came with', () => {
    using rig = new GpuRig({ scanouts: 3 });
    const real = Uint8Array.from({ length: 256 }, (_, i) => i);
    rig.gpu.setMonitor(0, virtualMonitor('a', 1280, 800, 60_000));
    rig.gpu.setMonitor(1, { ...virtualMonitor('b', 1280, 800, 60_000), edid: real });
    const edids = [0, 1, 2].map((id) => p.virtio_gpu_resp_edid.decode(rig.ask(request.getEdid(id))));
    expect(edids.map(({ hdr, size }) => [hdr.type, size])).toEqual([
      [RESP.OK_EDID, 128],
      [RESP.OK_EDID, 256],
      [RESP.OK_EDID, 0],
    ]);
    expect(edids[1]!.edid.subarray(0, 256)).toEqual(real);
  });

  it('stay plugged in through a reset', () => {
    using rig = new GpuRig();
    rig.gpu.setMonitor(0, virtualMonitor('a', 1280, 800, 60_000));
    rig.reset();
    expect(display(rig)[0]!.enabled).toBe(1);
  });
});

describe('VirtioGpu: a UUID', () => {
  it('is version 8, and stays the same for one resource', () => {
    using rig = new GpuRig();
    for (const id of [1, 2]) rig.type(request.create2d(id, 8, 8));
    const [first, again, other] = [1, 1, 2].map((id) =>
      Buffer.from(p.virtio_gpu_resp_resource_uuid.decode(rig.ask(request.assignUuid(id))).uuid).toString('hex'),
    );
    expect(first).toMatch(/^.{12}8.{3}[89ab]/);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  it('names what a scanout shows, before and after it is assigned', () => {
    using rig = new GpuRig();
    shown(rig);
    expect(rig.sink.shown.get(0)!.uuid).toBeUndefined();
    const { uuid } = p.virtio_gpu_resp_resource_uuid.decode(rig.ask(request.assignUuid(1)));
    expect(rig.sink.shown.get(0)!.uuid).toEqual(uuid);
    rig.ask(request.setScanout(0, 0, 0, 0, 0, 0));
    rig.ask(request.setScanout(0, 1, 0, 0, 32, 32));
    expect(rig.sink.shown.get(0)!.uuid).toEqual(uuid);
  });

  it('is reported with all of the buffer, until that goes', () => {
    using rig = new GpuRig({}, false);
    rig.ask(request.createBlob(3, 3 * PAGE, request.contiguous(3 * PAGE)));
    const { uuid } = p.virtio_gpu_resp_resource_uuid.decode(rig.ask(request.assignUuid(3)));
    const exported: [number, Framebuffer][] = [];
    const destroyed: Framebuffer[] = [];
    const sink = Object.assign(new RecordingSink(), {
      exported: (resource: number, buffer: Framebuffer) => void exported.push([resource, buffer]),
      destroyed: (buffer: Framebuffer) => void destroyed.push(buffer),
    });
    rig.gpu.connect(sink);
    expect(exported).toMatchObject([
      [3, { uuid, width: 3 * PAGE, height: 1, format: DRM_FORMAT.R8, planes: [{ offset: 0, stride: 3 * PAGE }] }],
    ]);
    rig.ask(request.unref(3));
    expect(destroyed).toEqual([exported[0]![1]]);
    rig.ask(request.createBlob(3, PAGE, request.contiguous(PAGE)));
    expect(exported.length).toBe(1);
  });

  it('goes with the driver', () => {
    using rig = new GpuRig();
    rig.ask(request.createBlob(3, PAGE, request.contiguous(PAGE)));
    rig.ask(request.assignUuid(3));
    const { length } = rig.sink.destroyedIds;
    rig.reset();
    expect(rig.sink.destroyedIds.length).toBe(length + 1);
  });
});

describe('VirtioGpu: a host that runs out', () => {
  it('of file descriptors answers out of memory, keeps the picture and recovers', () => {
    using rig = new GpuRig();
    shown(rig);
    rig.at(HEAP, PAGE).fill(3);
    using any = EventFd.create();
    const before = { ...openThings(), used: rig.gpu.budget.used };
    let types: number[] = [];
    withFreeFds(any, 0, () => {
      types = [request.detach(1), request.transfer(1, 0, 1, 32, 1, 0)].map((bytes) => rig.type(bytes));
    });
    expect(types).toEqual([RESP.ERR_OUT_OF_MEMORY, RESP.ERR_OUT_OF_MEMORY]);
    expect({ ...openThings(), used: rig.gpu.budget.used }).toEqual(before);
    expect(rig.type(request.detach(1))).toBe(RESP.OK_NODATA);
    expect(rig.sink.shown.get(0)!.backing).toMatchObject({ kind: 'pages' });
  });
});

describe('VirtioGpu: a queue', () => {
  it('is watched ever less for a driver that does something else after each answer', () => {
    using rig = new GpuRig();
    using watch = vi.spyOn(Virtqueue.prototype, 'watch').mockReturnValue(false);
    for (let i = 0; i < 1024; i++) rig.ask(request.create2d(0, 8, 8));
    expect(watch.mock.calls.length).toBeLessThan(16);
  });

  it('is watched after each answer for a driver that waits for it', async () => {
    using rig = new GpuRig();
    using watch = vi.spyOn(Virtqueue.prototype, 'watch').mockImplementation(() => {
      rig.drain();
      if (watch.mock.calls.length === 100) return false;
      rig.drivers[0]!.submit(request.create2d(0, 8, 8), 1056);
      return true;
    });
    rig.ask(request.create2d(0, 8, 8));
    await eventually(() => expect(watch).toHaveBeenCalledTimes(100));
    expect(rig.gpu.stats.commands).toBe(100);
  });
});

describe('VirtioGpu: a tap', () => {
  /** Writes down what it is told. */
  function writingTap(seen: string[]): GpuTap {
    return {
      isBusy: false,
      attached: (budget) => seen.push(`attached ${budget.limit}`),
      monitorChanged: (scanout, monitor) => seen.push(`monitor ${scanout} ${String(monitor?.name)}`),
      memoryChanged: () => seen.push('memory'),
      negotiated: () => seen.push('negotiated'),
      pixels: (address, bytes, length) => seen.push(`${length} of ${bytes[0]!} at HEAP+${address - HEAP}`),
      command: (queue, bytes, length, space) =>
        seen.push(`${queue}: ${p.commandName(new DataView(bytes.buffer).getUint32(0, true))} ${length} -> ${space}`),
      reset: () => seen.push('reset'),
    };
  }

  it('sees every command after the pixels that it uses', () => {
    const seen: string[] = [];
    using rig = new GpuRig({ tap: writingTap(seen), maxGuestMemory: 10 ** 6 });
    expect(seen).toEqual(['attached 1000000', 'negotiated', 'memory']);
    rig.at(HEAP, RAM_SIZE / 2).fill(0x11);
    rig.type(request.create2d(1, 32, 32));
    rig.type(request.attach(1, request.scattered(1)));
    rig.type(request.createBlob(2, 4 * PAGE, request.contiguous(4 * PAGE, HEAP + 8)));
    rig.type(request.setScanoutBlob(0, 2, { width: 32, height: 2, stride: 128, offset: 256 }));
    seen.length = 0;
    rig.type(request.transfer(1, 4, 4, 8, 2, 4 * 128 + 16));
    rig.send(request.flush(2, 0, 0, 1, 1));
    rig.reset();
    expect(seen).toEqual([
      '32 of 17 at HEAP+528',
      '32 of 17 at HEAP+656',
      '0: TRANSFER_TO_HOST_2D 56 -> 1056',
      '128 of 17 at HEAP+264',
      '128 of 17 at HEAP+392',
      '0: RESOURCE_FLUSH 48 -> 1056',
      'reset',
    ]);
  });

  it('sees the pixels of a cursor in a blob', () => {
    const seen: string[] = [];
    using rig = new GpuRig({ tap: writingTap(seen) });
    rig.type(request.createBlob(2, 4 * PAGE, request.contiguous(4 * PAGE)));
    seen.length = 0;
    rig.send(request.updateCursor(0, 2, 0, 0), 0, 1);
    expect(seen).toEqual([
      ...Array.from({ length: 64 }, (_, row) => `256 of 0 at HEAP+${row * 256}`),
      '1: UPDATE_CURSOR 56 -> 0',
    ]);
  });

  it('sees each entry of a backing at its own address', () => {
    const seen: string[] = [];
    using rig = new GpuRig({ tap: writingTap(seen) });
    rig.type(request.create2d(1, 8, 1));
    rig.type(
      request.attach(1, [
        { addr: HEAP + 100, length: 20 },
        { addr: HEAP, length: 30 },
      ]),
    );
    seen.length = 0;
    rig.type(request.transfer(1, 0, 0, 8, 1, 0));
    expect(seen.slice(0, 2)).toEqual(['20 of 0 at HEAP+100', '12 of 0 at HEAP+0']);
  });
});

describe('VirtioGpu: a command with much to do', () => {
  const WIDTH = 8192;
  const HEIGHT = 4096;
  const BYTES = WIDTH * HEIGHT * 4;
  const CHUNK = 2 ** 20;
  const typeOf = ({ bytes }: { bytes: Uint8Array }) => p.virtio_gpu_ctrl_hdr.decode(bytes).type;

  /** Names a MiB of memory again and again. `offset` 4 makes that pages that cannot be mapped. */
  const alias = (bytes: number, offset = 0): request.Entry[] =>
    Array.from({ length: bytes / CHUNK }, () => ({ addr: HEAP + offset, length: CHUNK }));

  /** Resource 1, of 128 MiB in a store, on scanout 0. */
  function large(options: VirtioGpuOptions = {}): GpuRig {
    const rig = new GpuRig(options);
    for (const bytes of [
      request.create2d(1, WIDTH, HEIGHT),
      request.attach(1, alias(BYTES, 4)),
      request.setScanout(0, 1, 0, 0, WIDTH, HEIGHT),
    ])
      expect(rig.type(bytes)).toBe(RESP.OK_NODATA);
    return rig;
  }

  const everything = request.transfer(1, 0, 0, WIDTH, HEIGHT, 0);

  it.each<[string, (rig: GpuRig) => Uint8Array]>([
    ['a transfer into a store', () => everything],
    [
      'a transfer that moves the picture into a store',
      (rig) => {
        rig.type(request.unref(1));
        rig.type(request.create2d(1, WIDTH, HEIGHT));
        rig.type(request.attach(1, alias(BYTES)));
        rig.type(request.transfer(1, 0, 0, WIDTH, HEIGHT, 0));
        return request.transfer(1, 0, 0, 1, 1, 4);
      },
    ],
    [
      'detaching the backing of a picture that is still needed',
      (rig) => {
        rig.type(request.unref(1));
        rig.type(request.create2d(1, WIDTH, HEIGHT));
        rig.type(request.attach(1, alias(BYTES)));
        rig.type(request.transfer(1, 0, 0, WIDTH, HEIGHT, 0));
        return request.detach(1);
      },
    ],
    [
      'a flush of a blob that is in a store',
      (rig) => {
        rig.type(request.unref(1));
        rig.type(request.createBlob(1, BYTES, alias(BYTES, 4)));
        rig.type(request.setScanoutBlob(0, 1, { width: WIDTH, height: HEIGHT, stride: WIDTH * 4, offset: 0 }));
        rig.sink.isDoneAtOnce = true;
        return request.flush(1, 0, 0, 1, 1);
      },
    ],
  ])('%s goes on in the next turns, and what comes after it waits', async (_name, prepare) => {
    using rig = large();
    const bytes = prepare(rig);
    const order: number[] = [];
    const [token, later] = [rig.send(bytes), rig.send(request.create2d(9, 8, 8))];
    expect([rig.answer(token), rig.answer(later)]).toEqual([undefined, undefined]);
    expect(rig.type(request.moveCursor(0, 5, 5), 1)).toBe(RESP.OK_NODATA);
    void rig.answered(token).then(() => order.push(token));
    expect(typeOf(await rig.answered(later).finally(() => order.push(later)))).toBe(RESP.OK_NODATA);
    expect(order).toEqual([token, later]);
    expect(rig.log).toEqual([]);
  });

  it('copies every row', async () => {
    using rig = large();
    const memory = rig.at(HEAP + 4, CHUNK);
    for (let i = 0; i < CHUNK; i++) memory[i] = (i * 7 + (i >> 9)) & 0xff;
    await rig.answered(rig.send(everything));
    const { backing } = rig.sink.shown.get(0)!;
    if (backing.kind !== 'pages') throw new Error('not in pages');
    const bytes = bytesOf(backing.pixels());
    for (let at = 0; at < BYTES; at += CHUNK)
      expect(Buffer.compare(bytes.subarray(at, at + CHUNK), memory), `MiB ${at / CHUNK}`).toBe(0);
  });

  it('is answered when its queue stops, and does nothing after that', async () => {
    using rig = large();
    const token = rig.send(everything);
    rig.gpu.queueStopped(0);
    expect(rig.answer(token)?.written).toBe(p.virtio_gpu_ctrl_hdr.size);
    const { commands } = rig.gpu.stats;
    await turn();
    expect(rig.gpu.stats.commands).toBe(commands);
  });

  it('leaves nothing behind when the device is reset', async () => {
    const before = openThings();
    {
      using rig = large();
      rig.type(request.unref(1));
      rig.type(request.create2d(1, WIDTH, HEIGHT));
      rig.type(request.attach(1, alias(BYTES)));
      rig.type(request.transfer(1, 0, 0, WIDTH, HEIGHT, 0));
      const empty = { ...openThings() };
      rig.send(request.detach(1));
      rig.reset();
      await turn();
      expect(rig.gpu.budget.used).toBe(0);
      expect(openThings()).toEqual(empty);
    }
    expect(openThings()).toEqual(before);
  });

  it('ends when the memory it reads is taken away', async () => {
    using rig = large();
    const token = rig.send(everything);
    rig.changeMemory(rig.mapMemory(16 * 2 ** 20));
    await rig.answered(token);
    expect(rig.type(everything)).toBe(RESP.ERR_INVALID_RESOURCE_ID);
  });

  it('waits, like all commands, while the tap is busy', async () => {
    const tap = { ...silentTap(), isBusy: false };
    let resume = (): void => undefined;
    tap.attached = (_budget, toResume) => (resume = toResume);
    tap.pixels = () => (tap.isBusy = true);
    using rig = large({ tap });
    const token = rig.send(everything);
    const cursor = rig.send(request.moveCursor(0, 1, 1), 24, 1);
    for (let i = 0; i < 5; i++) await turn();
    expect([rig.answer(token), rig.answer(cursor, 1)]).toEqual([undefined, undefined]);
    tap.pixels = () => undefined;
    tap.isBusy = false;
    resume();
    expect(rig.answer(cursor, 1)).toBeDefined();
    expect(typeOf(await rig.answered(token))).toBe(RESP.OK_NODATA);
  });
});

describe('VirtioGpu: any stream of commands', () => {
  const small = fc.integer({ min: 0, max: 5 });
  const size = fc.oneof(fc.integer({ min: 0, max: 80 }), fc.constantFrom(16384, 16385, 2 ** 31, 2 ** 32 - 1));
  const offset = fc.oneof(fc.integer({ min: 0, max: 20_000 }), fc.constantFrom(2 ** 32, 2 ** 63));
  const address = fc.oneof(
    fc.integer({ min: 0, max: 8 }).map((page) => HEAP + page * PAGE),
    fc.integer({ min: 0, max: 8 * PAGE }).map((at) => HEAP + at),
    fc.constantFrom(0, HEAP + RAM_SIZE),
  );
  const entries = fc.array(
    fc.record({
      addr: address,
      length: fc.oneof(fc.constantFrom(PAGE, 2 * PAGE, 16384), fc.integer({ min: 0, max: 20_000 })),
    }),
    { maxLength: 4 },
  );
  const command = fc.oneof(
    fc.tuple(small, size, size).map((a) => request.create2d(...a)),
    fc.constantFrom(1, 2, 3, 4).map((id) => request.create2d(id, 32, 32)),
    small.map(request.unref),
    fc.tuple(small, entries).map((a) => request.attach(...a)),
    small.map(request.detach),
    fc.tuple(small, small, size, size, size, size).map((a) => request.setScanout(...a)),
    fc.tuple(fc.constantFrom(0, 1), small).map(([scanout, id]) => request.setScanout(scanout, id, 0, 0, 32, 32)),
    fc.tuple(small, size, size, size, size, offset).map((a) => request.transfer(...a)),
    fc.tuple(small, offset).map(([id, at]) => request.transfer(id, 0, 0, 32, 32, at)),
    fc.tuple(small, size, size, size, size).map((a) => request.flush(...a)),
    fc.tuple(small, fc.bigInt(0n, 99n)).map(([id, fence]) => request.flush(id, 0, 0, 32, 32, { id: fence })),
    fc.tuple(small, offset, entries).map((a) => request.createBlob(...a)),
    fc
      .tuple(
        small,
        small,
        fc.record({
          width: size,
          height: size,
          stride: fc.constantFrom(0, 128, 256, 2 ** 32 - 4),
          offset: fc.constantFrom(0, 4, 4096),
        }),
      )
      .map((a) => request.setScanoutBlob(...a)),
    fc.tuple(small, small, size, size).map((a) => request.updateCursor(...a)),
    fc.uint8Array({ maxLength: 64 }),
  );

  it('is answered, throws nothing and leaves nothing behind', () => {
    using rig = new GpuRig({ scanouts: 2, maxGuestMemory: 200_000 });
    rig.sink.isDoneAtOnce = true;
    rig.sink.readsPixels = true;
    const before = openThings();
    fc.assert(
      fc.property(fc.array(fc.tuple(command, fc.constantFrom(0, 0, 0, 1)), { maxLength: 60 }), (commands) => {
        for (const [bytes, queue] of commands) if (bytes.length > 0) rig.ask(bytes, 1056, queue);
        rig.reset();
        expect(rig.gpu.budget.used).toBe(0);
        expect(rig.gpu.stats).toMatchObject({ resources: 0, storeBytes: 0 });
        expect(rig.broken).toEqual([]);
        expect(rig.log.filter((line) => line.startsWith('error'))).toEqual([]);
        rig.sink.takeCalls();
        rig.sink.pictures.length = 0;
      }),
      { numRuns: 300 },
    );
    expect(openThings()).toEqual(before);
  });
});
