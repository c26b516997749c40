/** Recorded and live guests on a real KMS device, whose planes show the guests' own pages. */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { KmsDisplay } from '../../display/kms/display.ts';
import { decodePng } from '../../display/picture/png.ts';
import { DRM_IOCTL_DROP_MASTER, DRM_IOCTL_SET_MASTER } from '../../protocols/drm.ts';
import { Bridge, type BridgeOptions } from '../../src/bridge/bridge.ts';
import type { ZeroCopy } from '../../src/bridge/dmabuf-pool.ts';
import type { PlaneStats } from '../../src/bridge/plane-buffers.ts';
import type { FramebufferId } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { type Source } from '../../src/core/source.ts';
import { asNobody } from '../rig/as-nobody.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { Recorder } from '../../src/guest/replay/recorder.ts';
import { Replay } from '../../src/guest/replay/replay.ts';
import { VhostUserServer } from '../../src/guest/vhost-user/server.ts';
import { VirtioGpu, type VirtioGpuOptions } from '../../src/guest/virtio-gpu/device.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { centred, expectSamePicture, pictureOfBgrx } from '../rig/picture.ts';
import { startScanout } from '../rig/scanout-run.ts';
import { ScatteredPicture } from '../rig/scattered-picture.ts';
import { Writeback } from '../rig/writeback.ts';
import { ended } from '../unit/cli/scanout.ts';
import { play } from '../unit/guest/replay/play.ts';
import {
  BLOB_SIZE,
  createBlob,
  HEIGHT,
  picture,
  scatter,
  scatteredPages,
  showBlob,
  unref,
  WIDTH,
} from '../unit/guest/replay/synthetic-guest.ts';
import { CrtcCrc } from './crtc-crc.ts';
import { kernelObjects, skipWithoutVkms, TestScreen, vkmsCard, WatchedOutput } from './kms-rig.ts';
import { driverParameter, expectNothingLeft, expectSettled, withoutDevice } from './machine.ts';

const isSkipped = skipWithoutVkms();
const card = vkmsCard() ?? '';
const FIRST = 0;

/** Large enough for every picture of the recordings. */
const MODE = { width: 1280, height: 800 };
const SMALL_MODE = { width: 640, height: 480 };

const fixture = (name: string): string => join(import.meta.dirname, `../../fixtures/${name}.scanout`);

