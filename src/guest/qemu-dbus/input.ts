import { setTimeout as sleep } from 'node:timers/promises';
import * as uapi from '../../../protocols/qemu-display1.ts';
import { KEY_CNT } from '../../../protocols/input-event-codes.ts';
import type { GuestInput, InputKind, WheelAxis } from '../../core/input.ts';
import type { ScanoutId } from '../../core/source.ts';
import type { BusValue } from '../../sys/lib/sd-bus.ts';

const NOTCH = 120;
const SLOTS = 16;
/**
 * QEMU's keyboards hold a few keys, and drop what has no room: the PS/2 keyboard 16 bytes, which are five keys, the USB
 * keyboard 16 presses and releases, of which a guest fetches one in 10 ms. `taken` leaves it that long for each key.
 */
const KEY_MS = 20;
/** As many as may wait there: of more, which people press without calling `taken`, the first are long gone. */
const MOST_KEYS = 5;
/** That a wheel is turned at once: more than a hand can, of what a compositor may say. */
const MOST_NOTCHES = 32;

/** The consoles that take input. */
export interface InputTarget {
  /** Sends a call to the console of a scanout; drops it while there is none. */
  send(scanout: ScanoutId, interfaceName: string, member: string, signature: string, values: readonly BusValue[]): void;
  /** QEMU has not taken yet what was sent before. */
  isBehind(): boolean;
  /** Whether the pointer has positions rather than motion. */
  isAbsolute(scanout: ScanoutId): boolean;
  hasTouch(scanout: ScanoutId): boolean;
  /** Resolves once QEMU has handled all that was sent; at once while there is no VM. */
  taken(): Promise<void>;
}

/**
 * Keyboard, pointer and touchscreen of a VM: QEMU gives them to those of its devices that have the focus. Keys and
 * buttons go to the console where the pointer was last. Motion waits for `frame`, and while QEMU does not read.
 */
export class DbusInput implements GuestInput {
  readonly #target: InputTarget;
  readonly #listeners = new Set<(leds: number) => void>();
  readonly #isDown = new Uint8Array(KEY_CNT);
  readonly #touched = new Uint8Array(SLOTS);
  readonly #sizes: { width: number; height: number }[] = [];
  #leds = 0;
  #scanout: ScanoutId = 0;
  /** Of the pointer, in pixels of the scanout's picture; `#sentX` is where QEMU has it. */
  #x = 0;
  #y = 0;
  #sentX = 0;
  #sentY = 0;
  #hasMoved = false;
  #vertical = 0;
  #horizontal = 0;
  /** Keys that were pressed since `taken` was called. */
  #pressed = 0;

  constructor(target: InputTarget) {
    this.#target = target;
  }

  get leds(): number {
    return this.#leds;
  }

