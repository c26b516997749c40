import { randomFillSync } from 'node:crypto';
import type { Source, SourceSink } from '../../src/core/source.ts';
import { MemoryBudget } from '../../src/core/budget.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Rect } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';
import { InstantOutput } from './instant-output.ts';
import { loadCopyFrames, missingCompiler } from './native.ts';

const WIDTH = 1920;
const HEIGHT = 1080;
const STRIDE = WIDTH * 4;
const WHOLE: Rect = { x: 0, y: 0, width: WIDTH, height: HEIGHT };

/** Pictures used in turn, each on its own output, where the bridge flips between two shadows. */
const SOURCES = 3;
const TARGETS = 2 * SOURCES;
/** Bytes copied per sample. The pictures together (75 MB of pixels) are larger than any cache. */
const SAMPLE_BYTES = 200e6;
const ROUNDS = 51;

interface Case {
  readonly name: string;
  /** The rectangles that change in each step; the steps repeat. */
  readonly steps: readonly (readonly Rect[])[];
}

/** Cuts the picture into cells of this size, row by row, without partial cells. */
function cells(width: number, height: number): Rect[] {
  const columns = Math.floor(WIDTH / width);
  return Array.from({ length: columns * Math.floor(HEIGHT / height) }, (_, i) => ({
    x: (i % columns) * width,
    y: Math.floor(i / columns) * height,
    width,
    height,
  }));
}

/** `count` cells per step, far apart. Each moves by one cell per step; together they cover the whole picture. */
function moving(count: number, width: number, height: number): readonly (readonly Rect[])[] {
  const all = cells(width, height);
  const steps = Math.floor(all.length / count);
  return Array.from({ length: steps }, (_, step) => Array.from({ length: count }, (_, i) => all[i * steps + step]!));
}

/**
 * Small rectangles move, because the pixels a guest has just drawn are not in the copying CPU's cache.
 * A flush copies the rectangles of its step and, because two shadows alternate, of the previous step.
 */
const CASES: readonly Case[] = [
  { name: 'full frame', steps: [[WHOLE]] },
  { name: 'window 960x540', steps: [[{ x: 480, y: 270, width: 960, height: 540 }]] },
  { name: '2 of 64x64', steps: moving(1, 64, 64) },
  { name: '16 of 96x48', steps: moving(8, 96, 48) },
];

/** A bridge with guest pages on one side and instant outputs on the other. */
class OurSide implements Disposable {
  readonly #resources: DisposableStack;
  readonly #bridge: Bridge;
  readonly #sink: SourceSink;
  readonly #outputs: readonly InstantOutput[];
  readonly #steps: readonly (readonly Rect[])[];
  readonly #damage = new Damage();
  #frame = 0;

  constructor(pictures: readonly GuestPicture[], steps: readonly (readonly Rect[])[]) {
    using resources = new DisposableStack();
    let sink!: SourceSink;
    const source: Source = {
      scanouts: pictures.length,
      budget: new MemoryBudget(Infinity),
      connect: (given) => (sink = given),
      setMonitor: () => undefined,
      [Symbol.dispose]: () => undefined,
    };
    this.#outputs = pictures.map(() => resources.use(new InstantOutput({ readsPages: false })));
    this.#bridge = resources.use(new Bridge(source, { zeroCopy: 'off' }));
    this.#steps = steps;
    this.#sink = sink;
    pictures.forEach(({ framebuffer }, i) => {
      this.#bridge.show(i, this.#outputs[i]!);
      sink.scanout(i, framebuffer, WHOLE);
    });
    // Each shadow starts with the whole picture; after that it gets what changed since its last turn.
    this.run(Math.max(TARGETS, steps.length * SOURCES));
    this.#resources = resources.move();
  }

  get copiedBytes(): number {
    return this.#bridge.stats.reduce((sum, { screens }) => sum + screens[0]!.primary.copiedBytes, 0);
  }

