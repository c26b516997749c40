import { KEY_CNT } from '../../../protocols/input-event-codes.ts';
import type { InputSink, WheelAxis } from '../../../src/core/input.ts';
import type { ScanoutId } from '../../../src/core/source.ts';

/** Each has two of the 32 bits of `Holder`. */
export const MAX_SEATS = 16;

/** A keyboard or pointer that holds keys or buttons down, as one bit. */
export type Holder = number & { readonly __brand: 'Holder' };

/** `seat` is below MAX_SEATS. */
export function keyboardOf(seat: number): Holder {
  return (1 << (2 * seat)) as Holder;
}

/** `seat` is below MAX_SEATS. */
export function pointerOf(seat: number): Holder {
  return (2 << (2 * seat)) as Holder;
}

/** Slots of the guest's touchscreen. */
const SLOTS = 16;
/** Returned by `touchDown` when all slots are taken. */
export const NO_SLOT = -1;

/**
 * The guest's one keyboard, pointer and touchscreen, shared by all seats of the host. A key is down
 * while any device holds it, and touches of different seats have different slots. Ignores keys that a
 * device presses twice, releases without having pressed them, or whose code the kernel does not have.
 */
export class SharedInput {
  readonly #sink: InputSink;
  /** For each key and button, by code: the devices that hold it down. */
  readonly #holders = new Uint32Array(KEY_CNT);
  /** Bit n: slot n is taken. */
  #slots = 0;
  #isFrameOpen = false;

  constructor(sink: InputSink) {
    this.#sink = sink;
  }

  key(holder: Holder, code: number, isDown: boolean): void {
    if (this.#hold(holder, code, isDown)) this.#begin().key(code, isDown);
  }

  button(holder: Holder, code: number, isDown: boolean): void {
    if (this.#hold(holder, code, isDown)) this.#begin().button(code, isDown);
  }

  /** Releases all keys that `holder`, a keyboard, holds down. */
  releaseKeys(holder: Holder): void {
    for (let code = 0; code < KEY_CNT; code++) this.key(holder, code, false);
  }

  /** Releases all buttons that `holder`, a pointer, holds down. */
  releaseButtons(holder: Holder): void {
    for (let code = 0; code < KEY_CNT; code++) this.button(holder, code, false);
  }

  movedTo(scanout: ScanoutId, x: number, y: number): void {
    this.#begin().pointerMovedTo(scanout, x, y);
  }

  movedBy(dx: number, dy: number): void {
    this.#begin().pointerMovedBy(dx, dy);
  }

  wheel(axis: WheelAxis, v120: number): void {
    this.#begin().wheel(axis, v120);
  }

  /** Returns the slot, which is taken until `freeSlot`, or NO_SLOT. */
  touchDown(scanout: ScanoutId, x: number, y: number): number {
    for (let slot = 0; slot < SLOTS; slot++) {
      if ((this.#slots & (1 << slot)) !== 0) continue;
      this.#slots |= 1 << slot;
      this.#begin().touchDown(scanout, slot, x, y);
      return slot;
    }
    return NO_SLOT;
  }

  touchMoved(scanout: ScanoutId, slot: number, x: number, y: number): void {
    this.#begin().touchMoved(scanout, slot, x, y);
  }

  touchUp(slot: number): void {
    this.#begin().touchUp(slot);
  }

  /** Touches are down in other slots than these, given as bits. */
  hasOtherTouches(slots: number): boolean {
    return (this.#slots & ~slots) !== 0;
  }

  /**
   * Cancels all touches of the guest, those of other seats too: these keep their slots, but the
   * guest ignores them until they end.
   */
  touchCancelled(): void {
    this.#begin().touchCancelled();
  }

  freeSlot(slot: number): void {
    this.#slots &= ~(1 << slot);
  }

  /** Ends the group of events, if there is one. */
  frame(): void {
    if (!this.#isFrameOpen) return;
    this.#isFrameOpen = false;
    this.#sink.frame();
  }

  #begin(): InputSink {
    this.#isFrameOpen = true;
    return this.#sink;
  }

  /** True if the guest must be told: the first holder has pressed `code`, or the last one has released it. */
  #hold(holder: Holder, code: number, isDown: boolean): boolean {
    if (code >= KEY_CNT) return false;
    const before = this.#holders[code]!;
    const after = (isDown ? before | holder : before & ~holder) >>> 0;
    this.#holders[code] = after;
    return (before === 0) !== (after === 0);
  }
}
