import { KEY_CNT } from '../../../protocols/input-event-codes.ts';
import type { InputSink, WheelAxis } from '../../../src/core/input.ts';
import type { ScanoutId } from '../../../src/core/source.ts';

/** Of the guest's touchscreen. */
const SLOTS = 16;
/** Given by `touchDown` when all slots are taken. */
export const NO_SLOT = -1;

/**
 * The guest's one keyboard, pointer and touchscreen, between all seats of the host: a key is down
 * while any of them holds it, and touches of different seats have different slots. Each device
 * tells of its own keys once down and once up.
 */
export class SharedInput {
  readonly #sink: InputSink;
  /** How many devices hold a key or button. */
  readonly #holders = new Uint16Array(KEY_CNT);
  /** Bit n: slot n is taken. */
  #slots = 0;
  #isFrameOpen = false;

  constructor(sink: InputSink) {
    this.#sink = sink;
  }

  key(code: number, isDown: boolean): void {
    if (this.#isNews(code, isDown)) this.#begin().key(code, isDown);
  }

  button(code: number, isDown: boolean): void {
    if (this.#isNews(code, isDown)) this.#begin().button(code, isDown);
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

  #isNews(code: number, isDown: boolean): boolean {
    const before = this.#holders[code]!;
    const after = isDown ? before + 1 : before - 1;
    this.#holders[code] = after;
    return (before === 0) !== (after === 0);
  }
}
