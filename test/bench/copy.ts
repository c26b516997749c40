import { randomFillSync } from 'node:crypto';
import { setImmediate as turn, setTimeout } from 'node:timers/promises';
import type { Source, SourceSink } from '../../src/core/source.ts';
import { MemoryBudget } from '../../src/core/budget.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { Rect } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { GuestMemory } from '../../src/guest/memory.ts';
import { LinearViews } from '../../src/guest/virtio-gpu/linear-views.ts';
import { GuestPages } from '../../src/guest/virtio-gpu/resource.ts';
import { copyRect, ScatteredMemory } from '../../src/sys/copy-rect.ts';
import { Mapping, PAGE_SIZE } from '../../src/sys/mapping.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
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

  constructor(framebuffers: readonly Framebuffer[], steps: readonly (readonly Rect[])[]) {
    using resources = new DisposableStack();
    let sink!: SourceSink;
    const source: Source = {
      scanouts: framebuffers.length,
      budget: new MemoryBudget(Infinity),
      connect: (given) => (sink = given),
      setMonitor: () => undefined,
      [Symbol.dispose]: () => undefined,
    };
    this.#outputs = framebuffers.map(() => resources.use(new InstantOutput({ readsPages: false })));
    this.#bridge = resources.use(new Bridge(source, { zeroCopy: 'off' }));
    this.#steps = steps;
    this.#sink = sink;
    framebuffers.forEach((framebuffer, i) => {
      this.#bridge.show(i, this.#outputs[i]!);
      sink.scanout(i, framebuffer, WHOLE);
    });
    this.#resources = resources.move();
  }

  /** Each shadow starts with the whole picture; after that it gets what changed since its last turn. */
  async begin(): Promise<void> {
    await this.run(Math.max(TARGETS, this.#steps.length * SOURCES));
  }

  get copiedBytes(): number {
    return this.#bridge.stats.reduce((sum, { screens }) => sum + screens[0]!.primary.copiedBytes, 0);
  }

  async run(frames: number): Promise<void> {
    for (const end = this.#frame + frames; this.#frame < end; this.#frame++) {
      const picture = this.#frame % SOURCES;
      const rects = this.#steps[Math.floor(this.#frame / SOURCES) % this.#steps.length]!;
      this.#damage.clear();
      for (const rect of rects) this.#damage.addRect(rect);
      const output = this.#outputs[picture]!;
      this.#sink.flush(picture, this.#damage, null);
      // On a busy machine a copy takes more than its share of a turn.
      while (!output.isWaiting) await turn();
      output.vblank();
    }
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }
}

/** How the guest's pages are read: side by side, or, as those of a picture without a linear view, where they are mapped. */
type Reading = 'side by side' | 'in place';

/** Pictures of random pixels in scattered pages, owned by the stack. */
function guestFramebuffers(stack: DisposableStack, reading: Reading): Framebuffer[] {
  return Array.from({ length: SOURCES }, () => {
    const { framebuffer, pixels } = stack.use(new GuestPicture(WIDTH, HEIGHT));
    randomFillSync(pixels.bytes);
    const { backing } = framebuffer;
    if (reading === 'side by side') return framebuffer;
    if (backing.kind !== 'pages') throw new Error('not in pages');
    const { ranges } = backing;
    const memory = stack.use(Mapping.file(ranges.memfds[0]!, 0, ranges.length, 'read'));
    const scattered = new ScatteredMemory(ranges, Float64Array.of(memory.address));
    return { ...framebuffer, backing: { ...backing, pixels: () => scattered } };
  });
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

async function measure({ name, steps }: Case, reading: Reading): Promise<Measurement> {
  using resources = new DisposableStack();
  const side = resources.use(new OurSide(guestFramebuffers(resources, reading), steps));
  await side.begin();

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
    async () => {
      const before = side.copiedBytes;
      const started = performance.now();
      await side.run(frames);
      const seconds = (performance.now() - started) / 1000;
      if (side.copiedBytes - before !== sampleBytes)
        throw new Error(`${name}: ${side.copiedBytes - before} bytes copied, expected ${sampleBytes}`);
      return sampleBytes / seconds / 1e9;
    },
    () =>
      sampleBytes / time(() => copyFrames(to, TARGETS, from, SOURCES, STRIDE, rects, starts, cycle, 0, frames)) / 1e9,
  );
  return {
    name: `copy/${name}, ${reading}`,
    unit: 'GB/s',
    better: 'more',
    ours: samples.ours,
    peer: { name: 'memcpy in C, contiguous memory', samples: samples.peer },
    goal: 0.9,
  };
}

const IDLE_ROUNDS = 151;
const FRAME_MS = 16;

/** Whole frames at 60 Hz: the caches and clocks of a processor that was idle in between. */
async function measureIdle(reading: Reading): Promise<Measurement> {
  using resources = new DisposableStack();
  const side = resources.use(new OurSide(guestFramebuffers(resources, reading), [[WHOLE]]));
  await side.begin();
  const ordinary = (count: number): BigUint64Array =>
    BigUint64Array.from({ length: count }, () => BigInt(resources.use(filled(STRIDE * HEIGHT)).address));
  const from = ordinary(SOURCES);
  const to = ordinary(TARGETS);
  const copyFrames = loadCopyFrames();
  const rects = Int32Array.of(0, 0, WIDTH, HEIGHT);
  const starts = Uint32Array.of(0, 1);
  let frame = 0;
  const rate = (started: number): number => (STRIDE * HEIGHT) / (performance.now() - started) / 1e6;
  const samples = await alternate(
    IDLE_ROUNDS,
    async () => {
      await setTimeout(FRAME_MS);
      const started = performance.now();
      await side.run(1);
      return rate(started);
    },
    async () => {
      await setTimeout(FRAME_MS);
      const started = performance.now();
      copyFrames(to, TARGETS, from, SOURCES, STRIDE, rects, starts, 1, frame++, 1);
      return rate(started);
    },
  );
  return {
    name: `copy/full frame at 60 Hz, ${reading}`,
    unit: 'GB/s',
    better: 'more',
    ours: samples.ours,
    peer: { name: 'memcpy in C, contiguous memory', samples: samples.peer },
    goal: 1,
  };
}

const FIRST_ROUNDS = 41;

/**
 * The first copy of a guest's picture, which lies in scattered pages of memory that this process has not touched, against
 * memcpy of the same bytes from contiguous memory that has just been mapped as well.
 */
async function measureFirst(width: number, height: number, goal: number | null): Promise<Measurement> {
  using resources = new DisposableStack();
  const stride = width * 4;
  const length = stride * height;
  const pages = Math.ceil(length / PAGE_SIZE);
  const memfd = resources.use(createMemfd('guest', pages * PAGE_SIZE));
  using content = Mapping.file(memfd, 0, pages * PAGE_SIZE, 'read-write');
  randomFillSync(content.bytes);
  const shadow = resources.use(filled(length));
  const copyFrames = loadCopyFrames();
  const guest = new GuestPages(
    Float64Array.from({ length: pages }, (_, i) => ((i * 7919) % pages) * PAGE_SIZE),
    Float64Array.from({ length: pages }, (_, i) => (i + 1) * PAGE_SIZE),
  );
  const to = BigUint64Array.of(BigInt(shadow.address));
  const rects = Int32Array.of(0, 0, width, height);
  const budget = new MemoryBudget(Infinity);
  const views = new LinearViews();
  const samples = await alternate(
    FIRST_ROUNDS,
    () => {
      const region = { guestAddress: 0, size: pages * PAGE_SIZE, userAddress: 0, mmapOffset: 0 };
      using memory = GuestMemory.map([region], [memfd.dup()]);
      return milliseconds(() => {
        using picture = guest.map(memory, length, false, budget, views)!;
        copyRect(shadow, 0, stride, picture.pixels(), 0, stride, stride, height);
      });
    },
    () =>
      milliseconds(() => {
        using contiguous = Mapping.file(memfd, 0, length, 'read');
        const from = BigUint64Array.of(BigInt(contiguous.address));
        copyFrames(to, 1, from, 1, stride, rects, Uint32Array.of(0, 1), 1, 0, 1);
      }),
  );
  return {
    name: `copy/first ${width}x${height}`,
    unit: 'ms',
    better: 'less',
    ours: samples.ours,
    peer: { name: 'memcpy in C, contiguous memory', samples: samples.peer },
    goal,
  };
}

function milliseconds(run: () => void): number {
  return time(run) * 1000;
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
  needsQuiet: true,
  missing: missingCompiler,
  async run({ progress }) {
    const measurements: Measurement[] = [];
    for (const reading of ['side by side', 'in place'] as const) {
      for (const one of CASES) {
        progress(`${one.name}, ${reading}`);
        measurements.push(await measure(one, reading));
      }
      progress(`full frame at 60 Hz, ${reading}`);
      measurements.push(await measureIdle(reading));
    }
    for (const [width, height, goal] of [
      [1920, 1080, null],
      [3840, 2160, 1.2],
    ] as const) {
      progress(`first ${width}x${height}`);
      measurements.push(await measureFirst(width, height, goal));
    }
    return measurements;
  },
};
