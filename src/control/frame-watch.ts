import type { WatchedScreen } from '../../display/picture/screen-copy.ts';
import { Damage } from '../core/damage.ts';
import type { Rect, Size } from '../core/geometry.ts';
import { monotonicMs } from '../sys/clock.ts';
import type { FrameEvent } from './protocol.ts';

/**
 * The frames of a screen for a reader that takes them at its own pace: what comes in between is combined. A frame costs
 * no allocation until it is asked for.
 */
export class FrameWatch implements Disposable {
  readonly #stop: () => void;
  readonly #damage = new Damage();
  readonly #cursor = new Damage();
  #frames = 0;
  #timeMs = monotonicMs();
  #width: number;
  #height: number;
  /** The first event has not been taken. */
  #isNew = true;
  #wake: (() => void) | null = null;

  /** `size` is that of the picture on the screen; null if there is none. `release` is called when it is disposed. */
  constructor(screen: WatchedScreen, size: Size | null, release: () => void) {
    this.#width = size?.width ?? 0;
    this.#height = size?.height ?? 0;
    this.#damage.add(0, 0, this.#width, this.#height);
    const stop = screen.onFrame((frame) => {
      this.#frames++;
      this.#timeMs = frame.timeMs;
      const width = frame.isDark ? 0 : frame.width;
      const height = frame.isDark ? 0 : frame.height;
      if (width !== this.#width || height !== this.#height) this.#damage.add(0, 0, width, height);
      this.#width = width;
      this.#height = height;
      this.#damage.addAll(frame.damage);
      this.#cursor.addAll(frame.cursorDamage);
      this.#wake?.();
    });
    this.#stop = () => {
      stop();
      release();
    };
  }

  /** What came since the last call, as soon as there is something. Rejects with the reason of the signal. */
  async next(signal: AbortSignal): Promise<FrameEvent> {
    if (!this.#isNew && this.#frames === 0) await this.#frame(signal);
    signal.throwIfAborted();
    const [width, height] = [this.#width, this.#height];
    // The picture may have become smaller since the damage was done.
    this.#damage.clip({ x: 0, y: 0, width, height });
    const event = {
      timeMs: this.#timeMs,
      frames: this.#frames,
      width,
      height,
      damage: rectsOf(this.#damage),
      cursor: rectsOf(this.#cursor),
    };
    this.#isNew = false;
    this.#frames = 0;
    this.#damage.clear();
    this.#cursor.clear();
    return event;
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  async #frame(signal: AbortSignal): Promise<void> {
    let aborted = (): void => undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        aborted = () => reject(signal.reason as Error);
        if (signal.aborted) aborted();
        signal.addEventListener('abort', aborted);
      });
    } finally {
      this.#wake = null;
      signal.removeEventListener('abort', aborted);
    }
  }
}

function rectsOf(damage: Damage): Rect[] {
  return Array.from({ length: damage.count }, (_, i) => ({
    x: damage.x(i),
    y: damage.y(i),
    width: damage.width(i),
    height: damage.height(i),
  }));
}
