import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bridge } from '../../../src/bridge/bridge.ts';
import type { FrameTimes } from '../../../src/bridge/frame-ages.ts';
import type { Latency } from '../../../src/bridge/present-deadline.ts';
import { MemoryBudget } from '../../../src/core/budget.ts';
import { Damage } from '../../../src/core/damage.ts';
import type { Source, SourceSink } from '../../../src/core/source.ts';
import { monotonicMs } from '../../../src/sys/clock.ts';
import { Random } from '../../rig/random.ts';
import { openUdmabuf, ScatteredPicture } from '../../rig/scattered-picture.ts';
import { alternate, type BenchContext, type Measurement } from '../benchmark.ts';
import { BenchScreen } from './screen.ts';

const SIZE = { width: 1280, height: 720 };
const ROUNDS = 7;
const REDRAWS = 200;
/** Between two redraws, in ms: about two of them a refresh, in step with nothing. */
const [SHORTEST, LONGEST] = [4, 12];
/** After so many redraws, the screen is read back. */
const LOOK_EVERY = 40;
const PART = { x: 0, y: 0, width: 64, height: 64 };

/** A guest that counts in a corner of its only framebuffer. */
class CountingGuest implements Source {
  readonly scanouts = 1;
  readonly budget = new MemoryBudget(Infinity);
  readonly #picture: ScatteredPicture;
  readonly #damage = new Damage();
  #sink!: SourceSink;
  count = 0;

  constructor(picture: ScatteredPicture) {
    this.#picture = picture;
    this.#damage.addRect(PART);
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
  }

  setMonitor(): void {
    // The picture has a fixed size.
  }

  start(): void {
    this.#sink.scanout(0, this.#picture.asPages, { x: 0, y: 0, ...SIZE });
  }

  redraw(): void {
    const { view } = this.#picture.pixels;
    this.count++;
    for (let y = 0; y < PART.height; y++)
      for (let x = 0; x < PART.width; x++) view.setUint32((y * SIZE.width + x) * 4, this.count, true);
    this.#sink.flush(0, this.#damage, { isFenced: false, done: () => undefined });
  }

  [Symbol.dispose](): void {
    // It owns nothing.
  }
}

/** Milliseconds from each redraw until a frame with it is on the plane, by the kernel's flip events. */
async function latencies(picture: ScatteredPicture, latency: Latency): Promise<number[]> {
  using screen = new BenchScreen(SIZE);
  const guest = new CountingGuest(picture);
  using bridge = new Bridge(guest, { zeroCopy: 'off', latency });
  bridge.show(0, screen.output);
  guest.start();
  const frames: FrameTimes[] = [];
  const stop = bridge.trace(0, (_, times) => void frames.push(times));
  const random = new Random(1);
  const flushes: number[] = [];
  for (let i = 1; i <= REDRAWS; i++) {
    flushes.push(monotonicMs());
    guest.redraw();
    if (i % LOOK_EVERY === 0) await expectOnScreen(screen, guest.count);
    else await sleep(SHORTEST + random.below(LONGEST - SHORTEST + 1));
  }
  // The last frames are told of when others have replaced them.
  for (let i = 0; i < 2; i++) {
    await sleep(50);
    guest.redraw();
  }
  await sleep(50);
  stop();
  return flushes.flatMap((time) => {
    const shown = frames.find(({ flushed }) => flushed >= time);
    return shown ? [shown.onScreen - time] : [];
  });
}

/** Waits until nothing is on its way to the screen; then the hardware must write the newest picture. */
async function expectOnScreen(screen: BenchScreen, count: number): Promise<void> {
  await sleep(50);
  const { data } = await screen.output.readBack!();
  assert.equal((data[0]! << 16) | (data[1]! << 8) | data[2]!, count, 'the screen shows another picture');
}

export async function latency({ progress }: BenchContext): Promise<Measurement[]> {
  using driver = openUdmabuf();
  using picture = new ScatteredPicture(driver, SIZE.width, SIZE.height, { order: 'ascending' });
  const rounds: Record<Latency, number[][]> = { low: [], safe: [] };
  const round = (kind: Latency) => async (): Promise<number> => {
    progress(kind);
    return rounds[kind].push((await latencies(picture, kind)).toSorted((a, b) => a - b));
  };
  await alternate(ROUNDS, round('low'), round('safe'));
  const at = (share: number, kind: Latency): number[] =>
    rounds[kind].map((sorted) => sorted[Math.ceil(sorted.length * share) - 1]!);
  const row = (name: string, share: number, goal: number | null): Measurement => ({
    name: `kms-latency/${name}`,
    unit: 'ms',
    better: 'less',
    ours: at(share, 'low'),
    peer: { name: 'the same redraws presented at once (safe)', samples: at(share, 'safe') },
    goal,
  });
  return [row('redraw to plane', 0.5, 0.6), row('redraw to plane, 99th percentile', 0.99, 1)];
}
