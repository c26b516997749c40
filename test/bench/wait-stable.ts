import { MemoryBudget } from '../../src/core/budget.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { type Flush, type Source, type SourceSink } from '../../src/core/source.ts';
import { openDisplay } from '../../src/testing/open-display.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { alternate, type Benchmark } from './benchmark.ts';

const WIDTH = 1920;
const HEIGHT = 1080;
const QUIET_MS = 100;
const ROUNDS = 15;
const FRAMES = 60;
/** Part of the picture that changes with every frame. */
const WINDOW = { x: 480, y: 270, width: 960, height: 540 };

/** A guest that fills the window with a new colour each time, with fenced flushes as real guests send them. */
class DrawingGuest implements Source {
  readonly scanouts = 1;
  readonly budget = new MemoryBudget(Infinity);
  readonly #picture = new GuestPicture(WIDTH, HEIGHT);
  readonly #damage = new Damage();
  #sink: SourceSink | null = null;
  #frames = 0;

  connect(sink: SourceSink): void {
    this.#sink = sink;
    const framebuffer: Framebuffer = this.#picture.framebuffer;
    sink.scanout(0, framebuffer, { x: 0, y: 0, width: WIDTH, height: HEIGHT });
    this.#damage.add(0, 0, WIDTH, HEIGHT);
    sink.flush(0, this.#damage, null);
    this.#damage.clear();
    this.#damage.addRect(WINDOW);
  }

  setMonitor(): void {
    // Its picture has a fixed size.
  }

  draw(): void {
    this.#frames++;
    const { stride } = this.#picture.framebuffer.planes[0]!;
    for (let y = WINDOW.y; y < WINDOW.y + WINDOW.height; y++)
      this.#picture.pixels.bytes.fill(
        this.#frames,
        y * stride + WINDOW.x * 4,
        y * stride + (WINDOW.x + WINDOW.width) * 4,
      );
    this.#sink!.flush(0, this.#damage, { isFenced: true, done: () => undefined } satisfies Flush);
  }

  [Symbol.dispose](): void {
    this.#sink!.destroyed(this.#picture.framebuffer);
    this.#picture[Symbol.dispose]();
  }
}

/** Milliseconds from the last flush until `waitForStable` resolves, minus the quiet time it waits for. */
async function overhead(): Promise<number> {
  using guest = new DrawingGuest();
  using display = openDisplay({ guest, size: { width: WIDTH, height: HEIGHT } });
  const still = display.waitForStable({ quietMs: QUIET_MS });
  await nextFrame(display);
  guest.draw();
  const flushed = performance.now();
  await still;
  return performance.now() - flushed - QUIET_MS;
}

/** Milliseconds of processor time per frame, including the drawing. */
async function cpuPerFrame(isWatched: boolean): Promise<number> {
  using guest = new DrawingGuest();
  using display = openDisplay({ guest, size: { width: WIDTH, height: HEIGHT } });
  await nextFrame(display);
  const wait = isWatched ? display.waitForStable().catch(() => undefined) : null;
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

function nextFrame(display: ReturnType<typeof openDisplay>): Promise<void> {
  return new Promise((resolve) => {
    const stop = display.onFrame(() => {
      stop();
      resolve();
    });
  });
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
    const overheads: number[] = [];
    for (let round = 0; round < ROUNDS; round++) overheads.push(await overhead());
    progress('CPU');
    const { ours, peer } = await alternate(
      ROUNDS,
      () => cpuPerFrame(true),
      () => cpuPerFrame(false),
    );
    return [
      // The guest draws after a frame was shown, so it takes one refresh until the result is on screen, and a millisecond per timer.
      { name: 'wait-stable/overhead', unit: 'ms', better: 'less', ours: overheads, peer: null, goal: 20 },
      {
        name: 'wait-stable/CPU a frame',
        unit: 'ms',
        better: 'less',
        ours,
        peer: { name: 'not watched', samples: peer },
        goal: null,
      },
    ];
  },
};
