import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VHOST_USER_PROTOCOL_F } from '../../../protocols/vhost-user.ts';
import { VIRTIO_GPU_RESP } from '../../../protocols/virtio-gpu.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { PlaneCache, type PlaneCacheStats } from '../../../src/bridge/plane-imports.ts';
import { type FramebufferId, newFramebufferId } from '../../../src/core/framebuffer.ts';
import { FrontEnd } from '../../rig/front-end.ts';
import { VhostUserGuest } from '../../../src/guest/vhost-user/guest.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import * as request from '../guest/virtio-gpu/requests.ts';
import { GpuRig, HEAP, PAGE, pixelsOf, RAM, RAM_SIZE } from '../guest/virtio-gpu/rig.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';
import { FakeHandle, FakeOutput } from './fakes.ts';

const FIRST = 0;
const OK = VIRTIO_GPU_RESP.OK_NODATA;
/** As many as it keeps. */
const CAPACITY = 64;
/** 32x32 pixels are one page. */
const SIDE = 32;

describe('PlaneCache', () => {
  const deleted: FramebufferId[] = [];

  function filled(count: number, isHeld = false): { cache: PlaneCache; ids: FramebufferId[]; handles: FakeHandle[] } {
    deleted.length = 0;
    const cache = new PlaneCache((id) => deleted.push(id));
    const handles = Array.from({ length: count }, () => new FakeHandle());
    const ids = handles.map((handle) => {
      const id = newFramebufferId();
      handle.isHeld = isHeld;
      cache.add(id, handle, PAGE);
      return id;
    });
    return { cache, ids, handles };
  }

  test('evicts the least recently used handle to make room', () => {
    const { cache, ids, handles } = filled(CAPACITY);
    cache.get(ids[0]!);
    const late = filled(2);

    for (const [i, handle] of late.handles.entries()) cache.add(late.ids[i]!, handle, PAGE);

    expect(handles.flatMap(({ isDisposed }, i) => (isDisposed ? [i] : []))).toEqual([1, 2]);
    expect(cache.get(ids[1]!)).toBeNull();
    expect(cache.stats).toEqual({ hits: 1, imports: CAPACITY + 2, evictions: 2, pinnedBytes: CAPACITY * PAGE });
  });

  test('evicts no held handle, even if all are held', () => {
    const { cache, handles } = filled(CAPACITY + 3, true);

    expect(handles.some(({ isDisposed }) => isDisposed)).toBe(false);
    expect(cache.stats).toEqual({ hits: 0, imports: CAPACITY + 3, evictions: 0, pinnedBytes: (CAPACITY + 3) * PAGE });
  });

  test('shrinks to its capacity once handles are no longer held', () => {
    const { cache, handles } = filled(CAPACITY + 3, true);
    for (const handle of handles) handle.isHeld = false;

    cache.add(newFramebufferId(), new FakeHandle(), PAGE);

    expect(cache.stats).toMatchObject({ evictions: 4, pinnedBytes: CAPACITY * PAGE });
  });

  test('disposes a deleted handle once, and the rest on dispose', () => {
    const { cache, ids, handles } = filled(3);

    cache.delete(ids[1]!);
    cache.delete(ids[1]!);

    expect(handles.map(({ isDisposed }) => isDisposed)).toEqual([false, true, false]);
    expect(deleted).toEqual([ids[1]]);
    expect(cache.stats).toEqual({ hits: 0, imports: 3, evictions: 0, pinnedBytes: 2 * PAGE });
    cache[Symbol.dispose]();
    expect(handles.every(({ isDisposed }) => isDisposed)).toBe(true);
    expect(cache.stats.pinnedBytes).toBe(0);
  });
});

/** A guest's driver on real rings, the device, the bridge, and a screen that reads guest pages. */
class Stage implements Disposable {
  readonly rig: GpuRig;
  readonly output: FakeOutput;
  readonly bridge: Bridge;
  readonly #stack = new DisposableStack();

  constructor() {
    this.rig = this.#stack.use(new GpuRig({}, false));
    this.output = this.#stack.use(new FakeOutput({ readsPages: true }));
    this.bridge = this.#stack.use(new Bridge(this.rig.gpu, { zeroCopy: 'all' }));
    this.bridge.show(FIRST, this.output);
  }

