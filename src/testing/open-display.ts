import { readFileSync } from 'node:fs';
import { HeadlessOutput } from '../../display/headless/output.ts';
import type { ShownFrame } from '../../display/headless/scene.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { FrameHistory, type FrameTime, FrameTimes } from '../../display/picture/frame-history.ts';
import { decodePng } from '../../display/picture/png.ts';
import {
  type WaitForMatchOptions,
  type WaitForStableOptions,
  waitUntilMatch,
  waitUntilStable,
} from '../../display/picture/waits.ts';
import { BTN } from '../../protocols/input-event-codes.ts';
import { Bridge } from '../bridge/bridge.ts';
import { UsageError } from '../core/errors.ts';
import { EMPTY_RECT, type Size } from '../core/geometry.ts';
import type { GuestInput, InputSink } from '../core/input.ts';
import type { Picture } from '../core/picture.ts';
import { type ScanoutId, type Source } from '../core/source.ts';
import { Replay } from '../guest/replay/replay.ts';
import { VhostUserGuest } from '../guest/vhost-user/guest.ts';
import { monotonicMs } from '../sys/clock.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { LaunchedGuest } from './launch-guest.ts';
import { type Chord, chordsOf, parseChord } from './typing.ts';

const DEFAULT_SIZE: Size = { width: 1280, height: 800 };
const VHOST_USER = 'vhost-user:';

export interface DisplayOptions {
  /**
   * The path of a recording (`*.scanout`, played as fast as possible), `vhost-user:SOCKET` to listen there for a VMM
   * that the caller starts, or a guest that the caller owns.
   */
  readonly guest: string | LaunchedGuest | Source;
  /**
   * The monitor that the guest is offered, in pixels. Default: the recorded monitor, else 1280x800. The monitor of a
   * launched guest is already set.
   */
  readonly size?: Size;
  /** Which of the guest's monitors, counted from 0. Default 0. */
  readonly scanout?: number;
  /** The guest's input devices: the `sink` of a `VhostUserInput`. A launched guest has its own. */
  readonly input?: GuestInput;
  /** How many seconds of the past `video` shows, and the report of a failed comparison. Default 0. */
  readonly video?: number;
}

/**
 * Opens a display for a test, with a guest on it:
 *
 *     using display = openDisplay({ guest: 'fixtures/console-boot.scanout' });
 *     const picture = await display.waitForStable();
 *
 * Disposing the display disposes what it opened, and leaves a guest that it was given alone. Throws UsageError for
 * invalid options, RecordingError for an invalid recording, SysError if it cannot listen on the socket.
 */
export function openDisplay(options: DisplayOptions): TestDisplay {
  const { guest, scanout = 0 } = options;
  using owned = new DisposableStack();
  if (guest instanceof LaunchedGuest) return displayOfLaunched(guest, options, owned);
  const replay = typeof guest === 'string' && !guest.startsWith(VHOST_USER) ? owned.use(openRecording(guest)) : null;
  const source = replay ?? (typeof guest === 'string' ? owned.use(listenFor(guest, scanout)) : guest);
  const id = checkedScanout(scanout, source.scanouts);
  const output = owned.use(
    HeadlessOutput.open({ ...(options.size ?? replay?.monitors.get(id) ?? DEFAULT_SIZE), name: 'test display' }),
  );
  const input = options.input ?? null;
  const bridge = owned.use(new Bridge(source, input ? { input } : {}));
  bridge.show(id, output);
  const end = new AbortController();
  replay?.finished.catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    end.abort(closedError(output, `the recording cannot be played to its end: ${reason}`, cause));
  });
  return createDisplay({
    bridge,
    output,
    scanout: id,
    input,
    videoSeconds: options.video ?? 0,
    end,
    owned: owned.move(),
  });
}

/** A launched guest has its bridge, its output and its input devices already. */
function displayOfLaunched(
  guest: LaunchedGuest,
  { size, scanout = 0, input, video = 0 }: DisplayOptions,
  owned: DisposableStack,
): TestDisplay {
  const { bridge, output } = guest;
  const { width, height } = output.monitor;
  if (size && (size.width !== width || size.height !== height)) {
    throw new UsageError(
      `openDisplay: the guest was launched with a monitor of ${width}x${height}; set the size in launchGuest, because QEMU reports monitors only when the guest's driver starts`,
    );
  }
  if (input) throw new UsageError('openDisplay: a launched guest has its own input devices; leave `input` out');
  const end = new AbortController();
  void guest.exited.then(() => end.abort(closedError(output, `the guest is gone: ${guest.exitReason}`)));
  return createDisplay({
    bridge,
    output,
    scanout: checkedScanout(scanout, 1),
    input: guest.input,
    videoSeconds: video,
    end,
    owned: owned.move(),
  });
}

