import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MemoryBudget } from '../../src/core/budget.ts';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { ZeroCopy } from '../../src/bridge/dmabuf-pool.ts';
import type { Rung } from '../../src/bridge/plane-buffers.ts';
import { Damage } from '../../src/core/damage.ts';
import { type Framebuffer, newFramebufferId } from '../../src/core/framebuffer.ts';
import type { Picture } from '../../src/core/picture.ts';
import { type Source, type SourceSink } from '../../src/core/source.ts';
import { Replay } from '../../src/guest/replay/replay.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { asNobody } from '../rig/as-nobody.ts';
import { mappingCount, openFds } from '../rig/process-resources.ts';
import { expectSamePicture, pixel } from '../rig/picture.ts';
import { ownSystemCalls } from '../rig/system-calls.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { dmabufCount, driverParameter, expectNothingLeft, skipWithoutUdmabuf, withoutDevice } from './machine.ts';

const FIRST = 0;

interface Shown {
  readonly picture: Picture;
  readonly rung: Rung | null;
  readonly copiedBytes: number;
  /** The screen reads the guest's own memory. */
  readonly isShared: boolean;
  readonly log: string[];
}

/** Plays a recorded session to its end, with `circumstances` in effect throughout. */
async function replayed(session: string, zeroCopy: ZeroCopy, circumstances?: () => Disposable): Promise<Shown> {
  const log: string[] = [];
  using source = Replay.open({ file: join(import.meta.dirname, `../../fixtures/${session}.scanout`), speed: 'fast' });
  using output = HeadlessOutput.open({ width: 1280, height: 800 });
  using lasting = circumstances?.();
  using bridge = new Bridge(source, { zeroCopy, log: (_, line) => log.push(line) });
  bridge.show(FIRST, output);
  await source.finished;
  await output.settled();
  const { rung, copiedBytes } = bridge.stats[0]!.screens[0]!.primary;
  using held = output.hold()!;
  return { picture: held.capture(), rung, copiedBytes, isShared: held.isShared, log };
}

describe.skipIf(skipWithoutUdmabuf())('a recorded guest on a headless output', () => {
  expectNothingLeft();

  test.each(['console-boot', 'page-flips', 'cursor', 'mode-change'])(
    'looks the same without a copy as with one: %s',
    async (session) => {
      const shared = await replayed(session, 'all');
      const copied = await replayed(session, 'off');
      expect(shared).toMatchObject({ rung: 'udmabuf', copiedBytes: 0, isShared: true });
      expect(copied).toMatchObject({
        rung: 'shadow',
        isShared: false,
        log: ["headless shows the guest by rung 'shadow'"],
      });
      expectSamePicture(shared.picture, copied.picture, `kernel-${session}`);
    },
  );

  test.each<[string, () => Disposable, RegExp]>([
    ['is missing', withoutDevice, /does not exist: load the udmabuf module/],
    // udevd, which tests before this may have started, gives it a group.
    ['may not be opened', asNobody, /may not be opened: (give it a|join the) group/],
    ['accepts no ranges', () => driverParameter('list_limit', 0), /the limit is 0, raise it: echo \d+ >.*list_limit/],
    [
      'accepts too few bytes',
      () => driverParameter('size_limit_mb', 1),
      /the limit is 1048576, raise it: echo \d+ >.*size_limit_mb/,
    ],
  ])('is shown by copies when the driver %s, and the log gives the reason once', async (_, circumstances, why) => {
    const shown = await replayed('mode-change', 'all', circumstances);
    const copied = await replayed('mode-change', 'off');
    expect(shown.rung).toBe('shadow');
    expect(shown.log.filter((line) => line.includes('copying'))).toEqual([expect.stringMatching(why)]);
    expectSamePicture(shown.picture, copied.picture, 'kernel-fallback');
  });

  test('is shown by copies if it has no blobs, unless all pages may be shared', async () => {
    const shown = await replayed('page-flips', 'auto');
    const copied = await replayed('page-flips', 'off');
    expect(shown).toMatchObject({ rung: 'shadow', log: ["headless shows the guest by rung 'shadow'"] });
    expectSamePicture(shown.picture, copied.picture, 'kernel-blobs');
  });
});

/** A guest that shows a test's pictures. */
class Flipper implements Source {
  readonly scanouts = 1;
  readonly budget = new MemoryBudget(Infinity);
  #sink!: SourceSink;

  connect(sink: SourceSink): void {
    this.#sink = sink;
  }

  setMonitor(): void {
    // Its pictures have a fixed size.
  }

