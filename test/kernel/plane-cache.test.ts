import { describe, expect, test } from 'vitest';
import { VIRTIO_GPU_RESP } from '../../protocols/virtio-gpu.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { PlaneStats } from '../../src/bridge/plane-buffers.ts';
import type { Picture } from '../../src/core/picture.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { expectSamePicture, pictureOfBgrx } from '../rig/picture.ts';
import * as request from '../unit/guest/virtio-gpu/requests.ts';
import { GpuRig, HEAP, RAM, RAM_SIZE } from '../unit/guest/virtio-gpu/rig.ts';
import { kernelObjects, skipWithoutVkms, TestScreen, vkmsCard } from './kms-rig.ts';
import { dmabufCount, expectNothingLeft, expectSettled } from './machine.ts';

const FIRST = 0;
const OK = VIRTIO_GPU_RESP.OK_NODATA;
const CAPACITY = 64;
const WIDTH = 640;
const HEIGHT = 480;
const BYTES = WIDTH * HEIGHT * 4;
/** 32x32 pixels fill one page. */
const SMALL = 32;
const card = vkmsCard() ?? '';

interface Objects {
  dmabufs: number;
  handles: number;
  framebuffers: number;
}

/** A guest's driver on real rings, whose pages are shown on a real plane of a card. */
class Stage implements Disposable {
  #fences = 0;
  readonly rig: GpuRig;
  readonly bridge: Bridge;
  screen: TestScreen;
  readonly #stack = new DisposableStack();
  #before: Objects;

  constructor() {
    this.rig = this.#stack.use(new GpuRig({}, false));
    this.bridge = this.#stack.use(new Bridge(this.rig.gpu, { zeroCopy: 'all' }));
    this.screen = new TestScreen();
    this.#before = this.#objects();
    this.bridge.show(FIRST, this.screen.output);
  }

  /** Closes the screen and opens a new one. `between` gets the number of dma-bufs that exist in between. */
  replaceScreen(between: (dmabufs: number) => void): void {
    const { dmabufs } = this.#before;
    this.bridge.hide(this.screen.output);
    this.screen[Symbol.dispose]();
    between(dmabufCount() - dmabufs);
    this.screen = new TestScreen();
    this.#before = { ...this.#objects(), dmabufs };
    this.bridge.show(FIRST, this.screen.output);
  }

  /** Kernel objects that exist for the guest's pictures. Valid before the first `expectShown`, which creates its own. */
  get made(): Objects {
    const now = this.#objects();
    return {
      dmabufs: now.dmabufs - this.#before.dmabufs,
      handles: now.handles - this.#before.handles,
      framebuffers: now.framebuffers - this.#before.framebuffers,
    };
  }

  get stats(): PlaneStats {
    return this.bridge.stats[0]!.screens[0]!.primary;
  }

  run(...requests: Uint8Array[]): void {
    for (const bytes of requests) expect(this.rig.type(bytes)).toBe(OK);
  }

