import { setTimeout as sleep } from 'node:timers/promises';
import { DisplayError } from '../../display/picture/errors.ts';
import { BTN } from '../../protocols/input-event-codes.ts';
import { UsageError } from '../core/errors.ts';
import type { Size } from '../core/geometry.ts';
import type { GuestInput, InputKind } from '../core/input.ts';
import type { ScanoutId } from '../core/source.ts';
import { type Chord, chordsOf, parseChord } from './typing.ts';

export type MouseButton = 'left' | 'right' | 'middle';

/** A pixel of a scanout's picture; may be fractional. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

const BUTTONS: Readonly<Record<MouseButton, number>> = { left: BTN.LEFT, right: BTN.RIGHT, middle: BTN.MIDDLE };

/** A driver that takes no input event for this long is not running. */
const INPUT_TIMEOUT_MS = 10_000;
/** One notch of a wheel. */
const NOTCH = 120;
/** Between the ends of a drag or a swipe: programs start to drag only after some motion. */
const STEPS = 16;
/** People at the outputs touch with the first ones. */
const SLOT = 15;
/**
 * Linux keeps 64 events of a keyboard (drivers/input/evdev.c) for a program that reads them later, such as a compositor
 * that is busy, and then drops all of them. A key makes three, and what the guest draws may answer earlier ones.
 */
const EVENTS_OF_KEY = 3;
const UNSEEN_EVENTS = 30;
/** A guest that shows nothing of what is typed, such as a password, gets the next keys after this time, and after so many waits at once. */
const ECHO_MS = 500;
const MOST_ECHO_WAITS = 3;
const ECHO_CHECK_MS = 5;

/**
 * Operates a guest by its input devices, as a person would. Each call resolves when the guest's driver has taken its
 * last event; calls that overlap are carried out one after the other.
 *
 * All reject with DisplayError: `input` if the guest does not have the device, or takes nothing from it for 10 seconds;
 * `dark` for a position on a scanout that is off. UsageError for a position that is not on the picture. `signal` ends
 * a call, which rejects with its reason and leaves nothing pressed.
 */
export class Operator {
  readonly #input: GuestInput;
  readonly #sizeOf: (scanout: ScanoutId) => Size | null;
  readonly #drawn: () => number;
  #turn: Promise<void> = Promise.resolve();

  /** `sizeOf` returns the size of a scanout's picture; null while it is off. `drawn`: how often the guest has drawn. */
  constructor(input: GuestInput, sizeOf: (scanout: ScanoutId) => Size | null, drawn: () => number) {
    this.#input = input;
    this.#sizeOf = sizeOf;
    this.#drawn = drawn;
  }

  /** Whether the guest has the device. */
  has(device: InputKind, scanout: ScanoutId): boolean {
    return this.#input.has?.(device, scanout) ?? true;
  }

