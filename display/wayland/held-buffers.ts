import { Bag } from '../../src/core/bag.ts';
import type { SurfaceBuffer } from './buffer.ts';

/** A compositor that shows nothing new has had time enough to let go of what it showed before. */
const RELEASED_AFTER_MS = 1000;

/** The buffers of one surface that the compositor has, and when they come back. */
export class HeldBuffers implements Disposable {
  readonly #onBack: (buffer: SurfaceBuffer) => void;
  #held = new Bag<SurfaceBuffer>();
  #kept = new Bag<SurfaceBuffer>();
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

  /** It was attached and committed, with a release point or without; null: nothing is. */
  committed(buffer: SurfaceBuffer | null, hasPoint = false): void {
    this.#shown = buffer;
    buffer?.attached(hasPoint);
    if (buffer && !this.#held.has(buffer)) this.#held.add(buffer);
    if (this.#overdue) this.#overdue.refresh();
    else this.#overdue = setTimeout(() => this.#takeBackReplaced(true), RELEASED_AFTER_MS);
  }

  released(buffer: SurfaceBuffer): void {
    this.#held.remove(buffer);
  }

  /**
   * Nobody sees the surface, and the compositor may not tell of what it does not draw: a guest must
   * not wait for it. Points are told of nevertheless.
   */
  hidden(): void {
    this.#takeBackReplaced(false);
  }

  /** All: the surface is gone. */
  takeBackAll(): void {
    this.#shown = null;
    for (const held of [this.#held, this.#kept]) for (let buffer = held.pop(); buffer; buffer = held.pop()) this.#takeBack(buffer);
  }

  [Symbol.dispose](): void {
    this.takeBackAll();
    if (this.#overdue) clearTimeout(this.#overdue);
  }

  #takeBackReplaced(hasPoint: boolean): void {
    for (let buffer = this.#held.pop(); buffer; buffer = this.#held.pop()) {
      if (buffer === this.#shown || (buffer.hasPoint && !hasPoint)) this.#kept.add(buffer);
      else this.#takeBack(buffer);
    }
    const held = this.#kept;
    this.#kept = this.#held;
    this.#held = held;
  }

  #takeBack(buffer: SurfaceBuffer): void {
    buffer.takeBack();
    this.#onBack(buffer);
  }
}