  get stats(): PlaneCacheStats {
    return statsOf(this.bridge);
  }

  run(...requests: Uint8Array[]): void {
    for (const bytes of requests) expect(this.rig.type(bytes)).toBe(OK);
  }

  /** A resource of `side` by `side` pixels; number n lies n MiB into the heap. */
  create(id: number, side = SIDE): void {
    this.run(request.create2d(id, side, side), request.attach(id, request.contiguous(side * side * 4, placeOf(id))));
  }

  /** Shown from the next vertical blank on. */
  flip(id: number, side = SIDE): void {
    this.run(request.setScanout(0, id, 0, 0, side, side));
    this.rig.send(request.flush(id, 0, 0, side, side));
  }

  show(id: number, side = SIDE): void {
    this.flip(id, side);
    this.output.vblank();
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

function placeOf(id: number): number {
  return HEAP + (id % 40) * 2 ** 20 + Math.floor(id / 40) * PAGE;
}

function statsOf(bridge: Bridge): PlaneCacheStats {
  const { hits, imports, evictions, pinnedBytes } = bridge.stats[0]!.screens[0]!.primary;
  return { hits, imports, evictions, pinnedBytes };
}

describe("a screen's handles, when the guest", () => {
  expectNoLeaks();

  test('flips between framebuffers, exist once per framebuffer', () => {
    using stage = new Stage();
    for (const id of [1, 2, 3]) stage.create(id);

    for (let i = 0; i < 30; i++) stage.show(1 + (i % 3));

    expect(stage.stats).toEqual({ hits: 27, imports: 3, evictions: 0, pinnedBytes: 3 * PAGE });
  });

  test("destroys a resource that is not shown, lose only that one's handle", () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    for (const id of [1, 2]) stage.show(id);

    stage.run(request.unref(1));

    expect(stage.output.imported.map(({ handle }) => handle.isDisposed)).toEqual([true, false]);
    expect(stage.stats).toEqual({ hits: 0, imports: 2, evictions: 0, pinnedBytes: PAGE });
  });

  test.each([
    ['on screen', (stage: Stage) => stage.show(1)],
    ['in flight', (stage: Stage) => stage.flip(1)],
    [
      'to be shown next',
      (stage: Stage) => {
        stage.create(2);
        stage.flip(2);
        stage.flip(1);
        stage.run(request.unref(2));
      },
    ],
  ])('gives up the resource that is %s, go at once, and the screen is blank', (_, arrange) => {
    using stage = new Stage();
    stage.create(1);
    arrange(stage);

    stage.run(request.unref(1));
    for (let i = 0; i < 2; i++) stage.output.vblank();

    expect(stage.output.live).toEqual([]);
    expect(stage.output.presents.at(-1)!.handle).toBeNull();
    expect(stage.stats.pinnedBytes).toBe(0);
  });

  test.each([
    ['on screen', true],
    ['in flight', false],
  ])('detaches the pages of a resource that is %s, are made again from the saved picture', (_, isShown) => {
    using stage = new Stage();
    stage.create(1);
    stage.rig.at(placeOf(1), PAGE).fill(0x5a);
    stage.flip(1);
    if (isShown) stage.output.vblank();

    stage.run(request.detach(1));
    stage.rig.at(placeOf(1), PAGE).fill(0);
    stage.output.vblank();

    const [before, after] = stage.output.imported;
    expect([before!.handle.isDisposed, after!.handle.isDisposed]).toEqual([true, false]);
    expect(stage.output.presents.at(-1)!.handle).toBe(after!.handle);
    expect(pixelsOf(after!.framebuffer)).toEqual(new Uint8Array(PAGE).fill(0x5a));
    expect(stage.stats).toEqual({ hits: 0, imports: 2, evictions: 0, pinnedBytes: PAGE });
  });

  test('detaches the pages of a resource shown earlier, lose its handle', () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    for (const id of [1, 2]) stage.show(id);

    stage.run(request.detach(1));

    expect(stage.output.imported.map(({ handle }) => handle.isDisposed)).toEqual([true, false]);
    expect(stage.stats.pinnedBytes).toBe(PAGE);
  });

  test('gets a new memory table, are made again from the same pages', () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    for (const id of [1, 2]) stage.show(id);

    stage.rig.changeMemory(stage.rig.mapMemory());
    stage.output.vblank();
    stage.show(1);

    expect(stage.output.imported.map(({ handle }) => handle.isDisposed)).toEqual([true, true, false, false]);
    expect(stage.output.presents.at(-1)!.handle).toBe(stage.output.imported[3]!.handle);
    expect(stage.stats).toEqual({ hits: 0, imports: 4, evictions: 0, pinnedBytes: 2 * PAGE });
  });

