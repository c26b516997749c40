import { HeadlessOutput } from '../../display/headless/output.ts';
import type { ShownFrame } from '../../display/headless/scene.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { FrameHistory, type FrameTime, FrameTimes } from '../../display/picture/frame-history.ts';
import { type FindOptions, type Found, Needle, type Place, readNeedle } from '../../display/picture/needle.ts';
import { readPng } from '../../display/picture/png.ts';
import { ScreenReader, type ScreenText, type TextOptions } from '../../display/picture/screen-text.ts';
import {
  type FoundAny,
  type WaitForAnyOptions,
  type WaitForMatchOptions,
  type WaitForStableOptions,
  type WaitForTextOptions,
  type WaitOptions,
  waitUntilAny,
  waitUntilChange,
  waitUntilMatch,
  waitUntilStable,
  waitUntilText,
} from '../../display/picture/waits.ts';
import { Bridge } from '../bridge/bridge.ts';
import { type MouseButton, Operator, type Point } from '../control/operator.ts';
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

async function needleOf(needle: Picture | string): Promise<Needle> {
  return typeof needle === 'string' ? readNeedle(needle) : new Needle(needle, null);
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
  readonly #operator: Operator | null;

  static {
    createDisplay = (parts) => new TestDisplay(parts);
  }

  private constructor(parts: DisplayParts) {
    this.#parts = parts;
    const { bridge, output, videoSeconds, input } = parts;
    this.#operator =
      input &&
      new Operator(
        input,
        () => output.pictureSize,
        () => bridge.flushes,
      );
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
    const picture = typeof expected === 'string' ? await readPng(expected) : expected;
    return waitUntilMatch(this.#parts.output, picture, { ...options, signal: this.#parts.end.signal }, () => this.rung);
  }

  /**
   * Resolves with the picture once a pixel has changed from what it is now; null if the guest has turned its screen off.
   * Call it before what is to change it. DisplayError `timeout` after `timeoutMs` (default 30000).
   */
  waitForChange(options: Omit<WaitOptions, 'signal'> = {}): Promise<Picture | null> {
    return waitUntilChange(this.#parts.output, { ...options, signal: this.#parts.end.signal }, () => this.rung);
  }

  /**
   * Finds a picture on the screen as it is now: a picture, the path of a PNG, or that of a needle (a PNG or JSON of
   * os-autoinst). DisplayError `not-found` says what comes nearest, and has the screen; `dark` while the guest shows
   * nothing; NeedleError or PngError for an invalid file.
   *
   *     await display.click(await display.find('ok.png'));
   */
  async find(
    needle: Picture | string,
    { cursor, ...where }: FindOptions & { readonly cursor?: boolean } = {},
  ): Promise<Found> {
    const sought = await needleOf(needle);
    const picture = this.screenshot(cursor === undefined ? {} : { cursor });
    const found = sought.findOrDescribe(picture, where);
    if (typeof found !== 'string') return found;
    throw new DisplayError('not-found', `${this.#parts.output.name}: ${found}`, { picture });
  }

  /**
   * Resolves with the first of several pictures that is on the screen, now or later, and which of them it is. They are
   * what `find` takes. DisplayError `timeout` after `timeoutMs` (default 30000) says what came nearest to each.
   */
  async waitForAny(needles: readonly (Picture | string)[], options: WaitForAnyOptions = {}): Promise<FoundAny> {
    if (needles.length === 0) throw new UsageError('waitForAny: give at least one picture to wait for');
    const sought = await Promise.all(needles.map(needleOf));
    return waitUntilAny(this.#parts.output, sought, { ...options, signal: this.#parts.end.signal }, () => this.rung);
  }

  /**
   * Reads the text on the screen as it is now, or in a part of it. A Linux console is read by the glyphs of its font,
   * exactly, if that is one of `fonts` or installed on this machine; anything else by tesseract. DisplayError `dark`;
   * `unreadable` if it would take tesseract and that is not installed; FontError for an invalid font.
   */
  async text(options: TextOptions = {}): Promise<ScreenText> {
    const reader = await ScreenReader.open(options);
    return reader.read(this.screenshot(), this.#parts.end.signal);
  }

  /**
   * Resolves with the match once the text on the screen, as `text` reads it, matches: at once or later. DisplayError
   * `timeout` after `timeoutMs` (default 30000), with the last text; `unreadable`.
   *
   *     const [, address] = await display.waitForText(/inet ([\d.]+)/);
   */
  async waitForText(pattern: RegExp, options: WaitForTextOptions = {}): Promise<RegExpExecArray> {
    const reader = await ScreenReader.open(options);
    const { output, end } = this.#parts;
    return waitUntilText(output, pattern, reader, { ...options, signal: end.signal }, () => this.rung);
  }

  /** Calls `listener` with each frame that comes on screen until the returned function is called. The frame is valid during the call. */
  onFrame(listener: (frame: ShownFrame) => void): () => void {
    return this.#parts.output.onFrame(listener);
  }

  /**
   * Types ASCII text on a US keyboard, key by key as the guest's driver takes them. DisplayError `key` for any other
   * character, before anything is typed; `input` if the guest has no keyboard or takes nothing from it.
   */
  type(text: string): Promise<void> {
    return this.#operate((operator, signal) => operator.type(text, signal));
  }

  /**
   * Presses keys together: `enter`, `ctrl+alt+F2`, `ctrl+c`. DisplayError `key` for an unknown key, with similar names;
   * `input` as for `type`.
   */
  press(keys: string): Promise<void> {
    return this.#operate((operator, signal) => operator.press(keys, signal));
  }

  /** Moves the pointer to a pixel of the screen and clicks. UsageError for a pixel outside the screen; DisplayError `dark`, `input`. */
  click(x: number, y: number, button?: MouseButton): Promise<void>;
  /** Clicks what `find` or `waitForAny` has found: its click point, by default its middle. */
  click(found: Pick<Place, 'click'>, button?: MouseButton): Promise<void>;
  click(at: number | Pick<Place, 'click'>, y?: number | MouseButton, button?: MouseButton): Promise<void> {
    return this.#click(1, at, y, button);
  }

  /** As `click`, twice. */
  doubleClick(x: number, y: number, button?: MouseButton): Promise<void>;
  doubleClick(found: Pick<Place, 'click'>, button?: MouseButton): Promise<void>;
  doubleClick(at: number | Pick<Place, 'click'>, y?: number | MouseButton, button?: MouseButton): Promise<void> {
    return this.#click(2, at, y, button);
  }

  /** Moves the pointer to a pixel of the screen. Errors as of `click`. */
  move(x: number, y: number): Promise<void> {
    return this.#operate((operator, signal) => operator.move(this.#parts.scanout, { x, y }, signal));
  }

  /** Moves the pointer from one pixel to another with a button held. Errors as of `click`. */
  drag(from: Point, to: Point, button: MouseButton = 'left'): Promise<void> {
    return this.#operate((operator, signal) => operator.drag(this.#parts.scanout, from, to, button, signal));
  }

  /** Turns the wheel where the pointer is, by notches: positive is `down`, and to the `right`. DisplayError `input`. */
  scroll({ down = 0, right = 0 }: { readonly down?: number; readonly right?: number }): Promise<void> {
    return this.#operate((operator, signal) => operator.scroll(this.#parts.scanout, right, down, null, signal));
  }

  /** Touches the screen with one finger, which moves `to` there before it is lifted. Errors as of `click`. */
  touch(at: Point, to: Point = at): Promise<void> {
    return this.#operate((operator, signal) => operator.touch(this.#parts.scanout, at, to, signal));
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

  #click(
    clicks: 1 | 2,
    at: number | Pick<Place, 'click'>,
    y: number | MouseButton | undefined,
    button: MouseButton | undefined,
  ): Promise<void> {
    const point = typeof at === 'number' ? { x: at, y: y as number } : at.click;
    const chosen = (typeof at === 'number' ? button : (y as MouseButton | undefined)) ?? 'left';
    return this.#operate((operator, signal) => operator.click(this.#parts.scanout, point, chosen, clicks, signal));
  }

  #note(frame: ShownFrame): void {
    this.#frames.add(frame.timeMs, frame.isDark ? 0 : frame.damage.area);
    this.#history?.add(frame.timeMs, frame.isDark ? EMPTY_RECT : frame, frame.damage, frame.cursorDamage);
  }

  #throwIfDisposed(): void {
    if (this.#parts.owned.disposed) throw new DisplayError('closed', `${this.#parts.output.name} was disposed`);
  }

  async #operate(work: (operator: Operator, signal: AbortSignal) => Promise<void>): Promise<void> {
    this.#throwIfDisposed();
    if (!this.#operator)
      throw new DisplayError(
        'input',
        'this guest has no input devices: launch it with launchGuest, or give openDisplay its `input`',
      );
    await work(this.#operator, this.#parts.end.signal);
  }
}
