import { MemoryBudget } from '../../../src/core/budget.ts';
import { Outgoing } from '../../../display/wayland/client/outgoing.ts';
import { WaylandWindows } from '../../../display/wayland/windows.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import type { ZeroCopy } from '../../../src/bridge/dmabuf-pool.ts';
import { Damage } from '../../../src/core/damage.ts';
import type { Framebuffer } from '../../../src/core/framebuffer.ts';
import type { Rect, Size } from '../../../src/core/geometry.ts';
import type { Output } from '../../../src/core/output.ts';
import { type Flush, type Source, type SourceSink } from '../../../src/core/source.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import type { BorrowedFd } from '../../../src/sys/fd.ts';
import { EventFd } from '../../../src/sys/eventfd.ts';
import { Poll } from '../../../src/sys/poll.ts';

const SCANOUT = 0;

export interface WindowGuestOptions {
  /** Path of the compositor's socket. */
  readonly socket: string;
  readonly zeroCopy: ZeroCopy;
  /** Size of the top left part of the first framebuffer to redraw; if absent, all are shown in turn, each damaged as a whole. */
  readonly redraws?: Size | undefined;
}

/** How the end of a frame makes the guest draw the next one: by a call, which costs nothing, or by an eventfd, like a kick. */
type Pace = 'called' | 'kicked';

/** Called after each sendmsg of any client in this process. Guests that overlap each time their own sends. */
const onSent = new Set<() => void>();
const send = Object.getOwnPropertyDescriptor(Outgoing.prototype, 'send')!.value as (socket: BorrowedFd) => boolean;
Outgoing.prototype.send = function (this: Outgoing, socket) {
  const isAll = send.call(this, socket);
  for (const sent of onSent) sent();
  return isAll;
};

/** Our whole path: a guest that draws at the compositor's pace, a bridge and a window. */
export class WindowGuest implements Source, Flush {
  readonly scanouts = 1;
  readonly budget = new MemoryBudget(Infinity);
  readonly isFenced = true;
  /** Times from a frame's flush until sendmsg has returned, since the last call of `frames`. */
  readonly latenciesUs: number[] = [];
  readonly #framebuffers: readonly Framebuffer[];
  readonly #damage = new Damage();
  readonly #rect: Rect;
  readonly #isRedrawing: boolean;
  readonly #kick = EventFd.create();
  #stack: DisposableStack | null = null;
  #sink: SourceSink | null = null;
  #next = 0;
  #left = 0;
  #pace: Pace = 'called';
  #flushedMs = 0;
  #onStop: () => void = () => undefined;

  private constructor(framebuffers: readonly Framebuffer[], redraws: Size | undefined) {
    const { width, height } = framebuffers[0]!;
    this.#framebuffers = framebuffers;
    this.#rect = { x: 0, y: 0, width, height };
    this.#isRedrawing = redraws !== undefined;
    this.#damage.add(0, 0, redraws?.width ?? width, redraws?.height ?? height);
  }

  /** All framebuffers have the same size and stay the caller's. Resolves when the window shows them. */
  static async open(
    framebuffers: readonly Framebuffer[],
    { socket, zeroCopy, redraws }: WindowGuestOptions,
  ): Promise<WindowGuest> {
    using stack = new DisposableStack();
    const guest = new WindowGuest(framebuffers, redraws);
    stack.use(guest.#kick);
    stack.use(Poll.readable(guest.#kick, () => guest.#kicked()));
    const windows = stack.use(await WaylandWindows.open({ socket }));
    const output = windows.openOutputs(1)[0]!;
    guest.#watch(output);
    const bridge = stack.use(new Bridge(guest, { zeroCopy }));
    bridge.show(SCANOUT, output);
    guest.#show();
    await guest.frames(framebuffers.length);
    guest.#timeSends(stack);
    const { rung } = bridge.stats[0]!.screens[0]!.primary;
    // Makes sure that the intended path is measured.
    if (rung !== (zeroCopy === 'off' ? 'shadow' : 'udmabuf'))
      throw new Error(`the pictures were shown by rung '${String(rung)}'`);
    guest.#stack = stack.move();
    return guest;
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
  }

  setMonitor(): void {
    // The pictures have a fixed size.
  }

  /** Resolves when the last of `count` frames is on screen. */
  frames(count: number, pace: Pace = 'called'): Promise<void> {
    return new Promise((resolve) => {
      this.latenciesUs.length = 0;
      this.#left = count;
      this.#pace = pace;
      this.#onStop = () => setImmediate(resolve);
      this.#draw();
    });
  }

  done(): void {
    // The flush of a copied redraw is done before the frame is on screen.
    if (!this.#isRedrawing) this.#shown();
  }

  [Symbol.dispose](): void {
    this.#stack?.[Symbol.dispose]();
  }

  /** Must be called before a listener is attached. */
  #watch(output: Output): void {
    const attach = output.attach.bind(output);
    output.attach = (listener, options) => {
      const presented = listener.presented.bind(listener);
      listener.presented = (presentation) => {
        presented(presentation);
        if (this.#isRedrawing) this.#shown();
      };
      return attach(listener, options);
    };
  }

  #timeSends(stack: DisposableStack): void {
    const sent = (): void => {
      if (this.#flushedMs > 0) this.latenciesUs.push((performance.now() - this.#flushedMs) * 1000);
      this.#flushedMs = 0;
    };
    onSent.add(sent);
    stack.defer(() => onSent.delete(sent));
  }

  #show(): void {
    this.#sink!.scanout(SCANOUT, this.#framebuffers[this.#next]!, this.#rect);
    this.#next = this.#next + 1 === this.#framebuffers.length ? 0 : this.#next + 1;
  }

  #draw(): void {
    this.#flushedMs = performance.now();
    if (!this.#isRedrawing) this.#show();
    this.#sink!.flush(SCANOUT, this.#damage, this);
  }

  #kicked(): void {
    this.#kick.consume();
    this.#draw();
  }

  #shown(): void {
    this.#left--;
    if (this.#left === 0) this.#onStop();
    else if (this.#left > 0 && this.#pace === 'kicked') this.#kick.signal();
    else if (this.#left > 0) this.#draw();
  }
}
