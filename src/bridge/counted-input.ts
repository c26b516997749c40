import { guestOf, type InputSink, type WheelAxis } from '../core/input.ts';
import type { ScanoutId } from '../core/source.ts';

/** Passes on what people do at one output, and counts it. */
export class CountedInput implements InputSink {
  readonly #input: InputSink;
  #frames = 0;

  constructor(input: InputSink) {
    this.#input = input;
  }

  get guest(): object {
    return guestOf(this.#input);
  }

  /** Groups of events that belong together, such as the press of a key. */
  get frames(): number {
    return this.#frames;
  }

  get leds(): number {
    return this.#input.leds;
  }

  key(code: number, isPressed: boolean): void {
    this.#input.key(code, isPressed);
  }

  pointerMovedTo(scanout: ScanoutId, x: number, y: number): void {
    this.#input.pointerMovedTo(scanout, x, y);
  }

  pointerMovedBy(dx: number, dy: number): void {
    this.#input.pointerMovedBy(dx, dy);
  }

  isRelative(scanout: ScanoutId): boolean {
    return this.#input.isRelative(scanout);
  }

  button(code: number, isPressed: boolean): void {
    this.#input.button(code, isPressed);
  }

  wheel(axis: WheelAxis, v120: number): void {
    this.#input.wheel(axis, v120);
  }

  touchDown(scanout: ScanoutId, slot: number, x: number, y: number): void {
    this.#input.touchDown(scanout, slot, x, y);
  }

  touchMoved(scanout: ScanoutId, slot: number, x: number, y: number): void {
    this.#input.touchMoved(scanout, slot, x, y);
  }

  touchUp(slot: number): void {
    this.#input.touchUp(slot);
  }

  touchCancelled(): void {
    this.#input.touchCancelled();
  }

  frame(): void {
    this.#frames++;
    this.#input.frame();
  }

  releaseAll(): void {
    this.#input.releaseAll();
  }

  onLeds(listener: (leds: number) => void): () => void {
    return this.#input.onLeds(listener);
  }
}
