import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { type CompareOptions, comparePictures, type Comparison } from './compare.ts';
import { crop, formatRect, formatSize, wordsOf } from './difference.ts';
import { DisplayError } from './errors.ts';
import { type Attention, ScreenCopy, type WatchedScreen } from './screen-copy.ts';

export const DEFAULT_TIMEOUT_MS = 30_000;
export const DEFAULT_QUIET_MS = 500;

export interface WaitOptions extends Attention {
  /** Default 30000. */
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

/** What a wait is for. */
interface Goal {
  /** Called at the start and after every change that counts. `picture` has been on screen since `sinceMs`; `end` ends the wait with it unless it changes first. */
  look(picture: Picture | null, sinceMs: number, end: (picture: Picture) => void): void;
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
  const goal: Goal = {
    look(picture, sinceMs, end) {
      clearTimeout(quiet);
      if (!picture) return;
      quiet = setTimeout(
        () => {
          // Timers run before sockets are read: commands of the guest may still be waiting for this process.
          setImmediate(() => void output.settled().then(() => end(picture)));
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
  const goal: Goal = {
    look(picture, _, end) {
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

/** Null if the place is not entirely on the screen. */
function partOf(picture: Picture, place: Rect): Picture | null {
  const { x, y, width, height } = place;
  return x >= 0 && y >= 0 && x + width <= picture.width && y + height <= picture.height ? crop(picture, place) : null;
}

function onScreen({ masks = [] }: WaitForMatchOptions, place: Rect): Attention {
  return { region: place, masks: masks.map((mask) => ({ ...mask, x: mask.x + place.x, y: mask.y + place.y })) };
}

function wait(
  output: WatchedScreen,
  { timeoutMs = DEFAULT_TIMEOUT_MS, signal, ...attention }: WaitOptions,
  rung: Rung,
  goal: Goal,
): Promise<Picture> {
  return new Promise((resolve, reject) => {
    const screen = new ScreenCopy(output, attention);
    const changes = new ChangeLog();
    /** Counts the changes, so that an `end` that is called after a further change has no effect. */
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
      goal.look(screen.picture, sinceMs, (picture) => {
        if (mine !== generation) return;
        finish();
        resolve(picture);
      });
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
        changes.add(frame.timeMs, isChanged ? screen.changed : null);
        if (isChanged) look(frame.timeMs);
      }),
    );
    const deadline = setTimeout(() => {
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
/** Repeated changes that are no larger than this, in pixels, are taken for a blinking cursor. */
const CURSOR_SIDE = 64;

/** What a screen did during a wait, for the error message if the wait fails. */
class ChangeLog {
  #frames = 0;
  #changes = 0;
  readonly #newest: { readonly timeMs: number; readonly box: Rect }[] = [];

  /** Adds a frame. `box` is around what it changed; null if nothing that counts. */
  add(timeMs: number, box: Rect | null): void {
    this.#frames++;
    if (!box) return;
    this.#changes++;
    this.#newest.push({ timeMs, box });
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
    if (this.#newest.length < 2) return [];
    const box = this.#box();
    if (box.width > CURSOR_SIDE || box.height > CURSOR_SIDE) return [];
    const { x, y, width, height } = box;
    const mask = `{ x: ${x}, y: ${y}, width: ${width}, height: ${height} }`;
    return [
      `That looks like a blinking cursor: turn it off in the guest (Linux console: vt.global_cursor_default=0 on the kernel command line), or exclude it with masks: [${mask}].`,
    ];
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
