import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { DEFAULT_QUIET_MS, DEFAULT_TIMEOUT_MS } from '../../src/core/patience.ts';
import { monotonicMs, startTimer } from '../../src/sys/clock.ts';
import { type CompareOptions, comparePictures, type Comparison } from './compare.ts';
import { crop, formatRect, formatSize, wordsOf } from './difference.ts';
import { DisplayError } from './errors.ts';
import type { FindOptions, Found, Needle } from './needle.ts';
import type { ScreenReader, ScreenText, TextOptions } from './screen-text.ts';
import { type Attention, ScreenCopy, type WatchedScreen } from './screen-copy.ts';

export interface WaitOptions extends Attention {
  /** Default 30000. Infinity waits as long as it takes. */
  readonly timeoutMs?: number;
  /** Ends the wait, which rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface WaitForStableOptions extends WaitOptions {
  /** How long no pixel may change. Default 500. */
  readonly quietMs?: number;
}

export interface WaitForMatchOptions extends CompareOptions, WaitOptions {
  /** The expected picture is a part of the screen, at this place. `region` and `masks` are then in pixels of the expected picture. */
  readonly at?: { readonly x: number; readonly y: number };
}

/** Returns how pixels reach the screen (`udmabuf`, `shadow`, …), for error messages. */
type Rung = () => string | null;

const noRung: Rung = () => null;

type End<T> = (result: T | Promise<T>) => void;

/** What a wait is for, and what it resolves with. */
interface Goal<T> {
  /** Called at the start and after every change that counts. What `screen` has been on screen since `sinceMs`; `end` ends the wait; `isCurrent` is false once that has changed. */
  look(screen: ScreenCopy, sinceMs: number, end: End<T>, isCurrent: () => boolean): void;
  /** What did not happen, for the error message. */
  missed(picture: Picture | null): string;
}

/** Resolves with the picture once no pixel that counts has changed for `quietMs`. DisplayError `timeout` describes what kept changing. */
export function waitUntilStable(
  output: WatchedScreen,
  { quietMs = DEFAULT_QUIET_MS, ...options }: WaitForStableOptions = {},
  rung: Rung = noRung,
): Promise<Picture> {
  let quiet: NodeJS.Timeout | undefined;
  const goal: Goal<Picture> = {
    look(screen, sinceMs, end, isCurrent) {
      clearTimeout(quiet);
      if (screen.isDark) return;
      quiet = startTimer(
        () => {
          // Timers run before sockets are read: commands of the guest may still be waiting for this process.
          setImmediate(() => void output.settled().then(() => isCurrent() && end(screen.picture!)));
        },
        quietMs - (monotonicMs() - sinceMs),
      );
    },
    missed: (picture) => (picture ? `did not stand still for ${quietMs} ms` : 'showed nothing'),
  };
  return wait(output, options, rung, goal).finally(() => clearTimeout(quiet));
}

/** Resolves with the first picture, now or later, that matches. DisplayError `timeout` describes how the last one differed. */
export function waitUntilMatch(
  output: WatchedScreen,
  expected: Picture,
  options: WaitForMatchOptions = {},
  rung: Rung = noRung,
): Promise<Picture> {
  const { at } = options;
  const place = at && { ...at, width: expected.width, height: expected.height };
  let comparison: Comparison | null = null;
  const goal: Goal<Picture> = {
    look({ picture }, _, end) {
      if (!picture) return;
      const actual = place ? partOf(picture, place) : picture;
      comparison = actual && comparePictures(expected, actual, options);
      if (comparison?.matches) end(picture);
    },
    missed: (picture) => {
      if (!picture) return 'showed nothing';
      return `did not show the expected picture (last: ${comparison?.explanation ?? `${formatRect(place!)} is not on a screen of ${formatSize(picture)}`})`;
    },
  };
  return wait(output, place ? { ...options, ...onScreen(options, place) } : options, rung, goal);
}

export interface WaitForAnyOptions extends FindOptions {
  /** Default 30000. Infinity waits as long as it takes. */
  readonly timeoutMs?: number;
  /** Include the hardware cursor. Default false. */
  readonly cursor?: boolean;
}

/** Which of several needles is on the screen. */
export interface FoundAny extends Found {
  /** Its index in the list that was waited for. */
  readonly index: number;
}

/** Resolves with the first needle of the list that is on the screen, now or later. DisplayError `timeout` says what came nearest to each. */
export function waitUntilAny(
  output: WatchedScreen,
  needles: readonly Needle[],
  options: WaitForAnyOptions & { readonly signal?: AbortSignal } = {},
  rung: Rung = noRung,
): Promise<FoundAny> {
  return wait(output, options, rung, {
    look({ picture }, _, end) {
      if (!picture) return;
      for (const [index, needle] of needles.entries()) {
        const found = needle.find(picture, options);
        if (found) {
          end({ ...found, index });
          return;
        }
      }
    },
    missed(picture) {
      if (!picture) return 'showed nothing';
      return `showed nothing that was looked for (${needles.map((needle) => needle.describeNearest(picture, options)).join('; ')})`;
    },
  });
}

