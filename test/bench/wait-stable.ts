import { MemoryBudget } from '../../src/core/budget.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { Rect } from '../../src/core/geometry.ts';
import { type Flush, type Source, type SourceSink } from '../../src/core/source.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { openDisplay } from '../../src/testing/open-display.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';

const WIDTH = 1920;
const HEIGHT = 1080;
const QUIET_MS = 100;
const ROUNDS = 15;
/** Of those that measure processor time: five seconds at 60 Hz each, with the beginning of the wait. */
const CPU_ROUNDS = 5;
const FRAMES = 300;
const REFRESH_MS = 16.67;

/** What a guest fills with a new colour each time, what of the screen it flushes then, and a goal in ms of processor time. */
interface Drawing {
  readonly name: string;
  readonly drawn: Rect;
  readonly flushed: Rect;
  readonly goal: number;
}

const WINDOW = { x: 480, y: 270, width: 960, height: 540 };
const DRAWINGS: readonly Drawing[] = [
  { name: 'a window of 960x540', drawn: WINDOW, flushed: WINDOW, goal: 2 },
  {
    name: '64x16, all of it flushed',
    drawn: { x: 480, y: 270, width: 64, height: 16 },
    flushed: { x: 0, y: 0, width: WIDTH, height: HEIGHT },
    goal: 3.5,
  },
];

/** A guest that draws, with fenced flushes as real guests send them. */
class DrawingGuest implements Source {
  readonly scanouts = 1;
  readonly budget = new MemoryBudget(Infinity);
  readonly picture = new GuestPicture(WIDTH, HEIGHT);
  readonly #damage = new Damage();
  readonly #drawing: Drawing;
  #sink: SourceSink | null = null;
  #frames = 0;