  test('loses its pages with a new memory table, are disposed and the screen goes blank', () => {
    using stage = new Stage();
    const entries = request.contiguous(PAGE, RAM + RAM_SIZE - PAGE);
    stage.run(request.create2d(1, SIDE, SIDE), request.attach(1, entries));
    stage.show(1);

    stage.rig.changeMemory(stage.rig.mapMemory(RAM_SIZE / 2));
    stage.output.vblank();

    expect(stage.output.live).toEqual([]);
    expect(stage.output.presents.at(-1)!.handle).toBeNull();
    expect(stage.stats).toEqual({ hits: 0, imports: 1, evictions: 0, pinnedBytes: 0 });
  });

  test('changes its mode, are those of the new framebuffers', () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    for (const id of [1, 2]) stage.show(id);

    for (const id of [3, 4]) stage.create(id, 64);
    stage.show(3, 64);
    stage.run(request.unref(1), request.unref(2));
    for (const id of [4, 3, 4]) stage.show(id, 64);

    expect(stage.output.live).toHaveLength(2);
    expect(stage.stats).toEqual({ hits: 2, imports: 4, evictions: 0, pinnedBytes: 2 * 4 * PAGE });
  });

  test('shows another part of the same framebuffer, are kept', () => {
    using stage = new Stage();
    stage.create(1, 64);
    stage.show(1, 64);

    stage.show(1, SIDE);

    expect(stage.output.live).toHaveLength(1);
    expect(stage.stats).toEqual({ hits: 1, imports: 1, evictions: 0, pinnedBytes: 4 * PAGE });
  });

  test('resets its device, are disposed', () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    for (const id of [1, 2]) stage.show(id);

    stage.rig.reset();

    expect(stage.output.live).toEqual([]);
    expect(stage.stats.pinnedBytes).toBe(0);
  });
});

describe('an output that closes', () => {
  expectNoLeaks();

  test.each([
    ['between frames', (stage: Stage) => stage.show(2)],
    ['with a frame in flight', (stage: Stage) => stage.flip(2)],
  ])('%s leaves no handle, and the next one has its own', (_, lastFrame) => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    stage.show(1);
    lastFrame(stage);

    stage.output.lose();

    expect(stage.output.live).toEqual([]);
    using next = new FakeOutput({ name: 'next', readsPages: true });
    stage.bridge.show(FIRST, next);
    next.vblank();
    for (const id of [1, 2]) {
      stage.flip(id);
      next.vblank();
    }
    expect(next.live).toHaveLength(2);
    expect(stage.stats).toEqual({ hits: 1, imports: 2, evictions: 0, pinnedBytes: 2 * PAGE });
    stage.bridge.hide(next);
    expect(next.live).toEqual([]);
  });
});