  /** Creates resource `id`, with a picture that depends on `id`, at `address`. */
  create(id: number, address = placeOf(id), width = WIDTH, height = HEIGHT): void {
    const bytes = this.rig.at(address, width * height * 4);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 9) * 13 + id * 31) & 0xff;
    this.run(request.create2d(id, width, height), request.attach(id, request.contiguous(bytes.length, address)));
  }

  /** The picture of the bytes at `address`, as a screen shows it. */
  pictureAt(address: number): Picture {
    return pictureOfBgrx(WIDTH, HEIGHT, this.rig.at(address, BYTES));
  }

  /** Resolves when the device has answered the flush, which means that the picture is on screen. */
  show(id: number, width = WIDTH, height = HEIGHT): Promise<void> {
    const { rig } = this;
    this.run(request.setScanout(0, id, 0, 0, width, height));
    // With a fence, a redraw too is answered only after the frame before it is on screen.
    const token = rig.send(request.flush(id, 0, 0, width, height, { id: BigInt(++this.#fences) }));
    return new Promise((resolve) => {
      rig.onCall = () => {
        if (!rig.answer(token)) return;
        rig.onCall = () => undefined;
        resolve();
      };
      rig.onCall();
    });
  }

  async expectShown(picture: Picture, name: string): Promise<void> {
    expectSamePicture(await this.screen.writeback.take(), picture, `cache-${name}`);
  }

  [Symbol.dispose](): void {
    this.bridge.hide(this.screen.output);
    this.screen[Symbol.dispose]();
    this.#stack[Symbol.dispose]();
  }

  #objects(): Objects {
    return {
      dmabufs: dmabufCount(),
      handles: this.screen.device.gem.count,
      framebuffers: kernelObjects(card).framebuffers,
    };
  }
}

const placeOf = (id: number): number => HEAP + id * 2 * 2 ** 20;
const one = (count: number): Objects => ({ dmabufs: count, handles: count, framebuffers: count });

describe.skipIf(skipWithoutVkms())('kernel objects of pictures on a plane', () => {
  expectNothingLeft();

  test('are freed with the resource, whether it is on screen or not', async () => {
    using stage = new Stage();
    for (const id of [1, 2, 3]) stage.create(id);
    for (const id of [1, 2]) await stage.show(id);
    await expectSettled(() => stage.made, one(2));

    stage.run(request.unref(1));
    await expectSettled(() => stage.made, one(1));
    stage.run(request.unref(2));
    await stage.show(3);

    await expectSettled(() => stage.made, one(1));
    expect(stage.stats).toMatchObject({
      rung: 'udmabuf',
      hits: 0,
      imports: 3,
      evictions: 0,
      pinnedBytes: BYTES,
      copiedBytes: 0,
    });
    await stage.expectShown(stage.pictureAt(placeOf(3)), 'unref');
  });

  test('are replaced by those of the store if pages are detached while on screen', async () => {
    using stage = new Stage();
    stage.create(1);
    await stage.show(1);
    const picture = stage.pictureAt(placeOf(1));

    // The picture is saved first, which may take several turns of the event loop.
    await stage.rig.answered(stage.rig.send(request.detach(1)));
    stage.rig.at(placeOf(1), BYTES).fill(0);
    await stage.show(1);

    await expectSettled(() => stage.made, one(1));
    await stage.expectShown(picture, 'detach');
    expect(stage.stats).toMatchObject({ rung: 'udmabuf', hits: 0, imports: 2, evictions: 0, pinnedBytes: BYTES });
  });

  test('are created again if the guest gets a new memory table', async () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    for (const id of [1, 2]) await stage.show(id);

    stage.rig.changeMemory(stage.rig.mapMemory());
    await stage.show(1);

    await expectSettled(() => stage.made, one(2));
    await stage.expectShown(stage.pictureAt(placeOf(1)), 'table');
    expect(stage.stats).toMatchObject({ rung: 'udmabuf', imports: 4, evictions: 0, pinnedBytes: 2 * BYTES });
  });

  test('are freed if a new memory table lacks their pages', async () => {
    using stage = new Stage();
    stage.create(1);
    stage.create(2, RAM + RAM_SIZE - 2 ** 21);
    await stage.show(2);

    stage.rig.changeMemory(stage.rig.mapMemory(RAM_SIZE / 2));
    await stage.show(1);

    await expectSettled(() => stage.made, one(1));
    await stage.expectShown(stage.pictureAt(placeOf(1)), 'table-smaller');
    expect(stage.stats).toMatchObject({ rung: 'udmabuf', imports: 2, pinnedBytes: BYTES });
  });

  test('are only those of the new pictures after a mode change', async () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id, placeOf(id), 320, 200);
    for (const id of [1, 2]) await stage.show(id, 320, 200);

    for (const id of [3, 4]) stage.create(id);
    await stage.show(3);
    stage.run(request.unref(1), request.unref(2));
    for (const id of [4, 3, 4]) await stage.show(id);

    await expectSettled(() => stage.made, one(2));
    await stage.expectShown(stage.pictureAt(placeOf(4)), 'mode');
    expect(stage.stats).toMatchObject({ rung: 'udmabuf', hits: 2, imports: 4, evictions: 0, pinnedBytes: 2 * BYTES });
  });

  test('are given up with the screen, and created again for the next one', async () => {
    using stage = new Stage();
    for (const id of [1, 2]) stage.create(id);
    for (const id of [1, 2]) await stage.show(id);

    stage.replaceScreen((dmabufs) => expect(dmabufs).toBe(0));
    for (const id of [1, 2]) await stage.show(id);

    await expectSettled(() => stage.made, one(2));
    await stage.expectShown(stage.pictureAt(placeOf(2)), 'next-screen');
    expect(stage.stats).toMatchObject({ rung: 'udmabuf', imports: 2, pinnedBytes: 2 * BYTES });
  });

  test('are limited in number, however many framebuffers the guest has', async () => {
    using stage = new Stage();
    const count = CAPACITY + 6;
    for (let id = 1; id <= count; id++) stage.create(id, HEAP + id * 2 * 4096, SMALL, SMALL);
    for (let id = 1; id <= count; id++) await stage.show(id, SMALL, SMALL);

    await expectSettled(() => stage.made, one(CAPACITY));
    expect(stage.stats).toMatchObject({
      rung: 'udmabuf',
      hits: 0,
      imports: count,
      evictions: 6,
      pinnedBytes: CAPACITY * SMALL * SMALL * 4,
      copiedBytes: 0,
    });
    for (let id = 1; id <= count; id++) stage.run(request.unref(id));
    stage.create(100, placeOf(1));
    await stage.show(100);
    await expectSettled(() => stage.made, one(1));
  });
});
