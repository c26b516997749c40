import { type Clipboard, MAX_CLIPBOARD_BYTES } from '../../src/core/clipboard.ts';
import type { Log } from '../../src/core/log.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { type WaylandCloseReason, WaylandError, WaylandProtocolError, ZwpLinuxBufferParamsV1 } from './client/index.ts';
import { WaylandClipboard } from './clipboard.ts';
import { Compositor } from './compositor.ts';
import { type CompositorListener, WaylandOutput } from './output.ts';

const FIRST_DELAY_MS = 50;
const MAX_DELAY_MS = 5000;

export interface WaylandWindowsOptions {
  /**
   * The compositor's socket: a path, or a name below XDG_RUNTIME_DIR. By default the one that
   * WAYLAND_SOCKET or WAYLAND_DISPLAY names.
   */
  readonly socket?: string;
  /** Title of the windows; default `scanout-bridge`. With several windows each title ends with a number, from 1. */
  readonly title?: string;
  /** Opens the windows full screen. */
  readonly fullscreen?: boolean;
  /** Screen pixels per guest pixel; default 1. */
  readonly zoom?: number;
  /** Allows the compositor to show frames before the vertical blank, for less latency. */
  readonly tearing?: boolean;
  /** In full screen, keeps the monitor from going dark. */
  readonly inhibitIdle?: boolean;
  /** From the program that started this one (XDG_ACTIVATION_TOKEN): lets the first window have the focus. */
  readonly activationToken?: string;
  /** Shown in a window while the guest shows nothing, one line; default: none. */
  readonly offText?: string;
  /** Has the desktop's clipboard as `clipboard`; default false. */
  readonly shareClipboard?: boolean;
  /** Told about lost connections and what the compositor cannot do. */
  readonly log?: Log;
  /** Called when the user has closed the last window that was open. */
  readonly onClosed?: () => void;
}

/**
 * The windows of a guest, one per scanout. The first window is always open; each other one is open
 * while its scanout shows something. When the compositor goes away, the outputs stay and the
 * windows open again on the next compositor at the same socket: it is tried after 50 ms, then
 * after twice as long each time, up to 5 s.
 */
export class WaylandWindows implements Disposable {
  readonly #options: WaylandWindowsOptions;
  readonly #log: Log;
  readonly #ending = new AbortController();
  readonly #clipboard: WaylandClipboard;
  #outputs: WaylandOutput[] = [];
  /** One for each output. */
  readonly #listeners: CompositorListener[] = [];
  #compositor: Compositor | null = null;
  #connectedMs = 0;
  #delayMs = FIRST_DELAY_MS;
  #retry: NodeJS.Timeout | null = null;
  /** Off for good once a compositor has ended the connection over a protocol error in it, which no guest can cause. */
  #useExplicitSync = true;

  private constructor(options: WaylandWindowsOptions) {
    this.#options = options;
    this.#log = options.log ?? (() => undefined);
    this.#clipboard = new WaylandClipboard(this.#log);
  }

  /**
   * Connects to the compositor; the caller disposes the result. Rejects with WaylandError `connect`
   * if no compositor listens at the socket, with WaylandOutputError `missing` if it lacks something
   * that windows need, or with the reason for which it ended the connection.
   */
  static async open(options: WaylandWindowsOptions = {}): Promise<WaylandWindows> {
    const windows = new WaylandWindows(options);
    await windows.#connect();
    return windows;
  }

  /** The desktop's clipboard, while the keyboard is in one of the windows; null without `shareClipboard`. */
  get clipboard(): Clipboard | null {
    return this.#options.shareClipboard ? this.#clipboard : null;
  }

