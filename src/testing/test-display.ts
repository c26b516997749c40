import { readFileSync } from 'node:fs';
import type { HeadlessOutput } from '../../display/headless/output.ts';
import type { ShownFrame } from '../../display/headless/scene.ts';
import { decodePng } from '../../display/picture/png.ts';
import { BTN } from '../../protocols/input-event-codes.ts';
import type { Bridge } from '../bridge/bridge.ts';
import { UsageError } from '../core/errors.ts';
import { EMPTY_RECT } from '../core/geometry.ts';
import type { GuestInput, InputSink } from '../core/input.ts';
import type { Picture } from '../core/picture.ts';
import type { ScanoutId } from '../core/source.ts';
import { monotonicMs } from '../sys/clock.ts';
import type { DisposableStack } from '../sys/disposable-stack.ts';
import { DisplayError } from '../../display/picture/errors.ts';
import { FrameHistory, type FrameTime, FrameTimes } from '../../display/picture/frame-history.ts';
import { type Chord, chordsOf, parseChord } from './typing.ts';
import { type WaitForMatchOptions, type WaitForStableOptions, waitUntilMatch, waitUntilStable } from '../../display/picture/waits.ts';

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
