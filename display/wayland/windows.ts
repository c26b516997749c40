import type { Log } from '../../src/core/log.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { type WaylandCloseReason, WaylandError, WaylandProtocolError, ZwpLinuxBufferParamsV1 } from './client/index.ts';
import { Compositor } from './compositor.ts';
import { type CompositorListener, WaylandOutput } from './output.ts';

const FIRST_DELAY_MS = 50;
const MAX_DELAY_MS = 5000;

export interface WaylandWindowsOptions {
  /** The compositor's socket, a path or a name below XDG_RUNTIME_DIR; default: as the environment says. */
  readonly socket?: string;
  /** Default `scanout-bridge`; with the monitor's number where the guest has several. */
  readonly title?: string;
  readonly fullscreen?: boolean;
  /** Screen pixels per guest pixel; default 1. */
  readonly zoom?: number;
  /** Frames may be shown before the vertical blank, where the compositor allows it. */
  readonly tearing?: boolean;
  readonly log?: Log;
  /** The user has closed the last window that was open. */
  readonly onClosed?: () => void;
}

/**
 * The windows of a guest, one per scanout. When the compositor goes they wait for the next one, at
 * the same place: after 50 ms, then twice as long each time, up to 5 s.
 */
export class WaylandWindows implements Disposable {
  readonly #options: WaylandWindowsOptions;
  readonly #log: Log;
  readonly #ending = new AbortController();
  #outputs: WaylandOutput[] = [];
  readonly #compositors: CompositorListener[] = [];
  #compositor: Compositor | null = null;
  #connectedMs = 0;
  #delayMs = FIRST_DELAY_MS;
  #retry: NodeJS.Timeout | null = null;
  /* Until a compositor has ended the connection over one. */
  #useDmabufs = true;
  #useExplicitSync = true;

  private constructor(options: WaylandWindowsOptions) {
    this.#options = options;
    this.#log = options.log ?? (() => undefined);
  }

  /** Rejects with WaylandError `connect`, WaylandOutputError `missing`, or why the connection ended at once. */
  static async connect(options: WaylandWindowsOptions = {}): Promise<WaylandWindows> {
    const windows = new WaylandWindows(options);
    await windows.#connect();
    return windows;
  }

  /** An output for each of a guest's scanouts. Once; they are disposed with this. */
  open(scanouts: number): readonly WaylandOutput[] {
    const { title = 'scanout-bridge', fullscreen = false, zoom = 1, tearing = false } = this.#options;
    const compositor = this.#compositor;
    if (!compositor) throw new Error('windows opened after the compositor had gone');
    this.#outputs = Array.from({ length: scanouts }, (_, scanout) => {
      const { output, compositors } = WaylandOutput.create(compositor, {
        ...{ scanout, fullscreen, zoom, tearing, log: this.#log },
        title: scanouts === 1 ? title : `${title} ${scanout + 1}`,
        isOptional: scanout > 0,
        onClosed: () => this.#outputClosed(),
      });
      this.#compositors.push(compositors);
      return output;
    });
    return this.#outputs;
  }

  /** Resolves when the compositor has handled everything the windows have asked for, and its answers were handled. Rejects if it is gone. */
  async roundtrip(): Promise<void> {
    if (!this.#compositor) throw new WaylandError('closed', 'there is no compositor at the moment');
    await this.#compositor.display.roundtrip();
  }

  [Symbol.dispose](): void {
    this.#ending.abort();
    if (this.#retry) clearTimeout(this.#retry);
    for (const output of this.#outputs) output[Symbol.dispose]();
    // What the windows said last is to arrive.
    this.#compositor?.display.flush();
    this.#compositor?.[Symbol.dispose]();
  }

  async #connect(): Promise<void> {
    const { socket } = this.#options;
    const { signal } = this.#ending;
    const uses = { useDmabufs: this.#useDmabufs, useExplicitSync: this.#useExplicitSync };
    const compositor = await Compositor.connect({ signal, log: this.#log, ...uses, ...(socket !== undefined && { socket }) });
    if (signal.aborted) {
      compositor[Symbol.dispose]();
      return;
    }
    this.#compositor = compositor;
    this.#connectedMs = monotonicMs();
    compositor.onClosed((reason) => this.#lost(reason));
    for (const listener of this.#compositors) listener.connected(compositor);
  }

  #lost(reason: WaylandCloseReason): void {
    this.#compositor = null;
    for (const listener of this.#compositors) listener.disconnected();
    if (this.#ending.signal.aborted) return;
    const culprit = reason instanceof WaylandProtocolError ? reason.interface : null;
    if (culprit === ZwpLinuxBufferParamsV1.interface.name) this.#useDmabufs = false;
    if (culprit?.startsWith('wp_linux_drm_syncobj_')) this.#useExplicitSync = false;
    this.#log('warn', `the compositor is gone, the guest runs on: ${reason.message}`);
    // One that ends every connection soon is not asked ever faster.
    if (monotonicMs() - this.#connectedMs > MAX_DELAY_MS) this.#delayMs = FIRST_DELAY_MS;
    this.#retryLater();
  }

  #retryLater(): void {
    this.#retry = setTimeout(() => void this.#reconnect(), this.#delayMs);
    this.#delayMs = Math.min(this.#delayMs * 2, MAX_DELAY_MS);
  }

  async #reconnect(): Promise<void> {
    try {
      await this.#connect();
      if (this.#compositor) this.#log('info', 'the windows are on a compositor again');
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      if (!this.#compositor) {
        this.#retryLater();
        return;
      }
      // It is there, but its windows cannot be had: its end is told as any other, and the next attempt follows.
      this.#log('warn', `the compositor's windows cannot be had: ${String(error)}`);
      this.#compositor[Symbol.dispose]();
    }
  }

  #outputClosed(): void {
    if (this.#outputs.every(({ isOpen }) => !isOpen)) this.#options.onClosed?.();
  }
}
