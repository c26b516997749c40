import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Pipe, Properties } from '../../display/kms/resources.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { type Handle, PresentedFlags } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { expectSamePicture } from '../rig/picture.ts';
import { ScatteredPicture } from '../rig/scattered-picture.ts';
import { fenceInfo, type GpuWork, Vgem } from '../rig/vgem.ts';
import { CrtcCrc } from './crtc-crc.ts';
import { FlippingGuest } from './flipping-guest.ts';
import { type Shown, skipWithoutVkms, TestScreen, vkmsCard } from './kms-rig.ts';
import { expectNothingLeft } from './machine.ts';

const isSkipped = skipWithoutVkms();
const card = vkmsCard() ?? '';
/** Vertical blanks after which a flip that does not wait would have completed. */
const LONG = 4;

let gpu: Vgem;

/** Hides the fence properties, as with a driver from before fences. */
function withoutFences(pipe: Pipe): Pipe {
  const without = <T extends { readonly properties: Properties }>(object: T): T => {
    const { properties } = object;
    const fewer = {
      id: (name: string) => (name.includes('FENCE') ? 0 : properties.id(name)),
      value: (name: string) => properties.value(name),
    };
    return { ...object, properties: fewer as unknown as Properties };
  };
  return {
    ...pipe,
    crtc: without(pipe.crtc),
    primary: without(pipe.primary),
    overlay: pipe.overlay && without(pipe.overlay),
  };
}

/** A screen that shows one picture, and a second one for the next frame. */
class Stage implements Disposable {
  readonly #stack = new DisposableStack();
  readonly screen = this.#stack.use(new TestScreen());
  readonly first: ScatteredPicture;
  readonly second: ScatteredPicture;
  readonly firstHandle: Handle;
  readonly secondHandle: Handle;

  constructor(seed: number, width = 640, height = 480) {
    const picture = (w: number, h: number, noise: number) =>
      this.#stack.use(new ScatteredPicture(this.screen.udmabuf, w, h, { order: 'ascending' }).fillNoise(noise));
    this.first = picture(640, 480, seed);
    this.second = picture(width, height, seed + 1);
    this.firstHandle = this.#stack.use(this.screen.import(this.first.framebuffer));
    this.secondHandle = this.#stack.use(this.screen.import(this.second.framebuffer));
  }