export interface WaitForTextOptions extends TextOptions {
  /** Default 30000. Infinity waits as long as it takes. */
  readonly timeoutMs?: number;
}

/**
 * Resolves with the match once the text on the screen matches, now or later. Where tesseract has to read, it reads the
 * newest picture again and again, so some are left out. DisplayError `timeout` has the last text; `unreadable`.
 */
export function waitUntilText(
  output: WatchedScreen,
  pattern: RegExp,
  reader: ScreenReader,
  options: WaitForTextOptions & { readonly signal?: AbortSignal } = {},
  rung: Rung = noRung,
): Promise<RegExpExecArray> {
  // A pattern with flag g or y would go on where it matched last.
  const wanted = new RegExp(pattern, pattern.flags.replace(/[gy]/g, ''));
  const ended = new AbortController();
  let last: ScreenText | null = null;
  let newest: Picture | null = null;
  let isReading = false;
  const check = (text: ScreenText, end: End<RegExpExecArray>): void => {
    last = text;
    const match = wanted.exec(text.text);
    if (match) end(match);
  };
  const recognise = async (end: End<RegExpExecArray>): Promise<void> => {
    isReading = true;
    while (newest && !ended.signal.aborted) {
      const picture: Picture = newest;
      newest = null;
      check(await reader.read(picture, ended.signal), end);
    }
    isReading = false;
  };
  const goal: Goal<RegExpExecArray> = {
    look({ picture }, _, end) {
      newest = null;
      if (!picture || !reader.isOn(picture)) return;
      const text = reader.readConsole(picture);
      if (text) {
        check(text, end);
        return;
      }
      newest = picture;
      if (!isReading)
        recognise(end).catch((error: unknown) => ended.signal.aborted || end(Promise.reject(error as Error)));
    },
    missed: () =>
      last
        ? `did not show text that matches ${String(pattern)} (last, read by ${last.font ?? last.readBy}: ${JSON.stringify(last.text.slice(-SHOWN_TEXT))})`
        : 'showed no text',
  };
  return wait(output, options, rung, goal).finally(() => ended.abort());
}

/** How many of the last characters of a text an error message has. */
const SHOWN_TEXT = 400;

/** Resolves with the picture once a pixel that counts has changed; null if the screen has turned off. DisplayError `timeout`. */
export function waitUntilChange(
  output: WatchedScreen,
  options: WaitOptions = {},
  rung: Rung = noRung,
): Promise<Picture | null> {
  let isFirst = true;
  return wait(output, options, rung, {
    look(screen, _, end) {
      if (!isFirst) end(screen.picture);
      isFirst = false;
    },
    missed: () => 'did not change',
  });
}

/** Null if the place is not entirely on the screen. */
function partOf(picture: Picture, place: Rect): Picture | null {
  const { x, y, width, height } = place;
  return x >= 0 && y >= 0 && x + width <= picture.width && y + height <= picture.height ? crop(picture, place) : null;
}

function onScreen({ masks = [] }: WaitForMatchOptions, place: Rect): Attention {
  return { region: place, masks: masks.map((mask) => ({ ...mask, x: mask.x + place.x, y: mask.y + place.y })) };
}

function wait<T>(
  output: WatchedScreen,
  { timeoutMs = DEFAULT_TIMEOUT_MS, signal, ...attention }: WaitOptions,
  rung: Rung,
  goal: Goal<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const screen = new ScreenCopy(output, attention);
    const changes = new ChangeLog();
    /** Counts the changes, so that a goal knows whether the picture it looked at has changed since. */
    let generation = 0;
    const finish = (): void => {
      stop();
      clearTimeout(deadline);
      signal?.removeEventListener('abort', aborted);
    };
    const fail = (error: Error): void => {
      finish();
      reject(error);
    };
    const aborted = (): void => fail(signal?.reason as Error);
    const look = (sinceMs: number): void => {
      const mine = ++generation;
      const end = (result: T | Promise<T>): void => {
        finish();
        resolve(result);
      };
      goal.look(screen, sinceMs, end, () => mine === generation);
    };
    const orFail = (work: () => void): void => {
      try {
        work();
      } catch (error) {
        fail(error as Error);
      }
    };
    const stop = output.onFrame((frame) =>
      orFail(() => {
        const isChanged = screen.update(frame);
        changes.add(frame.timeMs, isChanged ? screen : null);
        if (isChanged) look(frame.timeMs);
      }),
    );
    const deadline = startTimer(() => {
      const { picture } = screen;
      fail(
        new DisplayError(
          'timeout',
          `${output.name} ${goal.missed(picture)} within ${timeoutMs} ms. ${changes.advice(picture, rung())}`,
          { picture },
        ),
      );
    }, timeoutMs);
    if (signal?.aborted) aborted();
    else {
      signal?.addEventListener('abort', aborted);
      orFail(() => look(monotonicMs()));
    }
  });
}