  constructor(drawing: Drawing) {
    this.#drawing = drawing;
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
    const framebuffer: Framebuffer = this.picture.framebuffer;
    sink.scanout(0, framebuffer, { x: 0, y: 0, width: WIDTH, height: HEIGHT });
    this.#damage.add(0, 0, WIDTH, HEIGHT);
    sink.flush(0, this.#damage, null);
    this.#damage.clear();
    this.#damage.addRect(this.#drawing.flushed);
  }

  setMonitor(): void {
    // Its picture has a fixed size.
  }

  draw(): void {
    this.#frames++;
    const { stride } = this.picture.framebuffer.planes[0]!;
    const { x, y, width, height } = this.#drawing.drawn;
    for (let row = y; row < y + height; row++)
      this.picture.pixels.bytes.fill(this.#frames, row * stride + x * 4, row * stride + (x + width) * 4);
    this.#sink!.flush(0, this.#damage, { isFenced: true, done: () => undefined } satisfies Flush);
  }

  [Symbol.dispose](): void {
    this.#sink!.destroyed(this.picture.framebuffer);
    this.picture[Symbol.dispose]();
  }
}

/** Milliseconds until `waitForStable` resolves, minus the quiet time it waits for. */
interface Overhead {
  readonly afterFlush: number;
  /** After the vertical blank that brought the last frame on screen. */
  readonly afterFrame: number;
}

async function overhead(): Promise<Overhead> {
  using guest = new DrawingGuest(DRAWINGS[0]!);
  using display = openDisplay({ guest, size: { width: WIDTH, height: HEIGHT } });
  const still = display.waitForStable({ quietMs: QUIET_MS });
  await nextFrame(display);
  guest.draw();
  const flushed = monotonicMs();
  const shown = await nextFrame(display);
  await still;
  const quietSince = monotonicMs() - QUIET_MS;
  return { afterFlush: quietSince - flushed, afterFrame: quietSince - shown };
}

/** Nothing, what the kit does, or the least that tells changes: each flushed row compared with a copy, and copied. */
type Watching = 'nothing' | 'stable' | 'rows';

/** Milliseconds of processor time per frame, including the drawing. */
async function cpuPerFrame(drawing: Drawing, watching: Watching): Promise<number> {
  using guest = new DrawingGuest(drawing);
  using display = openDisplay({ guest, size: { width: WIDTH, height: HEIGHT } });
  await nextFrame(display);
  const wait = watching === 'stable' ? display.waitForStable().catch(() => undefined) : null;
  if (watching === 'rows') display.onFrame(rowWatch(guest.picture, drawing.flushed));
  const before = process.cpuUsage();
  for (let frame = 0; frame < FRAMES; frame++) {
    guest.draw();
    await nextFrame(display);
  }
  const { user, system } = process.cpuUsage(before);
  display[Symbol.dispose]();
  await wait;
  return (user + system) / 1000 / FRAMES;
}

/** Resolves with the time of the vertical blank that brings it. */
function nextFrame(display: ReturnType<typeof openDisplay>): Promise<number> {
  return new Promise((resolve) => {
    const stop = display.onFrame(({ timeMs }) => {
      stop();
      resolve(timeMs);
    });
  });
}

/** Keeps a copy of the rows up to date. */
function rowWatch({ pixels, framebuffer }: GuestPicture, { x, y, width, height }: Rect): () => void {
  const { stride } = framebuffer.planes[0]!;
  const { buffer, byteOffset, length } = pixels.bytes;
  const now = Buffer.from(buffer, byteOffset, length);
  const before = Buffer.from(now);
  return () => {
    for (let row = y; row < y + height; row++) {
      const start = row * stride + x * 4;
      const end = start + width * 4;
      if (now.compare(before, start, end, start, end) !== 0) now.copy(before, start, start, end);
    }
  };
}

async function measureCpu(drawing: Drawing): Promise<Measurement[]> {
  const { ours, peer } = await alternate(
    CPU_ROUNDS,
    () => cpuPerFrame(drawing, 'stable'),
    () => cpuPerFrame(drawing, 'nothing'),
  );
  const least: number[] = [];
  for (let round = 0; round < CPU_ROUNDS; round++) least.push(await cpuPerFrame(drawing, 'rows'));
  const row = { unit: 'ms/frame', better: 'less', ours } as const;
  return [
    { ...row, name: `wait-stable/CPU, ${drawing.name}`, peer: null, goal: drawing.goal },
    {
      ...row,
      name: `wait-stable/CPU, ${drawing.name}, against not watched`,
      peer: { name: 'not watched', samples: peer },
      goal: null,
    },
    {
      ...row,
      name: `wait-stable/CPU, ${drawing.name}, against comparing and copying the rows alone`,
      peer: { name: 'rows compared and copied', samples: least },
      goal: null,
    },
  ];
}

export const waitStable: Benchmark = {
  name: 'wait-stable',
  about:
    'waitForStable on a test display of 1920x1080: its delay beyond the quiet time, and the CPU it costs per frame',
  needsQuiet: true,
  missing: () => null,
  async run({ progress }) {
    progress('overhead');
    await overhead();
    const overheads: Overhead[] = [];
    for (let round = 0; round < ROUNDS; round++) overheads.push(await overhead());
    const row = { unit: 'ms', better: 'less', peer: null } as const;
    const measurements: Measurement[] = [
      {
        ...row,
        name: 'wait-stable/beyond the quiet time after the last frame came on screen',
        ours: overheads.map(({ afterFrame }) => afterFrame),
        goal: REFRESH_MS,
      },
      {
        ...row,
        // The guest draws just after a vertical blank, so this includes all of a refresh.
        name: 'wait-stable/beyond the quiet time after the last flush, a refresh included',
        ours: overheads.map(({ afterFlush }) => afterFlush),
        goal: null,
      },
    ];
    for (const drawing of DRAWINGS) {
      progress(drawing.name);
      measurements.push(...(await measureCpu(drawing)));
    }
    return measurements;
  },
};