  /** Resolves when the first picture is on screen; the next frame is the second, finished when `work` is. */
  async begin(work: GpuWork): Promise<void> {
    const { screen, second } = this;
    screen.setPicture(this.firstHandle, 640, 480);
    await screen.show();
    const { width, height } = second.framebuffer;
    screen.setPicture(this.secondHandle, width, height);
    screen.frame.acquire = work.fence;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

describe.skipIf(isSkipped)('KmsOutput: fences:', () => {
  beforeAll(() => {
    gpu = new Vgem();
  });
  afterAll(() => gpu[Symbol.dispose]());
  expectNothingLeft();

  test('a picture is not shown before its fence has signalled', async () => {
    using stage = new Stage(1);
    using work = gpu.begin();
    const { screen, second } = stage;
    await stage.begin(work);
    let before: string[];
    let shown: Shown | null = null;
    {
      using crc = new CrtcCrc(card);
      await crc.during(2);
      const showing = screen.show().then((what) => (shown = what));
      before = await crc.during(LONG);
      expect(shown).toBeNull();
      work.end();
      await showing;
    }
    expect(before).toHaveLength(1);
    expect(shown).toMatchObject({ released: [stage.firstHandle] });
    expectSamePicture(await screen.writeback.take(), second.onScreen(640, 480), 'kms-fence');
  });

  test('the release fence signals with the flip', async () => {
    using stage = new Stage(3);
    using work = gpu.begin();
    const { screen } = stage;
    await stage.begin(work);
    const given: OwnedFd[] = [];
    screen.frame.release = (fence) => given.push(fence);
    const showing = screen.show();
    expect(given).toHaveLength(1);
    using fence = given[0]!;
    expect(fenceInfo(fence)).toMatchObject({ driver: 'vkms', status: 0 });
    work.end();
    const { timeMs, flags } = await showing;
    const info = fenceInfo(fence);
    expect(info.status).toBe(1);
    // The event's time is in whole microseconds.
    expect(Math.trunc(info.timeMs * 1000)).toBe(Math.round(timeMs * 1000));
    expect(flags & PresentedFlags.ZERO_COPY).not.toBe(0);
  });

  test('a picture drawn by the CPU is read after its fence has signalled', async () => {
    // Larger than the screen: it has to be scaled.
    using stage = new Stage(5, 1280, 960);
    using work = gpu.begin();
    const { screen, second: large } = stage;
    using grey = new ScatteredPicture(screen.udmabuf, 640, 480);
    grey.pixels.bytes.fill(0xcc);
    await stage.begin(work);
    const showing = screen.show();
    large.pixels.bytes.fill(0xcc);
    work.end();
    await showing;
    expect(screen.log.filter((line) => line.includes('drawn by the CPU'))).toHaveLength(1);
    expectSamePicture(await screen.writeback.take(), grey.onScreen(640, 480), 'kms-fence-composed');
  });

  test('a fence that does not signal costs only its own frame, and later frames are shown once it has', async () => {
    using stage = new Stage(6);
    using stuck = gpu.begin();
    const { screen, first } = stage;
    await stage.begin(stuck);
    const hidden = await screen.show();
    expect(hidden.flags).toBe(PresentedFlags.HIDDEN);
    expect(screen.log.filter((line) => line.includes('the fence of a picture does not signal'))).toHaveLength(1);
    // The CRTC is busy with the one before when this is presented.
    using work = gpu.begin();
    screen.setPicture(stage.firstHandle, 640, 480);
    screen.frame.acquire = work.fence;
    const showing = screen.show();
    stuck.end();
    work.end();
    const { flags } = await showing;
    expect(flags & PresentedFlags.VSYNC).not.toBe(0);
    expectSamePicture(await screen.writeback.take(), first.onScreen(640, 480), 'kms-fence-late');
  });

  describe('a picture that another device writes for long', () => {
    /** Presents the second picture, whose flip waits for `work`, and waits until the output continues without it. */
    async function getStuck({ screen, second }: Stage, work: GpuWork): Promise<void> {
      const { backing } = second.framebuffer;
      if (backing.kind === 'dmabuf') work.writesTo(backing.dmabuf);
      screen.frame.acquire = null;
      expect((await screen.show()).flags).toBe(PresentedFlags.HIDDEN);
    }

    test('blocks neither its disposal nor another frame, which is shown when it has ended', async () => {
      using stage = new Stage(10);
      using work = gpu.begin();
      const { screen, first } = stage;
      await stage.begin(work);
      await getStuck(stage, work);
      stage.secondHandle[Symbol.dispose]();
      screen.setPicture(stage.firstHandle, 640, 480);
      const showing = screen.show();
      // Every call has returned, and the device still writes.
      expect(fenceInfo(work.fence).status).toBe(0);
      work.end();
      expect((await showing).flags & PresentedFlags.VSYNC).not.toBe(0);
      expectSamePicture(await screen.writeback.take(), first.onScreen(640, 480), 'kms-fence-implicit');
    });

    test('blocks no disposal of its output', async () => {
      using stage = new Stage(12);
      using work = gpu.begin();
      await stage.begin(work);
      await getStuck(stage, work);
      stage.screen.output[Symbol.dispose]();
      expect(fenceInfo(work.fence).status).toBe(0);
      // Closing the card waits in the kernel.
      work.end();
    });

    test('is drawn by the CPU without waiting', async () => {
      using stage = new Stage(14, 1280, 960);
      using work = gpu.begin();
      const { screen, second } = stage;
      await stage.begin(work);
      const { backing } = second.framebuffer;
      if (backing.kind === 'dmabuf') work.writesTo(backing.dmabuf);
      screen.frame.acquire = null;
      expect((await screen.show()).flags & PresentedFlags.VSYNC).not.toBe(0);
      expect(fenceInfo(work.fence).status).toBe(0);
      expect(screen.log.filter((line) => line.includes('drawn by the CPU'))).toHaveLength(1);
    });
  });

  test.each([
    ['udmabuf', 'auto', 'fences in the driver', 1],
    ['shadow', 'off', 'fences in the driver', 1],
    ['udmabuf', 'auto', 'no fences in the driver', 0],
  ] as const)(
    'a picture of a guest with fences is shown by rung %s when they have signalled (zero copy %s, %s)',
    async (rung, zeroCopy, _, fences) => {
      using screen = new TestScreen(fences === 0 ? { change: withoutFences } : {});
      using guest = new FlippingGuest();
      using a = new ScatteredPicture(screen.udmabuf, 640, 480).fillNoise(8);
      using b = new ScatteredPicture(screen.udmabuf, 640, 480);
      using bridge = new Bridge(guest, { zeroCopy });
      bridge.show(0, screen.output);
      await guest.flip(a.asPages);
      using work = gpu.begin();
      const releases: OwnedFd[] = [];
      const done = guest.flip(b.asPages, 0, { acquire: work.fence, release: (fence) => releases.push(fence) });
      b.pixels.bytes.fill(0x5a);
      work.end();
      await done;
      const statuses = releases.map((fence) => fenceInfo(fence).status);
      for (const fence of releases) fence[Symbol.dispose]();
      expect(statuses).toEqual(Array(fences).fill(1));
      expect(screen.output.takesFences).toBe(fences > 0);
      expect(bridge.stats[0]!.screens[0]!.primary.rung).toBe(rung);
      expectSamePicture(await screen.writeback.take(), b.onScreen(640, 480), `kms-fence-${rung}`);
    },
  );
});
