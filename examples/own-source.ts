/**
 * A source of your own: pixels in a memfd, drawn on two framebuffers in turn, with a bar that
 * moves. It is shown on a headless output; the last picture is saved.
 *
 *     node build/own-source.js OUT.png
 */
import {
  Bridge,
  createMemfd,
  Damage,
  DRM_FORMAT,
  DRM_FORMAT_MOD_LINEAR,
  type Framebuffer,
  HeadlessOutput,
  Mapping,
  MemoryBudget,
  type Monitor,
  newFramebufferId,
  type OwnedFd,
  PageRuns,
  type Source,
  type SourceSink,
  writePng,
} from 'scanout-bridge';

const WIDTH = 320;
const HEIGHT = 240;
const STRIDE = WIDTH * 4;
const BAR_WIDTH = 16;
const FRAMES = 60;
const BACKGROUND = 0xff20304f;
const BAR = 0xffffffff;
const WHOLE = { x: 0, y: 0, width: WIDTH, height: HEIGHT };

/** Each framebuffer starts on a page, so that udmabuf can share it. */
const BYTES = Math.ceil((STRIDE * HEIGHT) / 4096) * 4096;

class MovingBar implements Source {
  readonly scanouts = 1;
  /** This source allocates nothing for a guest; the bridge's shadows are charged to it. */
  readonly budget = new MemoryBudget(64 * 2 ** 20);
  readonly finished: Promise<void>;
  readonly #memfd: OwnedFd;
  readonly #memory: Mapping;
  readonly #words: Uint32Array;
  readonly #framebuffers: readonly Framebuffer[];
  /** Made by `pixels()` of the backings. */
  readonly #mappings: Mapping[] = [];
  readonly #damage = new Damage();
  #sink: SourceSink | null = null;
  #frame = 0;
  #finish!: () => void;

  private constructor(memfd: OwnedFd) {
    this.#memfd = memfd;
    this.#memory = Mapping.file(memfd, 0, 2 * BYTES, 'read-write');
    const { bytes } = this.#memory;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    this.#framebuffers = [0, BYTES].map((start) => ({
      id: newFramebufferId(),
      width: WIDTH,
      height: HEIGHT,
      format: DRM_FORMAT.XRGB8888,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes: [{ offset: 0, stride: STRIDE }],
      backing: {
        kind: 'pages',
        // The pages are meant to be shared, without a copy in between.
        isBlob: true,
        ranges: PageRuns.of([{ memfd, offset: start, length: BYTES }]),
        pixels: mappedOnce(memfd, start, this.#mappings),
      },
    }));
    this.finished = new Promise((resolve) => (this.#finish = resolve));
  }

  static open(): MovingBar {
    return new MovingBar(createMemfd('moving-bar', 2 * BYTES));
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
    this.#words.fill(BACKGROUND);
    this.#draw();
  }

  /** A guest would be offered this mode. This one draws what it draws. */
  setMonitor(_scanout: number, monitor: Monitor | null): void {
    console.log(monitor ? `the monitor is ${monitor.width}x${monitor.height}` : 'there is no monitor');
  }

  /** The bridge is disposed before: nothing reads the framebuffers any more. */
  [Symbol.dispose](): void {
    this.#sink = null;
    for (const mapping of this.#mappings) mapping[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
  }

  /** Draws on the framebuffer that is not on screen and flips to it. */
  #draw(): void {
    const sink = this.#sink;
    if (!sink || this.#frame === FRAMES) {
      this.#finish();
      return;
    }
    const index = this.#frame % 2;
    this.#damage.clear();
    // This framebuffer has the bar of two frames ago.
    this.#fill(index, this.#frame - 2, BACKGROUND);
    this.#fill(index, this.#frame, BAR);
    // On screen is the one with the bar of the frame before.
    this.#damage.add(barAt(this.#frame - 1), 0, BAR_WIDTH, HEIGHT);
    this.#frame++;
    sink.scanout(0, this.#framebuffers[index]!, WHOLE);
    // Done when the flip is on screen and the other framebuffer is free: draw the next.
    sink.flush(0, this.#damage, { isFenced: true, done: () => this.#draw() });
  }

  #fill(index: number, frame: number, colour: number): void {
    const x = barAt(frame);
    const start = (index * BYTES) / 4;
    for (let y = 0; y < HEIGHT; y++) {
      const row = start + y * WIDTH;
      this.#words.fill(colour, row + x, row + x + BAR_WIDTH);
    }
    this.#damage.add(x, 0, BAR_WIDTH, HEIGHT);
  }
}

function barAt(frame: number): number {
  return (Math.max(frame, 0) * 4) % (WIDTH - BAR_WIDTH);
}

/** A backing's pixels as one read-only mapping, made when it is first asked for. */
function mappedOnce(memfd: OwnedFd, start: number, mappings: Mapping[]): () => Mapping {
  let mapping: Mapping | null = null;
  return () => {
    if (!mapping) {
      mapping = Mapping.file(memfd, start, BYTES, 'read');
      mappings.push(mapping);
    }
    return mapping;
  };
}

const [file = 'bar.png'] = process.argv.slice(2);

using bar = MovingBar.open();
using output = HeadlessOutput.open({ width: WIDTH, height: HEIGHT });
using bridge = new Bridge(bar);
bridge.show(0, output);
await bar.finished;
await writePng(file, output.capture()!);
console.log(`${FRAMES} frames, the last one is in ${file}`);