  /**
   * Makes the outputs, one per scanout of the guest. To be called once. They are disposed with this object. `pngOf` makes
   * a PNG of a scanout's picture, for the user to copy with Ctrl+Alt+C; without it those keys are the guest's.
   */
  openOutputs(scanouts: number, pngOf?: (scanout: number) => Promise<Uint8Array>): readonly WaylandOutput[] {
    const { title = 'scanout-bridge', fullscreen = false, zoom = 1, tearing = false } = this.#options;
    const { inhibitIdle = false, activationToken = null, offText = '' } = this.#options;
    const compositor = this.#compositor;
    if (!compositor)
      throw new Error('openOutputs: the connection to the compositor is lost; call it right after WaylandWindows.open');
    this.#outputs = Array.from({ length: scanouts }, (_, scanout) => {
      const { output, listener } = WaylandOutput.create(compositor, {
        ...{ scanout, fullscreen, zoom, tearing, inhibitIdle, offText, log: this.#log },
        activationToken: scanout === 0 ? activationToken : null,
        title: scanouts === 1 ? title : `${title} ${scanout + 1}`,
        isOptional: scanout > 0,
        copyPicture: () => {
          if (pngOf) void this.#copy(scanout, pngOf);
          return pngOf !== undefined;
        },
        onClosed: () => this.#outputClosed(),
      });
      this.#listeners.push(listener);
      return output;
    });
    return this.#outputs;
  }

  /**
   * Resolves when the compositor has handled all requests of the windows so far, and the windows
   * have handled its answers. Rejects if the connection is lost. Meant for tests.
   */
  async roundtrip(): Promise<void> {
    if (!this.#compositor) throw new WaylandError('gone', 'roundtrip: the connection to the compositor is lost');
    await this.#compositor.display.roundtrip();
  }

  [Symbol.dispose](): void {
    this.#ending.abort();
    if (this.#retry) clearTimeout(this.#retry);
    this.#clipboard[Symbol.dispose]();
    for (const output of this.#outputs) output[Symbol.dispose]();
    // The windows' last requests must still reach the compositor.
    this.#compositor?.display.flush();
    this.#compositor?.[Symbol.dispose]();
  }

  async #copy(scanout: number, pngOf: (scanout: number) => Promise<Uint8Array>): Promise<void> {
    const what = `the picture of scanout ${scanout}`;
    try {
      const png = await pngOf(scanout);
      if (png.length > MAX_CLIPBOARD_BYTES)
        this.#log(
          'warn',
          `${what} is not copied: as a PNG it has ${png.length} bytes, and the clipboard takes ${MAX_CLIPBOARD_BYTES}; save it with \`scanout screenshot\``,
        );
      else if (this.#clipboard.copy(png)) this.#log('info', `${what} is on the clipboard, as a PNG`);
      else this.#log('warn', `${what} is not copied: the keyboard has left the window`);
    } catch (error) {
      this.#log('warn', `${what} is not copied: ${String(error)}`);
    }
  }

  async #connect(): Promise<void> {
    const { socket } = this.#options;
    const { signal } = this.#ending;
    const compositor = await Compositor.connect({
      signal,
      clipboard: this.#clipboard,
      log: this.#log,
      useExplicitSync: this.#useExplicitSync,
      ...(socket !== undefined && { socket }),
    });
    if (signal.aborted) {
      compositor[Symbol.dispose]();
      return;
    }
    this.#compositor = compositor;
    this.#connectedMs = monotonicMs();
    compositor.onClosed((reason) => this.#lost(compositor, reason));
    for (const listener of this.#listeners) listener.connected(compositor);
  }

  #lost(compositor: Compositor, reason: WaylandCloseReason): void {
    this.#compositor = null;
    const culprit = reason instanceof WaylandProtocolError ? reason : null;
    if (culprit?.interface === ZwpLinuxBufferParamsV1.interface.name) compositor.importLimit.blame(culprit.objectId);
    if (culprit?.interface?.startsWith('wp_linux_drm_syncobj_')) this.#useExplicitSync = false;
    for (const listener of this.#listeners) listener.disconnected();
    if (this.#ending.signal.aborted) return;
    this.#log('warn', `lost the compositor, the guest keeps running: ${reason.message}`);
    // A compositor that ends every connection soon is not tried faster and faster.
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
      if (this.#compositor) this.#log('info', 'connected to a compositor again');
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      if (!this.#compositor) {
        this.#retryLater();
        return;
      }
      // The connection works, but a window could not be opened. Ending it leads to `#lost`, and to the next attempt.
      this.#log('warn', `cannot open windows on the compositor: ${String(error)}`);
      this.#compositor[Symbol.dispose]();
    }
  }

  #outputClosed(): void {
    if (this.#outputs.every(({ isOpen }) => !isOpen)) this.#options.onClosed?.();
  }
}
