import { readFileSync } from 'node:fs';
import { HeadlessOutput } from '../../display/headless/output.ts';
import type { ShownFrame } from '../../display/headless/scene.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { FrameHistory, type FrameTime, FrameTimes } from '../../display/picture/frame-history.ts';
import { decodePng } from '../../display/picture/png.ts';
import { type WaitForMatchOptions, type WaitForStableOptions, waitUntilMatch, waitUntilStable } from '../../display/picture/waits.ts';
import { BTN } from '../../protocols/input-event-codes.ts';
import { Bridge } from '../bridge/bridge.ts';
import { UsageError } from '../core/errors.ts';
import { EMPTY_RECT, type Size } from '../core/geometry.ts';
import type { GuestInput, InputSink } from '../core/input.ts';
import type { Picture } from '../core/picture.ts';
import { scanoutId, type ScanoutId, type Source } from '../core/source.ts';
import { openReplay, type Replay } from '../guest/replay/replay.ts';
import { VhostUserGuest } from '../guest/vhost-user/guest.ts';
import { monotonicMs } from '../sys/clock.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { LaunchedGuest } from './launch-guest.ts';
import { type Chord, chordsOf, parseChord } from './typing.ts';

const DEFAULT_SIZE: Size = { width: 1280, height: 800 };
const VHOST_USER = 'vhost-user:';

export interface DisplayOptions {
  /**
   * A recording's path (`*.scanout`, played as fast as it goes), `vhost-user:SOCKET` to listen for a VMM of the
   * caller's, or a guest that is the caller's and stays so.
   */
  readonly guest: string | LaunchedGuest | Source;
  /** The monitor the guest is offered, in pixels; default: the recording's, else 1280x800. A launched guest has one already. */
  readonly size?: Size;
  /** Which of the guest's monitors, from 0. Default 0. */
  readonly scanout?: number;
  /** The guest's input devices, where they are not those of a launched guest: `VhostUserInput`'s `sink`. */
  readonly input?: GuestInput;
  /** Keeps so many seconds of what is shown for `video`, and for the report of a failure. Default 0. */
  readonly video?: number;
}

/**
 * A display for a test, with a guest on it:
 *
 *     using display = openDisplay({ guest: 'fixtures/console-boot.scanout' });
 *     const picture = await display.waitForStable();
 *
 * Disposing it disposes what it opened, not what it was given. UsageError for options that cannot be, RecordingError,
 * SysError for a socket that cannot be had.
 */
export function openDisplay(options: DisplayOptions): TestDisplay {
  const { guest, scanout = 0 } = options;
  using owned = new DisposableStack();
  if (guest instanceof LaunchedGuest) return displayOf(guest, options, owned);
  const replay = typeof guest === 'string' && !guest.startsWith(VHOST_USER) ? owned.use(openRecording(guest)) : null;
  const source = replay ?? (typeof guest === 'string' ? owned.use(listenFor(guest, scanout)) : guest);
  const id = checkedScanout(scanout, source.scanouts);
  const output = owned.use(HeadlessOutput.open({ ...(options.size ?? replay?.monitors.get(id) ?? DEFAULT_SIZE), name: 'test display' }));
  const input = options.input ?? null;
  const bridge = owned.use(new Bridge(source, input ? { input } : {}));
  bridge.show(id, output);
  const display = new TestDisplay({ bridge, output, scanout: id, input, videoSeconds: options.video ?? 0, owned: owned.move() });
  replay?.finished.catch((cause: unknown) => display.lost(`the recording cannot be played to its end: ${cause instanceof Error ? cause.message : String(cause)}`, cause));
  return display;
}

/** The display of a guest that has its monitor already. */
function displayOf(guest: LaunchedGuest, { size, scanout = 0, input, video = 0 }: DisplayOptions, owned: DisposableStack): TestDisplay {
  const { bridge, output } = guest;
  const { width, height } = output.monitor;
  if (size && (size.width !== width || size.height !== height)) throw new UsageError(`openDisplay: the guest was launched with a monitor of ${width}x${height}, give launchGuest the size: QEMU's guest hears of monitors when its driver starts`);
  if (input) throw new UsageError('openDisplay: a launched guest has its own input devices; leave `input` out');
  const display = new TestDisplay({ bridge, output, scanout: checkedScanout(scanout, 1), input: guest.input, videoSeconds: video, owned: owned.move() });
  void guest.exited.then(() => display.lost(`the guest is gone: ${guest.obituary}`));
  return display;
}

