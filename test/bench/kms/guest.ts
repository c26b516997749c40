import { Bridge } from '../../../src/bridge/bridge.ts';
import type { ZeroCopy } from '../../../src/bridge/dmabuf-pool.ts';
import { newFramebufferId } from '../../../src/core/framebuffer.ts';
import type { Size } from '../../../src/core/geometry.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import type { PageRuns } from '../../../src/sys/page-runs.ts';
import { openUdmabuf, type PageOrder, ScatteredPicture } from '../../rig/scattered-picture.ts';
import { BareLoop } from './bare-loop.ts';
import type { BlankWatch } from './blank-watch.ts';
import { FlipSource } from './flip-source.ts';
import { BenchScreen, type Flipped } from './screen.ts';

export interface GuestOptions {
  readonly size: Size;
  /** Default 60. */
  readonly refreshHz?: number;
  readonly zeroCopy?: ZeroCopy;
  /** Records every frame. */
  readonly watch?: BlankWatch;
}

/** Guest memory with pictures in it. */
export class Pictures implements Disposable {
  readonly #stack: DisposableStack;
  readonly #pictures: readonly ScatteredPicture[];

  constructor({ width, height }: Size, count: number, order: PageOrder = 'ascending') {
    using stack = new DisposableStack();
    const driver = stack.use(openUdmabuf());
    this.#pictures = Array.from({ length: count }, () =>
      stack.use(new ScatteredPicture(driver, width, height, { order })),
    );
    this.#stack = stack.move();
    this.#pictures.forEach(({ pixels }, i) => pixels.bytes.fill(i + 1));
  }

  /** The pages of the first picture. */
  get runs(): PageRuns {
    const { backing } = this.#pictures[0]!.asPages;
    if (backing.kind !== 'pages') throw new Error('the picture is not in pages');
    return backing.ranges;
  }

  /** `count` framebuffers with new ids, of the pictures in turn. */
  framebuffers(count = this.#pictures.length): ReturnType<typeof fresh>[] {
    return Array.from({ length: count }, (_, i) => fresh(this.#pictures[i % this.#pictures.length]!));
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

function fresh(picture: ScatteredPicture): ScatteredPicture['asPages'] {
  return { ...picture.asPages, id: newFramebufferId() };
}

/** Our whole path: a guest that flips, a bridge, and a screen of vkms as large as the pictures. */
export class FlippingGuest implements Disposable {
  readonly screen: BenchScreen;
  readonly source: FlipSource;
  readonly #bridge: Bridge;
  readonly #stack: DisposableStack;
  readonly #rung: string;

  /** The pictures belong to the caller and must outlive this object. */
  constructor(
    framebuffers: ReturnType<Pictures['framebuffers']>,
    { size, refreshHz, zeroCopy = 'auto', watch }: GuestOptions,
  ) {
    using stack = new DisposableStack();
    this.screen = stack.use(new BenchScreen(size, refreshHz));
    watch?.follow(this.screen.output);
    this.source = new FlipSource(framebuffers);
    this.#bridge = stack.use(new Bridge(this.source, { zeroCopy }));
    this.#bridge.show(0, this.screen.output);
    this.#rung = zeroCopy === 'off' ? 'shadow' : 'udmabuf';
    this.#stack = stack.move();
  }

  readonly flip = (count: number): Promise<void> => this.source.flip(count);

  /** Flips once. Resolves with what that flip set, and the framebuffers of the last two flips. */
  async flipped(): Promise<Flipped> {
    const { fb } = this.screen.planeState;
    await this.flip(1);
    const state = this.screen.planeState;
    return { card: this.screen.card, state, fbs: [fb, state.fb] };
  }

  /** Lends the screen to a bare loop between the last two framebuffers. */
  async bare<T>(use: (loop: BareLoop) => Promise<T>): Promise<T> {
    const flipped = await this.flipped();
    return this.screen.lend(async () => {
      using loop = new BareLoop(flipped);
      return await use(loop);
    });
  }

  /** Throws unless the intended path is measured. */
  check(): void {
    const { rung } = this.#bridge.stats[0]!.screens[0]!.primary;
    if (rung !== this.#rung)
      throw new Error(`the pictures were shown by rung '${String(rung)}', expected '${this.#rung}'`);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}
