import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { type CompareOptions, comparePictures, type Comparison } from './compare.ts';
import { DisplayError } from './errors.ts';
import { crop, formatRect, formatSize, wordsOf } from './difference.ts';
import { type Attention, type WatchedScreen, ScreenCopy } from './screen-copy.ts';

export const DEFAULT_TIMEOUT_MS = 30_000;
export const DEFAULT_QUIET_MS = 500;

export interface WaitOptions extends Attention {
  /** Default 30000. */
  readonly timeoutMs?: number;
  /** Ends the wait, which rejects with its reason. */
  readonly signal?: AbortSignal;
}

export interface WaitForStableOptions extends WaitOptions {
  /** Default 500. */
  readonly quietMs?: number;
}

export interface WaitForMatchOptions extends CompareOptions, WaitOptions {
  /** Where on the screen the expected picture, a part of it, is to be. `region` and `masks` are then in the expected picture's pixels. */
  readonly at?: { readonly x: number; readonly y: number };
}

/** How pixels get to the screen, asked when a message is to tell. */
type Rung = () => string | null;

const noRung: Rung = () => null;

/** What a wait waits for. */
interface Goal {
  /** Looks at the screen as it is since `sinceMs`, which the wait may end with; called first and after every change that counts. */
  look(picture: Picture | null, sinceMs: number, end: (picture: Picture) => void): void;
  /** What did not come, for the message. */
  missed(picture: Picture | null): string;
}

/** The picture after no pixel that counts has changed for `quietMs`. DisplayError `timeout`, which tells what kept changing. */
export function waitUntilStable(output: WatchedScreen, { quietMs = DEFAULT_QUIET_MS, ...options }: WaitForStableOptions = {}, rung: Rung = noRung): Promise<Picture> {
  let quiet: NodeJS.Timeout | undefined;
  const goal: Goal = {
    look(picture, sinceMs, end) {
      clearTimeout(quiet);
      if (!picture) return;
      quiet = setTimeout(() => {
        // Timers run before sockets are read: the guest may have said something that this process had no time for.
        setImmediate(() => void output.settled().then(() => end(picture)));
      }, quietMs - (monotonicMs() - sinceMs));
    },
    missed: (picture) => (picture ? `did not stand still for ${quietMs} ms` : 'showed nothing'),
  };
  return wait(output, options, rung, goal).finally(() => clearTimeout(quiet));
}

/** The first picture, now or later, that matches. DisplayError `timeout`, which tells how the last one differed. */
export function waitUntilMatch(output: WatchedScreen, expected: Picture, options: WaitForMatchOptions = {}, rung: Rung = noRung): Promise<Picture> {
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
      return `did not show what was expected (at last: ${comparison?.explanation ?? `${formatRect(place!)} is not on a screen of ${formatSize(picture)}`})`;
    },
  };
  return wait(output, place ? { ...options, ...onScreen(options, place) } : options, rung, goal);
}

/** Null if the place is not wholly on the screen. */
function partOf(picture: Picture, place: Rect): Picture | null {
  const { x, y, width, height } = place;
  return x >= 0 && y >= 0 && x + width <= picture.width && y + height <= picture.height ? crop(picture, place) : null;
}

function onScreen({ masks = [] }: WaitForMatchOptions, place: Rect): Attention {
  return { region: place, masks: masks.map((mask) => ({ ...mask, x: mask.x + place.x, y: mask.y + place.y })) };
}

function wait(output: WatchedScreen, { timeoutMs = DEFAULT_TIMEOUT_MS, signal, ...attention }: WaitOptions, rung: Rung, goal: Goal): Promise<Picture> {
  return new Promise((resolve, reject) => {
    const screen = new ScreenCopy(output, attention);
    const changes = new ChangeLog();
    let generation = 0;
    const over = (): void => {
      stop();
      clearTimeout(deadline);
      signal?.removeEventListener('abort', aborted);
    };
    const fail = (error: Error): void => {
      over();
      reject(error);
    };
    const aborted = (): void => fail(signal?.reason as Error);
    const look = (sinceMs: number): void => {
      const mine = ++generation;
      goal.look(screen.picture, sinceMs, (picture) => {
        if (mine !== generation) return;
        over();
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
      fail(new DisplayError('timeout', `${output.name} ${goal.missed(picture)} within ${timeoutMs} ms. ${changes.advice(picture, rung())}`, { picture }));
    }, timeoutMs);
    if (signal?.aborted) aborted();
    else {
      signal?.addEventListener('abort', aborted);
      orFail(() => look(monotonicMs()));
    }
  });
}

/** How many changes the message tells of: those of the start of a wait, a whole boot, say nothing of its end. */
const TOLD = 16;
/** Changes of something not larger, in pixels, that come again and again are a cursor's. */
const CURSOR_SIDE = 64;

/** What a screen did during a wait, for the message of one that was in vain. */
class ChangeLog {
  #frames = 0;
  #changes = 0;
  readonly #newest: { readonly timeMs: number; readonly box: Rect }[] = [];

  /** A frame, and around what it changed; null: nothing that counts. */
  add(timeMs: number, box: Rect | null): void {
    this.#frames++;
    if (!box) return;
    this.#changes++;
    this.#newest.push({ timeMs, box });
    if (this.#newest.length > TOLD) this.#newest.shift();
  }

  /** What changed, what is shown now and what to do: sentences for a person. */
  advice(picture: Picture | null, rung: string | null): string {
    const now = picture ? `Shown now: ${pictureText(picture)}${rung === null ? '' : ` (rung ${rung})`}.` : 'The screen is dark: has the guest started, and has it a driver for virtio-gpu?';
    return [this.#story(), ...this.#cause(), now].join(' ');
  }

  #story(): string {
    const { length } = this.#newest;
    if (this.#frames === 0) return 'No frame came meanwhile.';
    if (length === 0) return `${count(this.#frames, 'frame')} came and changed nothing that counts.`;
    const took = this.#newest[length - 1]!.timeMs - this.#newest[0]!.timeMs;
    const rate = length > 1 ? `, one every ${Math.round(took / (length - 1))} ms` : '';
    return `${this.#changes} of ${count(this.#frames, 'frame')} changed something, the last ${length} of them within ${formatRect(this.#box())}${rate}.`;
  }

  #cause(): string[] {
    if (this.#newest.length < 2) return [];
    const box = this.#box();
    if (box.width > CURSOR_SIDE || box.height > CURSOR_SIDE) return [];
    const { x, y, width, height } = box;
    return [`That looks like a blinking cursor: turn it off in the guest (on Linux's console: vt.global_cursor_default=0 on its command line), or leave it out with masks: [{ x: ${x}, y: ${y}, width: ${width}, height: ${height} }].`];
  }

  #box(): Rect {
    const boxes = this.#newest.map(({ box }) => box);
    const x = Math.min(...boxes.map((box) => box.x));
    const y = Math.min(...boxes.map((box) => box.y));
    return { x, y, width: Math.max(...boxes.map((box) => box.x + box.width)) - x, height: Math.max(...boxes.map((box) => box.y + box.height)) - y };
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