describe('a guest with more framebuffers than the cache keeps', () => {
  expectNoLeaks();

  test('never loses a handle that is on screen, in flight or still held', () => {
    using stage = new Stage();
    for (let id = 1; id <= CAPACITY + 10; id++) stage.create(id);
    stage.show(1);
    stage.flip(2);
    stage.output.vblank({ keepReplaced: true });
    stage.flip(3);

    for (let id = 4; id <= CAPACITY + 10; id++) {
      stage.output.vblank({ keepReplaced: id <= 5 });
      stage.flip(id);
    }

    const disposed = stage.output.imported.flatMap(({ handle }, i) => (handle.isDisposed ? [i + 1] : []));
    expect(disposed).toEqual([4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    expect(stage.stats).toEqual({ hits: 0, imports: CAPACITY + 10, evictions: 10, pinnedBytes: CAPACITY * PAGE });
    stage.output.vblank();
    expect(stage.output.presents.at(-1)!.handle).toBe(stage.output.imported.at(-1)!.handle);
  });

  test('has an evicted framebuffer imported again', () => {
    using stage = new Stage();
    for (let id = 1; id <= CAPACITY + 1; id++) stage.create(id);
    for (let id = 1; id <= CAPACITY + 1; id++) stage.show(id);

    stage.show(1);

    expect(stage.stats).toEqual({ hits: 0, imports: CAPACITY + 2, evictions: 2, pinnedBytes: CAPACITY * PAGE });
    expect(stage.output.live).toHaveLength(CAPACITY);
  });
});

describe('a front end that changes the memory table during a session', () => {
  expectNoLeaks();
  const MIB = 2 ** 20;
  const LOW = { guestAddress: 0, size: MIB };
  const HIGH = { guestAddress: 2 * MIB, size: MIB };
  const MORE = { guestAddress: 4 * MIB, size: MIB };
  let directory: string;
  let stack: DisposableStack;
  let output: FakeOutput;
  let bridge: Bridge;
  let frontEnd: FrontEnd;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'plane-cache-'));
    stack = new DisposableStack();
  });

  afterEach(() => {
    stack[Symbol.dispose]();
    rmSync(directory, { recursive: true });
  });

  async function run(...requests: Uint8Array[]): Promise<void> {
    for (const bytes of requests) {
      const response = await frontEnd.request(0, bytes, 24);
      expect(new DataView(response.buffer, response.byteOffset).getUint32(0, true)).toBe(OK);
    }
  }

  /** Resource 1 in low memory is on screen, 2 in high memory was before. */
  async function arrange(protocolFeatures: bigint): Promise<void> {
    const socket = join(directory, 'socket');
    const guest = stack.use(VhostUserGuest.open({ socket }));
    output = stack.use(new FakeOutput({ readsPages: true }));
    bridge = stack.use(new Bridge(guest, { zeroCopy: 'all' }));
    bridge.show(FIRST, output);
    frontEnd = stack.use(FrontEnd.create({ socket: connectUnix(socket), memory: [LOW, HIGH], protocolFeatures }));
    await frontEnd.connect();
    for (const [id, addr] of [
      [2, HIGH.guestAddress],
      [1, LOW.guestAddress],
    ] as const) {
      await run(
        request.create2d(id, SIDE, SIDE),
        request.attach(id, [{ addr, length: PAGE }]),
        request.setScanout(0, id, 0, 0, SIDE, SIDE),
      );
      const flushed = run(request.flush(id, 0, 0, SIDE, SIDE));
      output.onPresent = () => output.vblank();
      await flushed;
    }
  }

  const disposed = (): boolean[] => output.imported.map(({ handle }) => handle.isDisposed);

  test('by another SET_MEM_TABLE has each framebuffer imported again, once', async () => {
    await arrange(~(1n << BigInt(VHOST_USER_PROTOCOL_F.CONFIGURE_MEM_SLOTS)));

    await frontEnd.setMemory([LOW, HIGH, MORE]);

    expect(disposed()).toEqual([true, true, false]);
    await run(request.setScanout(0, 2, 0, 0, SIDE, SIDE), request.flush(2, 0, 0, SIDE, SIDE));
    expect(statsOf(bridge)).toEqual({ hits: 0, imports: 4, evictions: 0, pinnedBytes: 2 * PAGE });
  });

  test('by ADD_MEM_REG keeps every handle', async () => {
    await arrange(~0n);

    await frontEnd.setMemory([LOW, HIGH, MORE]);

    expect(disposed()).toEqual([false, false]);
    expect(statsOf(bridge)).toEqual({ hits: 0, imports: 2, evictions: 0, pinnedBytes: 2 * PAGE });
  });

  test('by REM_MEM_REG loses the handles of that region only', async () => {
    await arrange(~0n);

    await frontEnd.setMemory([LOW]);

    expect(disposed()).toEqual([true, false]);
    expect(statsOf(bridge)).toEqual({ hits: 0, imports: 2, evictions: 0, pinnedBytes: PAGE });
    await frontEnd.setMemory([]);
    expect(disposed()).toEqual([true, true]);
    expect(statsOf(bridge).pinnedBytes).toBe(0);
    expect(output.presents.at(-1)!.handle).toBeNull();
  });
});
