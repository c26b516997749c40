import { KEY_CNT } from '../../../protocols/input-event-codes.ts';
import type { InputSink, WheelAxis } from '../../../src/core/input.ts';
import type { ScanoutId } from '../../../src/core/source.ts';

/** Two holders each, of the 32 bits there are. */
export const MAX_SEATS = 16;

/** A device of a seat that holds keys or buttons down, as a bit. */
export type Holder = number & { readonly __brand: 'Holder' };

/** `seat` is below MAX_SEATS. */
export function keyboardOf(seat: number): Holder {
  return (1 << (2 * seat)) as Holder;
}

/** `seat` is below MAX_SEATS. */
export function pointerOf(seat: number): Holder {
  return (2 << (2 * seat)) as Holder;
}

/** Of the guest's touchscreen. */
const SLOTS = 16;
/** Given by `touchDown` when all slots are taken. */
export const NO_SLOT = -1;

/**
 * The guest's one keyboard, pointer and touchscreen, between all seats of the host: a key is down
 * while any device holds it, and touches of different seats have different slots. What a device
 * repeats, releases without having pressed it, or has no code of the kernel's for is ignored.
 */
export class SharedInput {
  readonly #sink: InputSink;
  /** Of each key and button, which have different codes: the holders that have it down. */
  readonly #holders = new Uint32Array(KEY_CNT);
  /** Bit n: slot n is taken. */
  #slots = 0;
  #isFrameOpen = false;

  constructor(sink: InputSink) {
    this.#sink = sink;
  }

  key(holder: Holder, code: number, isDown: boolean): void {
    if (this.#isNews(holder, code, isDown)) this.#begin().key(code, isDown);
  }

  button(holder: Holder, code: number, isDown: boolean): void {
    if (this.#isNews(holder, code, isDown)) this.#begin().button(code, isDown);
  }

  /** All keys that `holder`, a keyboard, has down. */
  releaseKeys(holder: Holder): void {
    for (let code = 0; code < KEY_CNT; code++) this.key(holder, code, false);
  }

  /** All buttons that `holder`, a pointer, has down. */
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

  /** The slot, kept until `freeSlot`, or NO_SLOT. */
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

  /** Touches are down in slots besides these, given as bits. */
  hasOtherTouches(slots: number): boolean {
    return (this.#slots & ~slots) !== 0;
  }

  /** Those of other seats too, which keep their slots and are not heard until they end. */
  touchCancelled(): void {
    this.#begin().touchCancelled();
  }

  freeSlot(slot: number): void {
    this.#slots &= ~(1 << slot);
  }

  /** Ends the group if there is one. */
  frame(): void {
    if (!this.#isFrameOpen) return;
    this.#isFrameOpen = false;
    this.#sink.frame();
  }

  #begin(): InputSink {
    this.#isFrameOpen = true;
    return this.#sink;
  }

  /** The guest must hear of it: the first holder has `code` down now, or the last one has it no more. */
  #isNews(holder: Holder, code: number, isDown: boolean): boolean {
    if (code >= KEY_CNT) return false;
    const before = this.#holders[code]!;
    const after = (isDown ? before | holder : before & ~holder) >>> 0;
    this.#holders[code] = after;
    return (before === 0) !== (after === 0);
  }
}