function openRecording(file: string): Replay {
  if (!file.endsWith('.scanout')) throw new UsageError(`openDisplay: '${file}' is no guest: give a recording (*.scanout), vhost-user:SOCKET, or what launchGuest gave you`);
  return openReplay({ file, speed: 'fast' });
}

function listenFor(guest: string, scanout: number): VhostUserGuest {
  return VhostUserGuest.open({ socket: guest.slice(VHOST_USER.length), scanouts: scanout + 1 });
}

function checkedScanout(index: number, count: number): ScanoutId {
  if (!Number.isInteger(index) || index < 0 || index >= count) throw new UsageError(`openDisplay: scanout ${index} of a guest with ${count}; they count from 0`);
  return scanoutId(index);
}

/** A guest's driver that takes no key for so long is not there. */
const KEY_TIMEOUT_MS = 10_000;

const BUTTONS = { left: BTN.LEFT, right: BTN.RIGHT, middle: BTN.MIDDLE } as const;

export type MouseButton = keyof typeof BUTTONS;

/** What a TestDisplay is made of. */
export interface DisplayParts {
  readonly bridge: Bridge;
  /** Shows `scanout` of the bridge. */
  readonly output: HeadlessOutput;
  readonly scanout: ScanoutId;
  readonly input: GuestInput | null;
  /** How much of the past `video` shows; 0 is none. */
  readonly videoSeconds: number;
  /** Everything of it that is this display's own. */
  readonly owned: DisposableStack;
}

/** One monitor of a guest as a test sees it: `openDisplay` makes it. Waits are for frames, nothing polls. */
export class TestDisplay implements Disposable {
  readonly #parts: DisplayParts;
  readonly #frames = new FrameTimes();
  readonly #history: FrameHistory | null;
  readonly #end = new AbortController();