  /** Resolves when the picture is on screen and the previous one is free. */
  flip(framebuffer: Framebuffer): Promise<void> {
    const { width, height } = framebuffer;
    const damage = new Damage();
    damage.add(0, 0, width, height);
    this.#sink.scanout(FIRST, framebuffer, { x: 0, y: 0, width, height });
    return new Promise((done) => this.#sink.flush(FIRST, damage, { isFenced: true, done }));
  }

  destroy(framebuffer: Framebuffer): void {
    this.#sink.scanout(FIRST, null, { x: 0, y: 0, width: 0, height: 0 });
    this.#sink.destroyed(framebuffer);
  }

  [Symbol.dispose](): void {
    // The test owns its pictures.
  }
}

const WIDTH = 64;
const HEIGHT = 48;

function filled(colour: number): GuestPicture {
  const picture = new GuestPicture(WIDTH, HEIGHT);
  picture.fill(0, 0, WIDTH, HEIGHT, colour);
  return picture;
}

const colourOf = (output: HeadlessOutput): number => pixel(output.capture()!, WIDTH - 1, HEIGHT - 1);

describe.skipIf(skipWithoutUdmabuf())('a flipping guest on a headless output', () => {
  expectNothingLeft();

  test.each([
    [2, 10_000],
    [3, 1000],
    [5, 1000],
  ])(
    'with %i framebuffers needs one import of each in %i flips, and no kernel objects beyond the first round',
    { timeout: 180_000 },
    async (count, flips) => {
      using stack = new DisposableStack();
      const colours = Array.from({ length: count }, (_, i) => 0x102030 * (i + 1));
      const pictures = colours.map((colour) => stack.use(filled(colour)).framebuffer);
      const source = stack.use(new Flipper());
      const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 1_000_000 }));
      const bridge = stack.use(new Bridge(source));
      bridge.show(FIRST, output);
      const before = dmabufCount();
      for (const framebuffer of pictures) await source.flip(framebuffer);
      const [dmabufs, fds, mappings] = [dmabufCount(), openFds().size, mappingCount()];

      for (let flip = count; flip < flips; flip++) {
        await source.flip(pictures[flip % count]!);
        if (flip % 97 === 0) expect(colourOf(output)).toBe(colours[flip % count]);
      }

      expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({
        rung: 'udmabuf',
        imports: count,
        hits: flips - count,
        evictions: 0,
        copiedBytes: 0,
      });
      expect(dmabufs).toBe(before + count);
      expect([dmabufCount(), openFds().size, mappingCount()]).toEqual([dmabufs, fds, mappings]);
      for (const framebuffer of pictures) source.destroy(framebuffer);
      await output.settled();
      expect(dmabufCount()).toBe(before);
    },
  );

  test('changes the screen when it draws into the picture shown', async () => {
    using stack = new DisposableStack();
    const picture = stack.use(filled(0x111111));
    const source = stack.use(new Flipper());
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT }));
    const bridge = stack.use(new Bridge(source));
    bridge.show(FIRST, output);
    await source.flip(picture.framebuffer);
    expect(colourOf(output)).toBe(0x111111);
    picture.fill(0, 0, WIDTH, HEIGHT, 0x222222);
    expect(colourOf(output)).toBe(0x222222);
  });

  test('is read between the beginning and the end of CPU access', async () => {
    using stack = new DisposableStack();
    const picture = stack.use(filled(0x445566));
    const source = stack.use(new Flipper());
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT }));
    const bridge = stack.use(new Bridge(source));
    bridge.show(FIRST, output);
    await source.flip(picture.framebuffer);

    const calls = await ownSystemCalls(() => {
      output.capture();
      return Promise.resolve();
    });

    const [begin, end, ...more] = calls.flatMap((call) => /DMA_BUF_IOCTL_SYNC, (.*)\) = 0/.exec(call)?.[1] ?? []);
    // There is one argument for each kind of access, at its own address.
    expect([begin, end]).toEqual([expect.any(String), expect.any(String)]);
    expect([begin === end, more]).toEqual([false, []]);
  });

  test.each<[ZeroCopy, Rung, Rung]>([
    ['all', 'udmabuf', 'udmabuf'],
    ['auto', 'udmabuf', 'shadow'],
    ['off', 'shadow', 'shadow'],
  ])('with zero copy %s is shown by rung %s for blobs and %s for plain resources', async (zeroCopy, blobs, plain) => {
    using stack = new DisposableStack();
    const { framebuffer } = stack.use(filled(0x334455));
    if (framebuffer.backing.kind !== 'pages') throw new TypeError('a guest picture is in pages');
    const source = stack.use(new Flipper());
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT }));
    const bridge = stack.use(new Bridge(source, { zeroCopy }));
    bridge.show(FIRST, output);
    const rungOf = async (shown: Framebuffer) => {
      await source.flip(shown);
      expect(colourOf(output)).toBe(0x334455);
      return bridge.stats[0]!.screens[0]!.primary.rung;
    };
    expect(await rungOf(framebuffer)).toBe(blobs);
    expect(
      await rungOf({ ...framebuffer, id: newFramebufferId(), backing: { ...framebuffer.backing, isBlob: false } }),
    ).toBe(plain);
  });
});
