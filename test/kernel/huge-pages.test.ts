import { describe, expect, test } from 'vitest';
import { VIRTIO_GPU_RESP } from '../../protocols/virtio-gpu.ts';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { ZeroCopy } from '../../src/bridge/dmabuf-pool.ts';
import type { Rung } from '../../src/bridge/plane-buffers.ts';
import type { Output } from '../../src/core/output.ts';
import type { Picture } from '../../src/core/picture.ts';
import { expectSamePicture, pictureOfBgrx } from '../rig/picture.ts';
import * as request from '../unit/guest/virtio-gpu/requests.ts';
import { GpuRig, PAGE, RAM_SIZE } from '../unit/guest/virtio-gpu/rig.ts';
import { skipWithoutVkms, TestScreen } from './kms-rig.ts';
import { expectNothingLeft, HUGE_PAGE, hugeMemfd, hugePages, skipWithoutUdmabuf, withoutDevice } from './machine.ts';

const WIDTH = 640;
const HEIGHT = 480;
const PAGES = (WIDTH * HEIGHT * 4) / PAGE;
const BYTES = PAGES * PAGE;
/** Every other page, in no order, so that no two are neighbours. */
const entries = request.scattered(PAGES);
const nothing = (): Disposable => ({ [Symbol.dispose]: () => undefined });

/** A guest with memory in huge pages, which shows a picture scattered over them. */
class HugeGuest implements Disposable {
  readonly rig = new GpuRig({}, false, hugeMemfd);
  readonly bridge: Bridge;

  constructor(output: Output, zeroCopy: ZeroCopy) {
    this.bridge = new Bridge(this.rig.gpu, { zeroCopy });
    this.bridge.show(0, output);
    this.#run(
      request.create2d(1, WIDTH, HEIGHT),
      request.attach(1, entries),
      request.setScanout(0, 1, 0, 0, WIDTH, HEIGHT),
    );
  }

  /** Draws a picture; returns what the screen must show. */
  draw(seed: number): Picture {
    const bytes = Uint8Array.from({ length: BYTES }, (_, i) => (i * 7 + (i >> 9) * 13 + seed) & 0xff);
    entries.forEach(({ addr }, page) => this.rig.at(addr, PAGE).set(bytes.subarray(page * PAGE, (page + 1) * PAGE)));
    return pictureOfBgrx(WIDTH, HEIGHT, bytes);
  }

  /** Resolves once the pixels are in the store, which may take several turns of the event loop. */
  async flush(): Promise<void> {
    await this.rig.answered(this.rig.send(request.transfer(1, 0, 0, WIDTH, HEIGHT, 0)));
    this.rig.send(request.flush(1, 0, 0, WIDTH, HEIGHT));
  }

  [Symbol.dispose](): void {
    this.bridge[Symbol.dispose]();
    this.rig[Symbol.dispose]();
  }

  #run(...requests: Uint8Array[]): void {
    for (const bytes of requests) expect(this.rig.type(bytes)).toBe(VIRTIO_GPU_RESP.OK_NODATA);
  }
}

/** The rung, the bytes we copied, and the bytes of the guest's pixels that are in a store. */
function ways({ bridge, rig }: HugeGuest): { rung: Rung | null; copiedBytes: number; storeBytes: number } {
  const { rung, copiedBytes } = bridge.stats[0]!.screens[0]!.primary;
  return { rung, copiedBytes, storeBytes: rig.gpu.stats.storeBytes };
}

describe.skipIf(skipWithoutUdmabuf())('a guest in huge pages', () => {
  expectNothingLeft();

  test.each<[string, ZeroCopy, () => Disposable, Rung, number]>([
    ['from a store', 'all', nothing, 'udmabuf', 0],
    ['from shadows if nothing may be shared', 'off', nothing, 'shadow', 2],
    ['from shadows if there is no driver', 'all', withoutDevice, 'shadow', 2],
  ])('is shown as drawn, %s', async (way, zeroCopy, circumstances, rung, copies) => {
    using pool = hugePages((RAM_SIZE + HUGE_PAGE) / HUGE_PAGE);
    using lasting = circumstances();
    using output = HeadlessOutput.open({ width: WIDTH, height: HEIGHT });
    using guest = new HugeGuest(output, zeroCopy);
    for (const seed of [1, 2]) {
      const picture = guest.draw(seed);
      await guest.flush();
      await output.settled();
      expectSamePicture(output.capture()!, picture, `huge-${way.replaceAll(' ', '-')}-${seed}`);
    }
    expect(ways(guest)).toEqual({ rung, copiedBytes: copies * BYTES, storeBytes: BYTES });
  });
});

describe.skipIf(skipWithoutVkms())('a guest in huge pages on a plane', () => {
  expectNothingLeft();

  // vkms reads dma-bufs with the CPU, and shows wrong pixels if they have parts of huge pages.
  test('is shown as drawn, from a store', async () => {
    using pool = hugePages((RAM_SIZE + HUGE_PAGE) / HUGE_PAGE);
    using screen = new TestScreen();
    using guest = new HugeGuest(screen.output, 'all');
    const picture = guest.draw(3);
    await guest.flush();
    await new Promise<void>((resolve) => (guest.rig.onCall = resolve));
    expectSamePicture(await screen.writeback.take(), picture, 'huge-plane');
    expect(ways(guest)).toEqual({ rung: 'udmabuf', copiedBytes: 0, storeBytes: BYTES });
  });
});
