import type { HeadlessOutput } from '../headless/output.ts';
import { comparePictures, type CompareOptions, type Comparison } from './compare.ts';
import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { ChangeLog, rectText } from './change-log.ts';
import { DisplayError } from './errors.ts';
import { type Attention, cropPicture, ScreenCopy } from './screen-copy.ts';

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
export function waitUntilStable(output: HeadlessOutput, { quietMs = DEFAULT_QUIET_MS, ...options }: WaitForStableOptions = {}, rung: Rung = noRung): Promise<Picture> {
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
export function waitUntilMatch(output: HeadlessOutput, expected: Picture, options: WaitForMatchOptions = {}, rung: Rung = noRung): Promise<Picture> {
  const { at } = options;
  const place = at && { ...at, width: expected.width, height: expected.height };
  let comparison: Comparison | null = null;
  const goal: Goal = {
    look(picture, _, end) {
      if (!picture) return;
      const actual = place ? cropPicture(picture, place) : picture;
      comparison = actual && comparePictures(expected, actual, options);
      if (comparison?.matches) end(picture);
    },
    missed: (picture) => {
      if (!picture) return 'showed nothing';
      return `did not show what was expected (at last: ${comparison?.explanation ?? `${rectText(place!)} is not on a screen of ${picture.width}x${picture.height}`})`;
    },
  };
  return wait(output, place ? { ...options, ...onScreen(options, place) } : options, rung, goal);
}

function onScreen({ masks = [] }: WaitForMatchOptions, place: Rect): Attention {
  return { region: place, masks: masks.map((mask) => ({ ...mask, x: mask.x + place.x, y: mask.y + place.y })) };
}

function wait(output: HeadlessOutput, { timeoutMs = DEFAULT_TIMEOUT_MS, signal, ...attention }: WaitOptions, rung: Rung, goal: Goal): Promise<Picture> {
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