function openRecording(file: string): Replay {
  if (!file.endsWith('.scanout'))
    throw new UsageError(
      `openDisplay: '${file}' is not a guest: give a recording (*.scanout), vhost-user:SOCKET, or the result of launchGuest`,
    );
  return Replay.open({ file, speed: 'fast' });
}

function listenFor(guest: string, scanout: number): VhostUserGuest {
  return VhostUserGuest.open({ socket: guest.slice(VHOST_USER.length), scanouts: scanout + 1 });
}

function checkedScanout(index: number, count: number): ScanoutId {
  if (!Number.isInteger(index) || index < 0 || index >= count)
    throw new UsageError(`openDisplay: scanout ${index} of a guest with ${count}; they count from 0`);
  return index;
}

/** Why nothing more comes from a display, with the picture it showed last. */
function closedError(output: HeadlessOutput, message: string, cause?: unknown): DisplayError {
  return new DisplayError('closed', message, { picture: output.capture({ cursor: false }), cause });
}

/** A driver that takes no input event for this long is not running. */
const INPUT_TIMEOUT_MS = 10_000;

const BUTTONS: Readonly<Record<MouseButton, number>> = { left: BTN.LEFT, right: BTN.RIGHT, middle: BTN.MIDDLE };

export type MouseButton = 'left' | 'right' | 'middle';

/** What a TestDisplay is made of. */
export interface DisplayParts {
  readonly bridge: Bridge;
  /** Shows `scanout` of the bridge. */
  readonly output: HeadlessOutput;
  readonly scanout: ScanoutId;
  readonly input: GuestInput | null;
  /** How much of the past `video` shows; 0 keeps nothing. */
  readonly videoSeconds: number;
  /** Aborted with a DisplayError when the guest is gone, and by the display when it is disposed. */
  readonly end: AbortController;
  /** Disposed with the display. */
  readonly owned: DisposableStack;
}

/** Takes over `parts.owned`. */
export let createDisplay: (parts: DisplayParts) => TestDisplay;

/**
 * One monitor of a guest, as a test uses it; made by `openDisplay`. Waits react to frames and never poll.
 *
 * Every method throws or rejects with DisplayError `closed` once the display is disposed, and every wait once the
 * guest is gone.
 */
export class TestDisplay implements Disposable {
  readonly #parts: DisplayParts;
  readonly #frames = new FrameTimes();
  readonly #history: FrameHistory | null;

  static {
    createDisplay = (parts) => new TestDisplay(parts);
  }