/** How many changes an error message describes. Those at the start of a wait, such as a whole boot, say nothing about its end. */
const DESCRIBED = 16;
/** Repeated changes that are no larger than this, in pixels, are taken for a cursor or a clock. */
const CURSOR_SIDE = 64;

interface Change {
  readonly timeMs: number;
  readonly box: Rect;
  /** The pixels of the box afterwards; null if it is too large for a cursor. */
  readonly pixels: Uint8Array | null;
}

/** What a screen did during a wait, for the error message if the wait fails. */
class ChangeLog {
  #frames = 0;
  #changes = 0;
  readonly #newest: Change[] = [];

  /** Adds a frame. `screen` is the screen that it changed; null if it changed nothing that counts. */
  add(timeMs: number, screen: ScreenCopy | null): void {
    this.#frames++;
    if (!screen) return;
    this.#changes++;
    const { changed: box } = screen;
    const picture = isSmall(box) ? screen.picture : null;
    const pixels = picture && crop(picture, box).data.slice();
    this.#newest.push({ timeMs, box, pixels });
    if (this.#newest.length > DESCRIBED) this.#newest.shift();
  }

  /** What changed, what is shown now and what to do, in sentences. */
  advice(picture: Picture | null, rung: string | null): string {
    const now = picture
      ? `Shown now: ${pictureText(picture)}${rung === null ? '' : ` (rung ${rung})`}.`
      : 'The screen is off: has the guest started, and does it have a virtio-gpu driver?';
    return [this.#changesText(), ...this.#cause(), now].join(' ');
  }

  #changesText(): string {
    const { length } = this.#newest;
    if (this.#frames === 0) return 'No frame arrived.';
    if (length === 0) return `${count(this.#frames, 'frame')} arrived and changed nothing that counts.`;
    const took = this.#newest[length - 1]!.timeMs - this.#newest[0]!.timeMs;
    const rate = length > 1 ? `, one every ${Math.round(took / (length - 1))} ms` : '';
    return `${this.#changes} of ${count(this.#frames, 'frame')} changed something, the last ${length} of them within ${formatRect(this.#box())}${rate}.`;
  }

  #cause(): string[] {
    // The first change that can be one back to an earlier picture is the third.
    if (this.#newest.length < 3) return [];
    const box = this.#box();
    if (!isSmall(box)) return [];
    const { x, y, width, height } = box;
    const mask = `masks: [{ x: ${x}, y: ${y}, width: ${width}, height: ${height} }]`;
    return [
      this.#blinks()
        ? `That looks like a blinking cursor: turn it off in the guest (Linux console: vt.global_cursor_default=0 on the kernel command line), or exclude it with ${mask}.`
        : `That looks like a clock or a countdown: wait until it has ended, or exclude it with ${mask}.`,
    ];
  }

  /** A cursor comes back to the same two pictures. */
  #blinks(): boolean {
    return this.#newest.every(({ pixels }, index) => {
      const before = this.#newest[index - 2]?.pixels;
      return before === undefined || (pixels !== null && before !== null && Buffer.compare(pixels, before) === 0);
    });
  }

  #box(): Rect {
    const boxes = this.#newest.map(({ box }) => box);
    const x = Math.min(...boxes.map((box) => box.x));
    const y = Math.min(...boxes.map((box) => box.y));
    return {
      x,
      y,
      width: Math.max(...boxes.map((box) => box.x + box.width)) - x,
      height: Math.max(...boxes.map((box) => box.y + box.height)) - y,
    };
  }
}

function isSmall({ width, height }: Rect): boolean {
  return width <= CURSOR_SIDE && height <= CURSOR_SIDE;
}

function pictureText(picture: Picture): string {
  const { data } = picture;
  const pixels = wordsOf(picture);
  const first = pixels[0]!;
  if (pixels.some((pixel) => pixel !== first)) return `a picture of ${formatSize(picture)}`;
  return `${formatSize(picture)}, every pixel #${[...data.subarray(0, 3)].map((channel) => channel.toString(16).padStart(2, '0')).join('')}`;
}

function count(amount: number, what: string): string {
  return `${amount} ${what}${amount === 1 ? '' : 's'}`;
}