  run(frames: number): void {
    for (const end = this.#frame + frames; this.#frame < end; this.#frame++) {
      const picture = this.#frame % SOURCES;
      const rects = this.#steps[Math.floor(this.#frame / SOURCES) % this.#steps.length]!;
      this.#damage.clear();
      for (const rect of rects) this.#damage.addRect(rect);
      this.#sink.flush(picture, this.#damage, null);
      this.#outputs[picture]!.vblank();
    }
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }
}

/** The rectangles that the flush of each step copies into one of two shadows: those of this step and the previous one. */
function copiesOf(steps: Case['steps']): { rects: Int32Array; starts: Uint32Array; bytes: number[] } {
  const rects: number[] = [];
  const starts = [0];
  const bytes: number[] = [];
  for (let frame = 0; frame < steps.length * SOURCES; frame++) {
    const step = Math.floor(frame / SOURCES);
    const stale = new Damage();
    for (const rect of [...steps.at(step - 1)!, ...steps[step]!]) stale.addRect(rect);
    for (let i = 0; i < stale.count; i++) rects.push(stale.x(i), stale.y(i), stale.width(i), stale.height(i));
    starts.push(rects.length / 4);
    bytes.push(stale.area * 4);
  }
  return { rects: Int32Array.from(rects), starts: Uint32Array.from(starts), bytes };
}

async function measure({ name, steps }: Case): Promise<Measurement> {
  using resources = new DisposableStack();
  const pictures = Array.from({ length: SOURCES }, () => resources.use(new GuestPicture(WIDTH, HEIGHT)));
  for (const { pixels } of pictures) randomFillSync(pixels.bytes);
  const side = resources.use(new OurSide(pictures, steps));

  const ordinary = (count: number): BigUint64Array =>
    BigUint64Array.from({ length: count }, () => BigInt(resources.use(filled(STRIDE * HEIGHT)).address));
  const from = ordinary(SOURCES);
  const to = ordinary(TARGETS);
  const copyFrames = loadCopyFrames();
  const { rects, starts, bytes } = copiesOf(steps);
  const cycle = bytes.length;
  const cycleBytes = bytes.reduce((sum, n) => sum + n, 0);
  const frames = cycle * Math.ceil(SAMPLE_BYTES / cycleBytes);
  const sampleBytes = (frames / cycle) * cycleBytes;

  const samples = await alternate(
    ROUNDS,
    () => {
      const before = side.copiedBytes;
      const seconds = time(() => side.run(frames));
      if (side.copiedBytes - before !== sampleBytes)
        throw new Error(`${name}: ${side.copiedBytes - before} bytes copied, expected ${sampleBytes}`);
      return sampleBytes / seconds / 1e9;
    },
    () =>
      sampleBytes / time(() => copyFrames(to, TARGETS, from, SOURCES, STRIDE, rects, starts, cycle, 0, frames)) / 1e9,
  );
  return {
    name: `copy/${name}`,
    unit: 'GB/s',
    better: 'more',
    ours: samples.ours,
    peer: { name: 'memcpy in C, contiguous memory', samples: samples.peer },
    goal: 0.9,
  };
}

/** Memory with allocated pages and random content. */
function filled(length: number): Mapping {
  const mapping = Mapping.anonymous(length);
  randomFillSync(mapping.bytes);
  return mapping;
}

function time(run: () => void): number {
  const started = performance.now();
  run();
  return (performance.now() - started) / 1000;
}

export const copy: Benchmark = {
  name: 'copy',
  about: `a flush on the copy rung, from scattered 4 KiB guest pages at ${WIDTH}x${HEIGHT}, against memcpy of the same rectangles`,
  missing: missingCompiler,
  async run({ progress }) {
    const measurements: Measurement[] = [];
    for (const one of CASES) {
      progress(one.name);
      measurements.push(await measure(one));
    }
    return measurements;
  },
};
