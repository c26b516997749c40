import type { GuestInput, InputKind, WheelAxis } from '../../core/input.ts';
import type { ScanoutId } from '../../core/source.ts';
import { AXIS_MAX, KeyboardPointer } from './keyboard-pointer.ts';
import { Touchscreen } from './touchscreen.ts';

interface Place {
  width: number;
  height: number;
}

/**
 * The input devices of one guest, and where a position on one of its scanouts is on their axes. The axes span
 * all of the guest's scanouts side by side, as the GPU describes its monitors. Positions are wrong in a guest
 * that arranges several monitors otherwise, or shows the same picture on two of them.
 */
export class InputDevices implements GuestInput {
  readonly keyboardPointer = new KeyboardPointer(
    (leds) => this.#notifyLeds(leds),
    () => this.#notifyTaken(),
  );
  readonly touchscreen = new Touchscreen(() => this.#notifyTaken());
  readonly #served = new Set<InputKind>();
  readonly #places: Place[] = [];
  readonly #listeners = new Set<(leds: number) => void>();
  #waiting: (() => void)[] = [];
  /** The size of all scanouts together, in pixels. */
  #width = 0;
  #height = 0;
  /** The result of the last `#map`, on the axes. */
  #x = 0;
  #y = 0;

  get leds(): number {
    return this.keyboardPointer.leds;
  }

  onLeds(listener: (leds: number) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The guest is offered the device from now on. */
  serve(device: InputKind): void {
    this.#served.add(device);
  }

  has(device: InputKind): boolean {
    return this.#served.has(device);
  }

  taken(): Promise<void> {
    return this.#isTaken ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  scanoutSized(scanout: ScanoutId, width: number, height: number): void {
    while (this.#places.length <= scanout) this.#places.push({ width: 0, height: 0 });
    const place = this.#places[scanout]!;
    if (place.width === width && place.height === height) return;
    place.width = width;
    place.height = height;
    this.#width = this.#places.reduce((sum, each) => sum + each.width, 0);
    this.#height = Math.max(...this.#places.map((each) => each.height));
  }

  key(code: number, isPressed: boolean): void {
    this.keyboardPointer.key(code, isPressed);
  }

  button(code: number, isPressed: boolean): void {
    this.keyboardPointer.key(code, isPressed);
  }

  pointerMovedTo(scanout: ScanoutId, x: number, y: number): void {
    if (this.#map(scanout, x, y)) this.keyboardPointer.moveTo(this.#x, this.#y);
  }

  pointerMovedBy(dx: number, dy: number): void {
    this.keyboardPointer.moveBy(dx, dy);
  }

  isRelative(): boolean {
    return false;
  }

  wheel(axis: WheelAxis, v120: number): void {
    this.keyboardPointer.turn(axis, v120);
  }

  touchDown(scanout: ScanoutId, slot: number, x: number, y: number): void {
    if (this.#map(scanout, x, y)) this.touchscreen.down(slot, this.#x, this.#y);
  }

  touchMoved(scanout: ScanoutId, slot: number, x: number, y: number): void {
    if (this.#map(scanout, x, y)) this.touchscreen.move(slot, this.#x, this.#y);
  }

  touchUp(slot: number): void {
    this.touchscreen.up(slot);
  }

  touchCancelled(): void {
    this.touchscreen.cancel();
  }

  frame(): void {
    this.keyboardPointer.frame();
    this.touchscreen.frame();
  }

  releaseAll(): void {
    this.keyboardPointer.releaseAll();
    this.touchscreen.releaseAll();
  }

  /** False, with no result, while the scanout is off. */
  #map(scanout: ScanoutId, x: number, y: number): boolean {
    const place = this.#places[scanout];
    if (!place || place.width === 0) return false;
    let left = 0;
    for (let before = 0; before < scanout; before++) left += this.#places[before]!.width;
    this.#x = axis(left + clamp(x, place.width), this.#width);
    this.#y = axis(clamp(y, place.height), this.#height);
    return true;
  }

  get #isTaken(): boolean {
    return this.keyboardPointer.isTaken && this.touchscreen.isTaken;
  }

  #notifyTaken(): void {
    if (this.#waiting.length === 0 || !this.#isTaken) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #notifyLeds(leds: number): void {
    for (const listener of this.#listeners) listener(leds);
  }
}

/** At most the near edge of the last pixel, so that rounding does not lead into the next scanout. */
function clamp(position: number, size: number): number {
  return Math.min(Math.max(position, 0), size - 1);
}

/** Guests divide the axis into one part for each pixel; rounding up keeps the left edge of a pixel inside its part. */
function axis(position: number, size: number): number {
  return Math.min(Math.ceil((position * (AXIS_MAX + 1)) / size), AXIS_MAX);
}
