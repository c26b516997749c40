import { KEY_CNT } from '../../protocols/input-event-codes.ts';
import type { Size } from '../../src/core/geometry.ts';
import { guestOf, type InputSink, type WheelAxis } from '../../src/core/input.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import type { ScreenListener } from '../../src/core/output.ts';

export interface Point {
  x: number;
  y: number;
}

/** What input needs to know of a screen. */
export interface OperatedScreen {
  /** `HDMI-A-1` */
  readonly connectorName: string;
  /** Null while no monitor is plugged in. */
  readonly monitor: Monitor | null;
  /** Null while nothing is attached. */
  readonly listener: ScreenListener | null;
  /** The size of the guest's picture that it shows, in the guest's pixels; 0x0 before the first. */
  readonly picture: Size;
  /** Guest pixels for each pixel of the screen. */
  readonly guestScale: number;
  /**
   * Converts a position on the screen, from 0 to 1, to pixels of the guest's picture, which it may be outside of. For a
   * screen with a monitor and a picture.
   */
  toGuest(x: number, y: number, out: Point): void;
  /** The pointer is at this pixel of the guest's picture now, which has to be inside. */
  pointAt(x: number, y: number): void;
  /** The pointer is somewhere else, or only the guest knows where. */
  pointAway(): void;
  /** Says from now on what is attached; null: no longer. */
  watch(watcher: AttachmentWatcher | null): void;
}

export interface AttachmentWatcher {
  attached(): void;
  /** The listener may be given its last input now. */
  detached(listener: ScreenListener): void;
}

/** Of a guest's touchscreen. */
const SLOTS = 16;
const KEY_HELD = 1;
const BUTTON_HELD = 2;

/**
 * Brings input to the guest of the screen where it happens. The pointer is on one screen. Motion by distances takes it
 * over the edge to the next: a guest's scanouts are side by side in their order, as its input devices have them. A guest
 * that has a mouse only is given the distances, and moves its pointer itself. Keys go
 * to the guest that was pointed at or touched last, at first to that of the first screen; what the guest before it holds
 * is released. Events that no guest can get are dropped. Allocates nothing.
 */
export class InputRouter implements AttachmentWatcher, Disposable {
  readonly #screens: readonly OperatedScreen[];
  readonly #onLeds: (leds: number) => void;
  /** The guest that gets keys. */
  #sink: InputSink | null = null;
  #stopLeds: () => void = () => undefined;
  /** Where the pointer is; null: not moved yet. */
  #screen: OperatedScreen | null = null;
  /** In pixels of the picture on that screen. */
  #x = 0;
  #y = 0;
  /** What `#sink` has been told to be pressed, by code. */
  readonly #held = new Uint8Array(KEY_CNT);
  /** By slot, where the touch began; null: there is none. */
  readonly #touched = new Array<OperatedScreen | null>(SLOTS).fill(null);
  readonly #point: Point = { x: 0, y: 0 };

  /** `onLeds` is called with the keyboard LEDs of the guest that gets keys, and on every change. */
  constructor(screens: readonly OperatedScreen[], onLeds: (leds: number) => void) {
    this.#screens = screens;
    this.#onLeds = onLeds;
    for (const screen of screens) screen.watch(this);
    this.attached();
  }

