import { Bag } from '../../src/core/bag.ts';
import type { SurfaceBuffer } from './buffer.ts';

/** A compositor that shows nothing new has had time enough to let go of what it showed before. */
const RELEASED_AFTER_MS = 1000;

/** The buffers of one surface that the compositor has, and when they come back. */
export class HeldBuffers implements Disposable {
  readonly #onBack: (buffer: SurfaceBuffer) => void;
  readonly #held = new Bag<SurfaceBuffer>();
  #shown: SurfaceBuffer | null = null;
  #overdue: NodeJS.Timeout | null = null;

  /** `onBack` is called for buffers that are taken back. */
  constructor(onBack: (buffer: SurfaceBuffer) => void) {
    this.#onBack = onBack;
  }

  /** What the surface shows. */
  get shown(): SurfaceBuffer | null {
    return this.#shown;
  }

  /** It was attached and committed; null: nothing is. */
  committed(buffer: SurfaceBuffer | null): void {
    this.#shown = buffer;
    buffer?.attached();
    if (buffer && !this.#held.has(buffer)) this.#held.add(buffer);
    if (this.#overdue) this.#overdue.refresh();
    else this.#overdue = setTimeout(() => this.takeBackReplaced(), RELEASED_AFTER_MS);
  }

  released(buffer: SurfaceBuffer): void {
    this.#held.remove(buffer);
  }

  /** All but the one that is shown: the compositor does not tell, and a guest must not wait for it. */
  takeBackReplaced(): void {
    const shown = this.#shown;
    const isHeld = shown !== null && this.#held.remove(shown);
    this.#takeBack();
    if (shown && isHeld) this.#held.add(shown);
  }

  /** All: the surface is gone. */
  takeBackAll(): void {
    this.#shown = null;
    this.#takeBack();
  }

  [Symbol.dispose](): void {
    this.takeBackAll();
    if (this.#overdue) clearTimeout(this.#overdue);
  }

  #takeBack(): void {
    for (let buffer = this.#held.pop(); buffer; buffer = this.#held.pop()) {
      buffer.takeBack();
      this.#onBack(buffer);
    }
  }
}