  private constructor(parts: DisplayParts) {
    this.#parts = parts;
    const { output, videoSeconds } = parts;
    this.#history = videoSeconds > 0 ? new FrameHistory(videoSeconds, (region) => output.capture({ region })) : null;
    const shown = this.#history ? output.capture() : null;
    if (shown) this.#history?.add(monotonicMs(), shown);
    parts.owned.defer(output.onFrame((frame) => this.#note(frame)));
  }

  /** Sends single input events, for what `type`, `press` and `click` cannot express. Null if the guest has no input devices. */
  get input(): InputSink | null {
    return this.#parts.input;
  }

  /** The newest frames, up to 1024, oldest first. */
  get frames(): readonly FrameTime[] {
    return this.#frames.toArray();
  }

  /** How the guest's pixels reach the output: `udmabuf`, `shadow`, …; null before the first frame. */
  get rung(): string | null {
    const { bridge, output, scanout } = this.#parts;
    return bridge.stats[scanout]!.screens.find((screen) => screen.output === output.name)?.primary.rung ?? null;
  }

  /** The picture on screen now, by default without the hardware cursor. DisplayError `dark` while the guest shows nothing. */
  screenshot({ cursor = false }: { readonly cursor?: boolean } = {}): Picture {
    this.#throwIfDisposed();
    const picture = this.#parts.output.capture({ cursor });
    if (!picture)
      throw new DisplayError(
        'dark',
        `${this.#parts.output.name} shows nothing: the guest has not set a picture yet, or turned it off; await waitForStable() or waitForMatch()`,
      );
    return picture;
  }

  /**
   * Waits until no pixel has changed for `quietMs` (default 500), and resolves with the picture. Pixels in `masks` or
   * outside `region` may change. DisplayError `timeout` after `timeoutMs` (default 30000), with the last picture and
   * what kept changing.
   */
  waitForStable(options: Omit<WaitForStableOptions, 'signal'> = {}): Promise<Picture> {
    return waitUntilStable(this.#parts.output, { ...options, signal: this.#parts.end.signal }, () => this.rung);
  }

  /**
   * Resolves with the first picture, now or later, that matches `expected`: a picture or the path of a PNG. With `at`
   * that is a part of the screen. DisplayError `timeout` after `timeoutMs` (default 30000), with the last picture and
   * how it differed.
   */
  async waitForMatch(expected: Picture | string, options: Omit<WaitForMatchOptions, 'signal'> = {}): Promise<Picture> {
    const picture = typeof expected === 'string' ? decodePng(readFileSync(expected)) : expected;
    return waitUntilMatch(this.#parts.output, picture, { ...options, signal: this.#parts.end.signal }, () => this.rung);
  }

  /** Calls `listener` with each frame that comes on screen until the returned function is called. The frame is valid during the call. */
  onFrame(listener: (frame: ShownFrame) => void): () => void {
    return this.#parts.output.onFrame(listener);
  }

  /**
   * Types ASCII text on a US keyboard, key by key as the guest's driver takes them. DisplayError `key` for any other
   * character, before anything is typed; `input` if the guest has no keyboard or takes nothing from it.
   */
  async type(text: string): Promise<void> {
    const input = this.#requireInput();
    for (const chord of chordsOf(text, input.leds)) await this.#tap(input, chord);
  }

  /**
   * Presses keys together: `enter`, `ctrl+alt+F2`, `ctrl+c`. DisplayError `key` for an unknown key, with similar names;
   * `input` as for `type`.
   */
  async press(keys: string): Promise<void> {
    await this.#tap(this.#requireInput(), parseChord(keys));
  }

  /** Moves the pointer to a pixel of the screen and clicks. UsageError for a pixel outside the screen; DisplayError `dark`, `input`. */
  async click(x: number, y: number, button: MouseButton = 'left'): Promise<void> {
    const input = this.#requireInput();
    const { width, height } = this.screenshot();
    if (!(x >= 0 && y >= 0 && x < width && y < height))
      throw new UsageError(`click: ${x},${y} is not on a screen of ${width}x${height}`);
    input.pointerMovedTo(this.#parts.scanout, x, y);
    for (const isPressed of [true, false]) {
      input.button(BUTTONS[button], isPressed);
      input.frame();
    }
    await this.#untilTaken(input);
  }

  /**
   * An animated PNG of the last seconds on screen, with the hardware cursor. Null if the display was opened without
   * `video`, or the guest has shown nothing.
   */
  video(): Uint8Array | null {
    return this.#history?.encode() ?? null;
  }

  [Symbol.dispose](): void {
    this.#parts.end.abort(new DisplayError('closed', `${this.#parts.output.name} was disposed`));
    this.#parts.owned[Symbol.dispose]();
  }

  #note(frame: ShownFrame): void {
    this.#frames.add(frame.timeMs, frame.isDark ? 0 : frame.damage.area);
    this.#history?.add(frame.timeMs, frame.isDark ? EMPTY_RECT : frame, frame.damage, frame.cursorDamage);
  }

  #throwIfDisposed(): void {
    if (this.#parts.owned.disposed) throw new DisplayError('closed', `${this.#parts.output.name} was disposed`);
  }

  #requireInput(): GuestInput {
    this.#throwIfDisposed();
    const { input } = this.#parts;
    if (!input)
      throw new DisplayError(
        'input',
        'this guest has no input devices: launch it with launchGuest, or give openDisplay its `input`',
      );
    return input;
  }

  async #tap(input: GuestInput, chord: Chord): Promise<void> {
    for (const code of chord) {
      input.key(code, true);
      input.frame();
    }
    for (const code of chord.toReversed()) {
      input.key(code, false);
      input.frame();
    }
    await this.#untilTaken(input);
  }

  async #untilTaken(input: GuestInput): Promise<void> {
    const { signal } = this.#parts.end;
    signal.throwIfAborted();
    let timer: NodeJS.Timeout | undefined;
    let aborted = (): void => undefined;
    const failure = new Promise<never>((_, reject) => {
      aborted = () => reject(signal.reason as Error);
      signal.addEventListener('abort', aborted);
      const message = `the guest has taken no input event for ${INPUT_TIMEOUT_MS / 1000} s: is it running, and is its driver (virtio_input) loaded?`;
      timer = setTimeout(() => reject(new DisplayError('input', message)), INPUT_TIMEOUT_MS);
    });
    try {
      await Promise.race([input.taken(), failure]);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', aborted);
    }
  }
}