  /**
   * Types ASCII text on a US keyboard, in pace with what the guest draws. DisplayError `key` for any other character,
   * before anything is typed.
   */
  type(text: string, signal?: AbortSignal): Promise<void> {
    return this.#inTurn('keyboard-pointer', 0, signal, async (taken) => {
      let drawn = this.#drawn();
      let unseen = 0;
      let waits = 0;
      for (const chord of chordsOf(text, this.#input.leds)) {
        const events = 2 * EVENTS_OF_KEY * chord.length;
        if (unseen + events > UNSEEN_EVENTS && waits < MOST_ECHO_WAITS) {
          await this.#drawnSince(drawn, signal);
          waits++;
          unseen = 0;
        }
        if (this.#drawn() !== drawn) {
          drawn = this.#drawn();
          waits = 0;
          unseen = 0;
        }
        unseen += events;
        await this.#tap(chord, taken);
      }
    });
  }

  /** Presses keys together, as `parseChord` names them. DisplayError `key`. */
  press(keys: string, signal?: AbortSignal): Promise<void> {
    return this.#inTurn('keyboard-pointer', 0, signal, (taken) => this.#tap(parseChord(keys), taken));
  }

  move(scanout: ScanoutId, to: Point, signal?: AbortSignal): Promise<void> {
    return this.#inTurn('keyboard-pointer', scanout, signal, async (taken) => {
      this.#check('move', scanout, to);
      this.#input.pointerMovedTo(scanout, to.x, to.y);
      this.#input.frame();
      await taken();
    });
  }

  click(scanout: ScanoutId, at: Point, button: MouseButton, clicks: 1 | 2, signal?: AbortSignal): Promise<void> {
    return this.#inTurn('keyboard-pointer', scanout, signal, async (taken) => {
      this.#check('click', scanout, at);
      this.#input.pointerMovedTo(scanout, at.x, at.y);
      for (let click = 0; click < clicks; click++) {
        this.#hold(button, true);
        this.#hold(button, false);
        await taken();
      }
    });
  }

  drag(scanout: ScanoutId, from: Point, to: Point, button: MouseButton, signal?: AbortSignal): Promise<void> {
    return this.#inTurn('keyboard-pointer', scanout, signal, async (taken) => {
      this.#check('drag', scanout, from);
      this.#check('drag', scanout, to);
      this.#input.pointerMovedTo(scanout, from.x, from.y);
      this.#hold(button, true);
      try {
        await taken();
        for (const { x, y } of between(from, to)) {
          this.#input.pointerMovedTo(scanout, x, y);
          this.#input.frame();
          await taken();
        }
      } finally {
        this.#hold(button, false);
      }
      await taken();
    });
  }

  /** Turns the wheel by notches: positive is down, and to the right. `at` is where the pointer goes first. */
  scroll(scanout: ScanoutId, right: number, down: number, at: Point | null, signal?: AbortSignal): Promise<void> {
    return this.#inTurn('keyboard-pointer', scanout, signal, async (taken) => {
      if (at) {
        this.#check('scroll', scanout, at);
        this.#input.pointerMovedTo(scanout, at.x, at.y);
        this.#input.frame();
        await taken();
      }
      for (const [axis, notches] of [['horizontal', right] as const, ['vertical', down] as const]) {
        for (let turned = 0; turned < Math.abs(notches); turned++) {
          this.#input.wheel(axis, Math.sign(notches) * NOTCH);
          this.#input.frame();
          await taken();
        }
      }
    });
  }

  /** Touches with one finger, which moves to `to` before it is lifted. */
  touch(scanout: ScanoutId, from: Point, to: Point, signal?: AbortSignal): Promise<void> {
    return this.#inTurn('touch', scanout, signal, async (taken) => {
      this.#check('touch', scanout, from);
      this.#check('touch', scanout, to);
      this.#input.touchDown(scanout, SLOT, from.x, from.y);
      this.#input.frame();
      try {
        await taken();
        for (const { x, y } of from.x === to.x && from.y === to.y ? [] : between(from, to)) {
          this.#input.touchMoved(scanout, SLOT, x, y);
          this.#input.frame();
          await taken();
        }
      } finally {
        this.#input.touchUp(SLOT);
        this.#input.frame();
      }
      await taken();
    });
  }

  /** Presses and releases in one turn of the event loop, so that nothing is left pressed. */
  async #tap(chord: Chord, taken: () => Promise<void>): Promise<void> {
    for (const code of chord) {
      this.#input.key(code, true);
      this.#input.frame();
    }
    for (const code of chord.toReversed()) {
      this.#input.key(code, false);
      this.#input.frame();
    }
    await taken();
  }

  async #drawnSince(drawn: number, signal: AbortSignal | undefined): Promise<void> {
    const end = performance.now() + ECHO_MS;
    while (this.#drawn() === drawn && performance.now() < end) {
      await sleep(ECHO_CHECK_MS);
      signal?.throwIfAborted();
    }
  }

  #hold(button: MouseButton, isPressed: boolean): void {
    this.#input.button(BUTTONS[button], isPressed);
    this.#input.frame();
  }

  #check(what: string, scanout: ScanoutId, { x, y }: Point): void {
    const size = this.#sizeOf(scanout);
    if (!size) throw new DisplayError('dark', `${what}: scanout ${scanout} is off: the guest shows nothing yet`);
    const { width, height } = size;
    if (!(x >= 0 && y >= 0 && x < width && y < height))
      throw new UsageError(`${what}: ${x},${y} is not on a screen of ${width}x${height}`);
  }

  async #inTurn(
    device: InputKind,
    scanout: ScanoutId,
    signal: AbortSignal | undefined,
    work: (taken: () => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const before = this.#turn;
    let done = (): void => undefined;
    this.#turn = new Promise((resolve) => (done = resolve));
    try {
      await before;
      signal?.throwIfAborted();
      if (!this.has(device, scanout)) throw new DisplayError('input', MISSING[device]);
      await work(() => untilTaken(this.#input, signal));
    } finally {
      done();
    }
  }
}

const MISSING: Readonly<Record<InputKind, string>> = {
  'keyboard-pointer': 'this guest has no keyboard and pointer: give the bridge --input',
  touch: 'this guest has no touchscreen: give the bridge --input touch',
};

function between(from: Point, to: Point): Point[] {
  return Array.from({ length: STEPS }, (_, index) => {
    const part = (index + 1) / STEPS;
    return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
  });
}

/** Rejects with DisplayError `input` when the guest takes nothing, or with the reason of the signal. */
async function untilTaken(input: GuestInput, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  let timer: NodeJS.Timeout | undefined;
  let aborted = (): void => undefined;
  const failure = new Promise<never>((_, reject) => {
    aborted = () => reject(signal?.reason as Error);
    signal?.addEventListener('abort', aborted);
    const message = `the guest has taken no input event for ${INPUT_TIMEOUT_MS / 1000} s: is it running, and is its driver (virtio_input) loaded?`;
    timer = setTimeout(() => reject(new DisplayError('input', message)), INPUT_TIMEOUT_MS);
  });
  try {
    await Promise.race([input.taken(), failure]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  }
}