  constructor(parts: DisplayParts) {
    this.#parts = parts;
    const { output, videoSeconds } = parts;
    this.#history = videoSeconds > 0 ? new FrameHistory(videoSeconds, (region) => output.capture({ region })) : null;
    const shown = this.#history ? output.capture() : null;
    if (shown) this.#history?.add(monotonicMs(), shown);
    parts.owned.defer(output.onFrame((frame) => this.#note(frame)));
  }

  /** Where a person's doings go, event by event, for what `type`, `press` and `click` cannot say. Null: the guest has no input devices of ours. */
  get input(): InputSink | null {
    return this.#parts.input;
  }

  /** The newest frames (some hundreds), oldest first. */
  get frames(): readonly FrameTime[] {
    return this.#frames.toArray();
  }

  /** How the guest's pixels get here (`udmabuf`, `shadow`...); null before the first frame. */
  get rung(): string | null {
    const { bridge, output, scanout } = this.#parts;
    return bridge.stats[scanout]!.screens.find((screen) => screen.output === output.name)?.primary.rung ?? null;
  }

  /** What is shown now, without the hardware cursor unless told. DisplayError `dark` while nothing is. */
  screenshot({ cursor = false }: { readonly cursor?: boolean } = {}): Picture {
    this.#mustBeOpen();
    const picture = this.#parts.output.capture({ cursor });
    if (!picture) throw new DisplayError('dark', `${this.#parts.output.name} shows nothing: the guest has not set a picture yet, or turned it off; await waitForStable() or waitForMatch()`);
    return picture;
  }

  /**
   * What is shown once no pixel has changed for `quietMs` (default 500) from now on, but for those in `masks` or
   * outside `region`. DisplayError `timeout` after `timeoutMs` (default 30000), with the picture and what kept changing.
   */
  waitForStable(options: Omit<WaitForStableOptions, 'signal'> = {}): Promise<Picture> {
    return waitUntilStable(this.#parts.output, { ...options, signal: this.#end.signal }, () => this.rung);
  }

  /**
   * The first picture, now or later, that matches `expected` (a picture, or a PNG's path), which with `at` is a part of
   * the screen. DisplayError `timeout` after `timeoutMs` (default 30000), with the last picture and how it differed.
   */
  async waitForMatch(expected: Picture | string, options: Omit<WaitForMatchOptions, 'signal'> = {}): Promise<Picture> {
    const picture = typeof expected === 'string' ? decodePng(readFileSync(expected)) : expected;
    return waitUntilMatch(this.#parts.output, picture, { ...options, signal: this.#end.signal }, () => this.rung);
  }

  /** Calls `listener` with each frame that comes on screen, valid during the call, until the function returned is called. */
  onFrame(listener: (frame: ShownFrame) => void): () => void {
    return this.#parts.output.onFrame(listener);
  }

  /**
   * Types a text of ASCII on a US keyboard, key after key as the guest's driver takes them. DisplayError `key` for other
   * characters, before anything is typed; `input` if the guest has no keyboard of ours or takes nothing.
   */
  async type(text: string): Promise<void> {
    const input = this.#input();
    for (const chord of chordsOf(text, input.leds)) await this.#tap(input, chord);
  }

  /** Presses keys together: `enter`, `ctrl+alt+F2`, `ctrl+c`. DisplayError `key` for an unknown one, which names those like it; `input` as of `type`. */
  async press(keys: string): Promise<void> {
    await this.#tap(this.#input(), parseChord(keys));
  }

  /** Moves the pointer to a pixel of the screen and clicks there. UsageError for one that is not on it; DisplayError `dark`, `input`. */
  async click(x: number, y: number, button: MouseButton = 'left'): Promise<void> {
    const input = this.#input();
    const { width, height } = this.screenshot();
    if (!(x >= 0 && y >= 0 && x < width && y < height)) throw new UsageError(`click: ${x},${y} is not on a screen of ${width}x${height}`);
    input.pointerMovedTo(this.#parts.scanout, x, y);
    for (const isPressed of [true, false]) {
      input.button(BUTTONS[button], isPressed);
      input.frame();
    }
    await this.#taken(input);
  }

  /** What was on screen in the last seconds, with the hardware cursor, as an animated PNG; null if the display was opened without `video`, or was dark all the time. */
  video(): Uint8Array | null {
    return this.#history?.encode() ?? null;
  }

  /** The guest is gone: whoever waits, or will, is told why. */
  lost(reason: string, cause?: unknown): void {
    this.#end.abort(new DisplayError('closed', reason, { picture: this.#parts.output.capture({ cursor: false }), cause }));
  }

  [Symbol.dispose](): void {
    this.#end.abort(new DisplayError('closed', `${this.#parts.output.name} was disposed`));
    this.#parts.owned[Symbol.dispose]();
  }

  #note(frame: ShownFrame): void {
    this.#frames.add(frame.timeMs, frame.isDark ? 0 : frame.damage.area);
    this.#history?.add(frame.timeMs, frame.isDark ? EMPTY_RECT : frame, frame.damage, frame.cursorDamage);
  }

  #mustBeOpen(): void {
    if (this.#parts.owned.disposed) throw new DisplayError('closed', `${this.#parts.output.name} was disposed`);
  }

  #input(): GuestInput {
    this.#mustBeOpen();
    const { input } = this.#parts;
    if (!input) throw new DisplayError('input', 'this guest has no input devices of ours: launch it with launchGuest, or give openDisplay its `input`');
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
    await this.#taken(input);
  }

  async #taken(input: GuestInput): Promise<void> {
    const { signal } = this.#end;
    signal.throwIfAborted();
    let timer: NodeJS.Timeout | undefined;
    let aborted = (): void => undefined;
    const never = new Promise<never>((_, reject) => {
      aborted = () => reject(signal.reason as Error);
      signal.addEventListener('abort', aborted);
      timer = setTimeout(() => reject(new DisplayError('input', `the guest takes nothing from our input devices for ${KEY_TIMEOUT_MS / 1000} s: is its driver, virtio_input, loaded, and is it running?`)), KEY_TIMEOUT_MS);
    });
    try {
      await Promise.race([input.taken(), never]);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', aborted);
    }
  }
}