/** Wraps a source and collects the ids of the framebuffers it shows. */
function watched(source: Source, framebuffers: Set<FramebufferId>): Source {
  return {
    scanouts: source.scanouts,
    budget: source.budget,
    connect: (sink) =>
      source.connect({
        scanout(id, framebuffer, rect) {
          if (framebuffer) framebuffers.add(framebuffer.id);
          sink.scanout(id, framebuffer, rect);
        },
        flush: (id, damage, flush) => sink.flush(id, damage, flush),
        cursor: (id, framebuffer, hotspotX, hotspotY, x, y) => sink.cursor(id, framebuffer, hotspotX, hotspotY, x, y),
        cursorMoved: (id, x, y) => sink.cursorMoved(id, x, y),
        halted: () => sink.halted(),
        destroyed: (framebuffer) => sink.destroyed(framebuffer),
      }),
    setMonitor: (id, monitor) => source.setMonitor(id, monitor),
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

/** Shows a source on the card's first monitor, through a bridge. */
class OnMonitor implements Disposable {
  readonly log: string[] = [];
  readonly output: WatchedOutput;
  readonly bridge: Bridge;
  /** Framebuffers that the guest has shown. */
  readonly framebuffers = new Set<FramebufferId>();
  readonly #display: KmsDisplay;
  readonly #mode: Size;
  readonly #stack: DisposableStack;

  /** `circumstances` take effect once the screen is open, and last until dispose. */
  constructor(
    source: Source,
    {
      mode = MODE,
      circumstances,
      ...options
    }: BridgeOptions & { mode?: Size; circumstances?: (() => Disposable) | undefined } = {},
  ) {
    using stack = new DisposableStack();
    this.#mode = mode;
    this.#display = stack.use(KmsDisplay.open({ card, mode, log: () => undefined }));
    this.output = new WatchedOutput(this.#display.outputs[0]!);
    if (circumstances) stack.use(circumstances());
    this.bridge = stack.use(
      new Bridge(watched(source, this.framebuffers), { ...options, log: (_, line) => void this.log.push(line) }),
    );
    this.bridge.show(FIRST, this.output);
    this.#stack = stack.move();
  }

  get primary(): PlaneStats {
    return this.bridge.stats[0]!.screens[0]!.primary;
  }

  get cursor(): PlaneStats {
    return this.bridge.stats[0]!.screens[0]!.cursor;
  }

  /** What the hardware sends to its monitor once no frame is in flight. */
  async picture(): Promise<Picture> {
    await this.output.settled();
    using writeback = new Writeback(this.#display.device, this.#mode);
    return await writeback.take();
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** The last picture of a session, as a headless output shows it by copies. */
async function lastPicture(session: string): Promise<Picture> {
  using source = Replay.open({ file: fixture(session), speed: 'fast' });
  using output = HeadlessOutput.open({ ...MODE });
  using bridge = new Bridge(source, { zeroCopy: 'off' });
  bridge.show(FIRST, output);
  await source.finished;
  await output.settled();
  return centred(output.capture()!, MODE.width, MODE.height);
}

describe.skipIf(isSkipped)('a recorded guest on a monitor', () => {
  expectNothingLeft();

  test.each([
    ['blobs', 4],
    ['page-flips', 4],
    ['mode-change', 4],
  ])('playing %s is shown without a copy, with %i framebuffers imported once', async (session, framebuffers) => {
    const before = kernelObjects(card);
    {
      using source = Replay.open({ file: fixture(session), speed: 'fast' });
      using screen = new OnMonitor(source, { zeroCopy: 'all' });
      const { errors } = await source.finished;
      expectSamePicture(await screen.picture(), await lastPicture(session), `kms-replay-${session}`);
      expect(errors).toBe(0);
      expect(screen.framebuffers.size).toBe(framebuffers);
      expect(screen.primary).toMatchObject({
        rung: 'udmabuf',
        imports: framebuffers,
        evictions: 0,
        copiedBytes: 0,
        shadowBytes: 0,
      });
      expect(screen.output.zeroCopyFrames).toBe(screen.output.frames);
    }
    await expectSettled(() => kernelObjects(card), before);
  });

  test('has its cursor shown without a copy', async () => {
    using source = Replay.open({ file: fixture('blobs'), speed: 'fast' });
    using screen = new OnMonitor(source, { zeroCopy: 'all' });
    await source.finished;
    expect(screen.cursor).toMatchObject({ rung: 'udmabuf', imports: 1, copiedBytes: 0 });
  });

  describe.each(['blobs', 'page-flips'])('playing %s', (session) => {
    test.each<[string, ZeroCopy, (() => Disposable) | undefined, RegExp | null]>([
      ['zero copy is off', 'off', undefined, null],
      ['/dev/udmabuf is missing', 'all', withoutDevice, /does not exist: load the udmabuf module/],
      ['/dev/udmabuf may not be opened', 'all', asNobody, /may not be opened: (give it a|join the) group/],
      [
        'the driver accepts no ranges',
        'all',
        () => driverParameter('list_limit', 0),
        /the limit is 0, raise it: echo \d+ >.*list_limit/,
      ],
      [
        'the driver accepts no bytes',
        'all',
        () => driverParameter('size_limit_mb', 0),
        /the limit is 0, raise it: echo \d+ >.*size_limit_mb/,
      ],
    ])('is copied and looks the same when %s', async (_, zeroCopy, circumstances, why) => {
      const expected = await lastPicture(session);
      using source = Replay.open({ file: fixture(session), speed: 'fast' });
      using screen = new OnMonitor(source, { zeroCopy, circumstances });
      await source.finished;
      expectSamePicture(await screen.picture(), expected, `kms-replay-copied-${session}`);
      expect(screen.primary).toMatchObject({ rung: 'shadow', imports: 0 });
      expect(screen.primary.copiedBytes).toBeGreaterThan(0);
      expect(screen.log.filter((line) => line.includes('copying'))).toEqual(why ? [expect.stringMatching(why)] : []);
    });
  });
});

/** Our device and the driver of a guest with blobs of scattered pages. */
class LiveGuest implements Disposable {
  readonly device: VirtioGpu;
  readonly #frontEnd: FrontEnd;
  readonly #stack: DisposableStack;

  constructor(options: VirtioGpuOptions = {}) {
    using stack = new DisposableStack();
    this.device = stack.use(new VirtioGpu(options));
    const [ours, theirs] = socketPair();
    stack.use(VhostUserServer.adopt(theirs, this.device, { log: () => undefined }));
    this.#frontEnd = stack.use(
      FrontEnd.create({
        socket: ours,
        memory: [
          { guestAddress: 0, size: 2 ** 23 },
          { guestAddress: 2 ** 32, size: 2 ** 23 },
        ],
      }),
    );
    this.#stack = stack.move();
  }

  /** Starts the driver, creates a blob for each id and draws `picture(id)` into it. */
  async start(ids: readonly number[]): Promise<void> {
    await this.#frontEnd.connect();
    for (const id of ids) {
      const pages = scatteredPages(id * 2 ** 20, 2 ** 32 + id * 2 ** 20, BLOB_SIZE / 4096);
      await play(this.#frontEnd, [createBlob(id, pages), ...scatter(pages, 0, picture(id))]);
    }
  }

  /** Resolves when blob `id` is on screen. */
  async show(id: number): Promise<void> {
    await play(this.#frontEnd, showBlob(id));
  }

  async unref(ids: readonly number[]): Promise<void> {
    await play(this.#frontEnd, ids.map(unref));
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

describe.skipIf(isSkipped)('a live guest on a monitor', () => {
  expectNothingLeft();

  test.each([2, 3, 5])('flips between %i blobs of scattered pages, each of which is imported once', async (count) => {
    const before = kernelObjects(card);
    {
      using guest = new LiveGuest();
      using screen = new OnMonitor(guest.device);
      const ids = Array.from({ length: count }, (_, i) => i + 1);
      await guest.start(ids);
      for (let flip = 0; flip < 4 * count; flip++) await guest.show(ids[flip % count]!);
      expectSamePicture(
        await screen.picture(),
        centred(pictureOfBgrx(WIDTH, HEIGHT, picture(count)), MODE.width, MODE.height),
        `kms-live-${count}`,
      );
      expect(screen.primary).toMatchObject({
        rung: 'udmabuf',
        imports: count,
        hits: 3 * count,
        evictions: 0,
        copiedBytes: 0,
      });
      expect(screen.output.zeroCopyFrames).toBe(screen.output.frames);
      expect(guest.device.stats.errors).toBe(0);
      await guest.unref(ids);
      await screen.output.settled();
      expect(screen.primary.pinnedBytes).toBe(0);
    }
    await expectSettled(() => kernelObjects(card), before);
  });
});

describe.skipIf(isSkipped)('scanout replay --output kms', () => {
  expectNothingLeft();
  const kms = `kms:${card.replace('/dev/dri/', '')},mode=640x480`;
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'replay-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** Records a guest that shows a picture for an hour. Resolves with the hardware's checksum of the picture on the monitor. */
  async function recordLongPicture(file: string): Promise<string> {
    let nowMs = 0;
    using recorder = Recorder.open({ file, scanouts: 1, now: () => nowMs });
    using guest = new LiveGuest({ tap: recorder.tap });
    using screen = new OnMonitor(guest.device, { mode: SMALL_MODE });
    await guest.start([1]);
    await guest.show(1);
    await screen.output.settled();
    using crc = new CrtcCrc(card);
    const seen = await crc.during(3);
    nowMs = 3_600_000;
    return seen.at(-1)!;
  }

  test(
    'shows the recording on the monitor, and the previous picture again once a signal has ended it',
    { timeout: 180_000 },
    async () => {
      const before = kernelObjects(card);
      const expected = await recordLongPicture(join(directory, 'session'));
      {
        using other = new TestScreen({ card });
        using picture = new ScatteredPicture(other.udmabuf, 640, 480).fillNoise(3);
        using handle = other.import(picture.framebuffer);
        other.setPicture(handle, 640, 480);
        await other.show();
        using crc = new CrtcCrc(card);
        const others = (await crc.during(3)).at(-1)!;
        ioctl(other.device.fd, DRM_IOCTL_DROP_MASTER, 'DRM_IOCTL_DROP_MASTER', 0);
        const child = startScanout(['replay', join(directory, 'session'), '--output', kms, '--log-level', 'info']);
        const closed = once(child, 'close');
        // A failed test must not leave it to the next one's leak check.
        onTestFinished(async () => {
          child.kill('SIGKILL');
          await closed;
        });
        await new Promise<void>((resolve, reject) => {
          child.stderr!.on(
            'data',
            (text: Buffer) => String(text).includes("shows the guest by rung 'udmabuf'") && resolve(),
          );
          void closed.then(() => reject(new Error('scanout replay has exited')));
        });
        await crc.until(expected);
        child.kill('SIGINT');
        expect(await closed).toEqual([null, 'SIGINT']);
        expect(await crc.until(others)).toContain(others);
        ioctl(other.device.fd, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
      }
      await expectSettled(() => kernelObjects(card), before);
    },
  );

  test('writes the PNG of a headless output next to the monitor', { timeout: 180_000 }, async () => {
    const before = kernelObjects(card);
    const png = join(directory, 'last.png');
    const { code, stdout, stderr } = await ended(
      startScanout([
        'replay',
        fixture('blobs'),
        '--fast',
        '--output',
        kms,
        '--output',
        'headless:640x480',
        '--png',
        png,
      ]),
    );
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(/ flushes, 0 refused/);
    expectSamePicture(
      centred(decodePng(readFileSync(png)), MODE.width, MODE.height),
      await lastPicture('blobs'),
      'kms-replay-command',
    );
    await expectSettled(() => kernelObjects(card), before);
  });
});
