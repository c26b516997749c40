import { setTimeout } from 'node:timers/promises';
import type { FrameTimes } from '../bridge/frame-ages.ts';
import { withResolvers } from '../sys/with-resolvers.ts';
import type { TracedFrame, TraceEvent } from './protocol.ts';

/** Of a reader that takes none; more are counted and left out. */
const MAX_FRAMES = 1024;
/** Frames of so many ms come together, so that the client is not woken for each. */
const TOGETHER_MS = 100;

/** When frames came to each stage, for a reader that takes them at its own pace. */
export class FrameTrace implements Disposable {
  readonly #stop: () => void;
  #frames: TracedFrame[] = [];
  #lost = 0;
  #wake: (() => void) | null = null;

  /** `trace` is that of a bridge. */
  constructor(trace: (tracer: (output: string, times: FrameTimes) => void) => () => void) {
    this.#stop = trace((output, times) => {
      if (this.#frames.length < MAX_FRAMES) this.#frames.push({ output, ...times });
      else this.#lost++;
      this.#wake?.();
    });
  }

  /** What came since the last call, as soon as there is something. Rejects with the reason of the signal. */
  async next(signal: AbortSignal): Promise<TraceEvent> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = withResolvers<null>();
    const aborted = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', aborted);
    this.#wake = () => resolve(null);
    if (this.#frames.length > 0) resolve(null);
    try {
      await promise;
    } finally {
      this.#wake = null;
      signal.removeEventListener('abort', aborted);
    }
    await setTimeout(TOGETHER_MS);
    signal.throwIfAborted();
    const event = { frames: this.#frames, lost: this.#lost };
    this.#frames = [];
    this.#lost = 0;
    return event;
  }

  [Symbol.dispose](): void {
    this.#stop();
  }
}