  /** The guest has set its LEDs. */
  setLeds(leds: number): void {
    if (leds === this.#leds) return;
    this.#leds = leds;
    for (const listener of this.#listeners) listener(leds);
  }

  onLeds(listener: (leds: number) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async taken(): Promise<void> {
    this.frame();
    const pressed = this.#pressed;
    this.#pressed = 0;
    if (pressed > 0) await sleep(pressed * KEY_MS);
    await this.#target.taken();
  }

  has(device: InputKind, scanout: ScanoutId): boolean {
    return device !== 'touch' || this.#target.hasTouch(scanout);
  }

  scanoutSized(scanout: ScanoutId, width: number, height: number): void {
    this.#sizes[scanout] = { width, height };
  }

  key(code: number, isPressed: boolean): void {
    const qnum = uapi.qnumOf(code);
    if (qnum === 0 || code >= KEY_CNT) return;
    this.#isDown[code] = isPressed ? 1 : 0;
    if (isPressed && this.#pressed < MOST_KEYS) this.#pressed++;
    this.#target.send(this.#scanout, uapi.KEYBOARD, isPressed ? 'Press' : 'Release', 'u', [qnum]);
  }

  button(code: number, isPressed: boolean): void {
    const button = uapi.BUTTONS.get(code);
    if (button === undefined) return;
    this.#move();
    this.#isDown[code] = isPressed ? 1 : 0;
    this.#target.send(this.#scanout, uapi.MOUSE, isPressed ? 'Press' : 'Release', 'u', [button]);
  }

  pointerMovedTo(scanout: ScanoutId, x: number, y: number): void {
    if (!this.#place(scanout, x, y)) return;
    this.#hasMoved = true;
  }

  pointerMovedBy(dx: number, dy: number): void {
    if (!this.#target.isAbsolute(this.#scanout)) {
      this.#x += dx;
      this.#y += dy;
    } else if (!this.#place(this.#scanout, this.#x + dx, this.#y + dy)) {
      return;
    }
    this.#hasMoved = true;
  }

  isRelative(scanout: ScanoutId): boolean {
    return !this.#target.isAbsolute(scanout);
  }

  wheel(axis: WheelAxis, v120: number): void {
    if (axis === 'vertical') this.#vertical = this.#turn(this.#vertical + v120, uapi.WHEEL_UP, uapi.WHEEL_DOWN);
    else this.#horizontal = this.#turn(this.#horizontal + v120, uapi.WHEEL_LEFT, uapi.WHEEL_RIGHT);
  }

  touchDown(scanout: ScanoutId, slot: number, x: number, y: number): void {
    this.#touch(scanout, uapi.TOUCH_BEGIN, slot, x, y);
    if (slot < SLOTS) this.#touched[slot] = 1 + scanout;
  }

  touchMoved(scanout: ScanoutId, slot: number, x: number, y: number): void {
    this.#touch(scanout, uapi.TOUCH_UPDATE, slot, x, y);
  }

  touchUp(slot: number): void {
    this.#endTouch(slot, uapi.TOUCH_END);
  }

  touchCancelled(): void {
    for (let slot = 0; slot < SLOTS; slot++) this.#endTouch(slot, uapi.TOUCH_CANCEL);
  }

  frame(): void {
    if (!this.#target.isBehind()) this.#move();
  }

  releaseAll(): void {
    for (let code = 0; code < KEY_CNT; code++) {
      if (this.#isDown[code] === 0) continue;
      if (uapi.BUTTONS.has(code)) this.button(code, false);
      else this.key(code, false);
    }
    for (let slot = 0; slot < SLOTS; slot++) this.touchUp(slot);
  }

  /** False while the scanout is off. */
  #place(scanout: ScanoutId, x: number, y: number): boolean {
    const size = this.#sizes[scanout];
    if (!size || size.width === 0) return false;
    this.#scanout = scanout;
    this.#x = Math.min(Math.max(x, 0), size.width - 1);
    this.#y = Math.min(Math.max(y, 0), size.height - 1);
    return true;
  }

  #move(): void {
    if (!this.#hasMoved) return;
    this.#hasMoved = false;
    if (this.#target.isAbsolute(this.#scanout)) {
      const [x, y] = [Math.floor(this.#x), Math.floor(this.#y)];
      this.#sentX = x;
      this.#sentY = y;
      this.#target.send(this.#scanout, uapi.MOUSE, 'SetAbsPosition', 'uu', [x, y]);
      return;
    }
    const [dx, dy] = [Math.trunc(this.#x - this.#sentX), Math.trunc(this.#y - this.#sentY)];
    this.#sentX += dx;
    this.#sentY += dy;
    if (dx !== 0 || dy !== 0) this.#target.send(this.#scanout, uapi.MOUSE, 'RelMotion', 'ii', [dx, dy]);
  }

  /** Sends whole notches; returns what is left. */
  #turn(v120: number, back: number, forth: number): number {
    this.#move();
    const notches = Math.trunc(v120 / NOTCH);
    const button = notches < 0 ? back : forth;
    for (let i = Math.min(Math.abs(notches), MOST_NOTCHES); i > 0; i--) {
      this.#target.send(this.#scanout, uapi.MOUSE, 'Press', 'u', [button]);
      this.#target.send(this.#scanout, uapi.MOUSE, 'Release', 'u', [button]);
    }
    return v120 - notches * NOTCH;
  }

  #touch(scanout: ScanoutId, kind: number, slot: number, x: number, y: number): void {
    const size = this.#sizes[scanout];
    if (!size || size.width === 0 || slot >= SLOTS || !this.#target.hasTouch(scanout)) return;
    const at = [Math.min(Math.max(x, 0), size.width - 1), Math.min(Math.max(y, 0), size.height - 1)];
    this.#target.send(scanout, uapi.MULTI_TOUCH, 'SendEvent', 'utdd', [kind, slot, ...at]);
  }

  #endTouch(slot: number, kind: number): void {
    const touched = this.#touched[slot] ?? 0;
    if (touched === 0) return;
    this.#touched[slot] = 0;
    this.#touch(touched - 1, kind, slot, 0, 0);
  }
}