  attached(): void {
    if (!this.#sink) this.#use(this.#screens.find(({ listener }) => listener?.input)?.listener?.input ?? null);
  }

  detached({ input }: ScreenListener): void {
    if (!input || !this.#sink || guestOf(input) !== guestOf(this.#sink)) return;
    this.#use(null);
    this.attached();
  }

  get leds(): number {
    return this.#sink?.leds ?? 0;
  }

  /** Ignores releases of what is not held. */
  key(code: number, isPressed: boolean): void {
    if (this.#sink && this.#hold(code, isPressed ? KEY_HELD : 0)) this.#sink.key(code, isPressed);
  }

  button(code: number, isPressed: boolean): void {
    if (this.#sink && this.#hold(code, isPressed ? BUTTON_HELD : 0)) this.#sink.button(code, isPressed);
  }

  wheel(axis: WheelAxis, v120: number): void {
    this.#sink?.wheel(axis, v120);
  }

  /** `dx` and `dy` are in pixels of the screen. */
  movedBy(dx: number, dy: number): void {
    let screen = this.#screen;
    if (!screen || !isUsable(screen)) {
      screen = this.#first();
      if (!screen) return;
      this.#x = screen.picture.width / 2;
      this.#y = screen.picture.height / 2;
    }
    const { guestScale } = screen;
    const { scanout, input } = screen.listener!;
    if (input!.isRelative(scanout)) {
      screen.pointAway();
      this.#screen = screen;
      this.#use(input);
      input!.pointerMovedBy(dx * guestScale, dy * guestScale);
      return;
    }
    let x = this.#x + dx * guestScale;
    this.#y += dy * guestScale;
    for (;;) {
      const isRight: boolean = x >= screen.picture.width;
      const next: OperatedScreen | null = isRight || x < 0 ? this.#beside(screen, isRight) : null;
      if (!next) break;
      x += isRight ? -screen.picture.width : next.picture.width;
      screen = next;
    }
    this.#x = x;
    this.#moveTo(screen);
  }

  /** `x` and `y` are from 0 to 1 of the screen. */
  movedTo(screen: OperatedScreen, x: number, y: number): void {
    if (!isUsable(screen)) return;
    screen.toGuest(x, y, this.#point);
    this.#x = this.#point.x;
    this.#y = this.#point.y;
    this.#moveTo(screen);
  }

  /** Drops touches beyond the slots of a guest. */
  touchDown(screen: OperatedScreen, slot: number, x: number, y: number): void {
    if (slot < 0 || slot >= SLOTS || !isUsable(screen)) return;
    this.#use(screen.listener!.input);
    this.#touched[slot] = screen;
    screen.toGuest(x, y, this.#point);
    this.#sink!.touchDown(screen.listener!.scanout, slot, this.#point.x, this.#point.y);
  }

  touchMoved(slot: number, x: number, y: number): void {
    const screen = this.#touched[slot];
    if (!screen || !isUsable(screen)) return;
    screen.toGuest(x, y, this.#point);
    this.#sink!.touchMoved(screen.listener!.scanout, slot, this.#point.x, this.#point.y);
  }

  touchUp(slot: number): void {
    if (!this.#touched[slot]) return;
    this.#touched[slot] = null;
    this.#sink!.touchUp(slot);
  }

  /** The guest has no way to cancel one touch of several. */
  touchCancelled(slot: number): void {
    if (!this.#touched[slot]) return;
    this.#touched.fill(null);
    this.#sink!.touchCancelled();
  }

  frame(): void {
    this.#sink?.frame();
  }

  /** Releases what the guest holds, in a frame of its own. */
  releaseAll(): void {
    const sink = this.#sink;
    if (!sink) return;
    for (let code = 0; code < KEY_CNT; code++) {
      const held = this.#held[code];
      this.#held[code] = 0;
      if (held === KEY_HELD) sink.key(code, false);
      else if (held === BUTTON_HELD) sink.button(code, false);
    }
    for (let slot = 0; slot < SLOTS; slot++) this.touchCancelled(slot);
    sink.frame();
  }

  [Symbol.dispose](): void {
    for (const screen of this.#screens) screen.watch(null);
    this.#use(null);
  }

  #use(sink: InputSink | null): void {
    if (sink === this.#sink) return;
    // Another screen of the same guest: what is held stays held.
    if (sink && this.#sink && guestOf(sink) === guestOf(this.#sink)) {
      this.#sink = sink;
      return;
    }
    this.releaseAll();
    this.#stopLeds();
    this.#sink = sink;
    this.#stopLeds = sink?.onLeds(this.#onLeds) ?? (() => undefined);
    this.#onLeds(this.leds);
  }

  /** True if the guest has to be told. */
  #hold(code: number, held: number): boolean {
    if (code >= KEY_CNT || (this.#held[code] === 0) === (held === 0)) return false;
    this.#held[code] = held;
    return true;
  }

  /** To `#x`, `#y`, or the nearest place inside the picture. */
  #moveTo(screen: OperatedScreen): void {
    const { width, height } = screen.picture;
    if (this.#screen !== screen) this.#screen?.pointAway();
    this.#screen = screen;
    this.#x = Math.min(Math.max(this.#x, 0), width - 1);
    this.#y = Math.min(Math.max(this.#y, 0), height - 1);
    this.#use(screen.listener!.input);
    this.#sink!.pointerMovedTo(screen.listener!.scanout, this.#x, this.#y);
    screen.pointAt(this.#x, this.#y);
  }

  /** The usable screen with the first scanout. */
  #first(): OperatedScreen | null {
    let first: OperatedScreen | null = null;
    for (const screen of this.#screens)
      if (isUsable(screen) && (!first || screen.listener!.scanout < first.listener!.scanout)) first = screen;
    return first;
  }

  /** The screen that shows what the same guest has on the right, or on the left, of a screen. */
  #beside({ listener }: OperatedScreen, isRight: boolean): OperatedScreen | null {
    const { input, scanout } = listener!;
    let nearest: OperatedScreen | null = null;
    for (const screen of this.#screens) {
      if (!isUsable(screen) || guestOf(screen.listener!.input!) !== guestOf(input!)) continue;
      const other = screen.listener!.scanout;
      const best = nearest?.listener!.scanout ?? (isRight ? Infinity : -Infinity);
      if (isRight ? other > scanout && other < best : other < scanout && other > best) nearest = screen;
    }
    return nearest;
  }
}

/** Its guest can be given positions. */
export function isUsable({ monitor, listener, picture }: OperatedScreen): boolean {
  return monitor !== null && listener !== null && listener.input !== null && picture.width > 0;
}
