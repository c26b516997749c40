import { ABS, BTN, EV, KEY_CNT, KEY_ESC, KEY_MICMUTE, LED, REL } from '../../../protocols/input-event-codes.ts';
import type { WheelAxis } from '../../core/input.ts';
import { type EventBacklog, type InputDescription, VirtioInput } from './device.ts';

/** Positions are 0 to AXIS_MAX, whatever the size of the picture, as for QEMU's tablets. */
export const AXIS_MAX = 0x7fff;

const KEYS = Array.from({ length: KEY_MICMUTE }, (_, index) => KEY_ESC + index);
const BUTTONS = Array.from({ length: BTN.TASK - BTN.LEFT + 1 }, (_, index) => BTN.LEFT + index);

/** Two axes, two distances, two wheels in two resolutions. */
const MAX_MOTION = 8;

const description: InputDescription = {
  name: 'scanout-bridge keyboard and pointer',
  serial: 'keyboard-pointer',
  product: 1,
  properties: [],
  events: new Map<number, readonly number[]>([
    [EV.KEY, [...KEYS, ...BUTTONS]],
    [EV.REL, Object.values(REL)],
    [EV.ABS, [ABS.X, ABS.Y]],
    [EV.LED, Object.values(LED)],
    // The guest repeats held keys itself. EV_REP has no codes, but the driver wants a bitmap that is not empty.
    [EV.REP, [0]],
  ]),
  axisMax: new Map<number, number>([
    [ABS.X, AXIS_MAX],
    [ABS.Y, AXIS_MAX],
  ]),
};

/**
 * A keyboard, and a pointer with absolute and relative motion and two wheels, in one device. udev and libinput
 * treat it as a keyboard and a mouse.
 */
export class KeyboardPointer extends VirtioInput {
  readonly #keys = new Keys([...KEYS, ...BUTTONS]);
  readonly #wheel = new Wheel(REL.WHEEL, REL.WHEEL_HI_RES);
  readonly #sidewaysWheel = new Wheel(REL.HWHEEL, REL.HWHEEL_HI_RES);
  #x = 0;
  #y = 0;
  #reportedX = 0;
  #reportedY = 0;
  /** The distance not reported yet; its fraction stays until it adds up to a whole step. */
  #dx = 0;
  #dy = 0;

  /** `onTaken` is called when the driver has been given every event. */
  constructor(onLeds: (leds: number) => void, onTaken: () => void = () => undefined) {
    super(description, onLeds, onTaken);
  }

  /**
   * `code` is KEY_* or BTN_*; others are ignored. A second change of one key in a frame begins a new frame,
   * because the guest would not see the first.
   */
  key(code: number, isDown: boolean): void {
    if (this.#keys.hasChanged(code)) this.frame();
    this.begin();
    this.#keys.set(code, isDown);
  }

  /** `x` and `y` are 0 to AXIS_MAX. */
  moveTo(x: number, y: number): void {
    this.begin();
    this.#x = x;
    this.#y = y;
  }

  moveBy(dx: number, dy: number): void {
    if (!this.hasDriver) return;
    this.begin();
    this.#dx += dx;
    this.#dy += dy;
  }

  turn(axis: WheelAxis, v120: number): void {
    if (!this.hasDriver) return;
    this.begin();
    // REL_WHEEL is positive for up, v120 for down.
    if (axis === 'vertical') this.#wheel.turn(-v120);
    else this.#sidewaysWheel.turn(v120);
  }

  releaseAll(): void {
    this.frame();
    this.#keys.releaseAll();
    this.frame();
  }

  protected get hasReport(): boolean {
    return (
      this.#keys.count > 0 ||
      this.#x !== this.#reportedX ||
      this.#y !== this.#reportedY ||
      Math.trunc(this.#dx) !== 0 ||
      Math.trunc(this.#dy) !== 0 ||
      this.#wheel.hasChanged ||
      this.#sidewaysWheel.hasChanged
    );
  }

  protected get canWait(): boolean {
    return this.#keys.count === 0;
  }

  protected get maxEvents(): number {
    return MAX_MOTION + this.#keys.count;
  }

  /** Positions come before buttons, so that a click is at the position of its frame. */
  protected report(into: EventBacklog): void {
    if (this.#x !== this.#reportedX) into.add(EV.ABS, ABS.X, this.#x);
    if (this.#y !== this.#reportedY) into.add(EV.ABS, ABS.Y, this.#y);
    this.#reportedX = this.#x;
    this.#reportedY = this.#y;
    const dx = Math.trunc(this.#dx);
    const dy = Math.trunc(this.#dy);
    if (dx !== 0) into.add(EV.REL, REL.X, dx);
    if (dy !== 0) into.add(EV.REL, REL.Y, dy);
    this.#dx -= dx;
    this.#dy -= dy;
    this.#wheel.report(into);
    this.#sidewaysWheel.report(into);
    this.#keys.report(into);
  }

  /** The guest's kernel takes an axis to be at 0 until it is reported. */
  protected clear(): void {
    this.#keys.clear();
    this.#wheel.clear();
    this.#sidewaysWheel.clear();
    this.#reportedX = 0;
    this.#reportedY = 0;
    this.#dx = 0;
    this.#dy = 0;
  }
}

const KNOWN = 1;
const DOWN = 2;
const REPORTED_DOWN = 4;
const CHANGED = 8;

/** The keys and buttons of a device: which are down, which were reported down, and which changed, in order. */
class Keys {
  readonly #state = new Uint8Array(KEY_CNT);
  readonly #changed = new Uint16Array(KEY_CNT);
  #count = 0;

  /** `codes`: the keys that the device has. */
  constructor(codes: readonly number[]) {
    for (const code of codes) this.#state[code] = KNOWN;
  }

  /** The most events that `report` adds. */
  get count(): number {
    return this.#count;
  }

  /** Whether the key has changed since the last report. */
  hasChanged(code: number): boolean {
    return ((this.#state[code] ?? 0) & CHANGED) !== 0;
  }

  /** Ignores keys the device does not have. */
  set(code: number, isDown: boolean): void {
    const before = this.#state[code] ?? 0;
    if ((before & KNOWN) === 0 || ((before & DOWN) !== 0) === isDown) return;
    this.#state[code] = (before ^ DOWN) | CHANGED;
    if ((before & CHANGED) === 0) this.#changed[this.#count++] = code;
  }

  releaseAll(): void {
    for (let code = 0; code < KEY_CNT; code++) this.set(code, false);
  }

  report(into: EventBacklog): void {
    for (let i = 0; i < this.#count; i++) {
      const code = this.#changed[i]!;
      const isDown = (this.#state[code]! & DOWN) !== 0;
      const wasDown = (this.#state[code]! & REPORTED_DOWN) !== 0;
      this.#state[code] = isDown ? KNOWN | DOWN | REPORTED_DOWN : KNOWN;
      if (isDown !== wasDown) into.add(EV.KEY, code, isDown ? 1 : 0);
    }
    this.#count = 0;
  }

  /** Every key is up, and reported up. */
  clear(): void {
    for (let code = 0; code < KEY_CNT; code++) this.#state[code]! &= KNOWN;
    this.#count = 0;
  }
}

const NOTCH = 120;

/** One wheel in the two resolutions of the kernel: every step, and a notch for each 120 steps. */
export class Wheel {
  readonly #notchCode: number;
  readonly #fineCode: number;
  /** Steps not reported yet, in 120ths of a notch. */
  #turned = 0;
  /** Steps reported that are not a whole notch yet. */
  #rest = 0;

  constructor(notchCode: number, fineCode: number) {
    this.#notchCode = notchCode;
    this.#fineCode = fineCode;
  }

  get hasChanged(): boolean {
    return Math.trunc(this.#turned) !== 0;
  }

  turn(v120: number): void {
    this.#turned += v120;
  }

  /** A turn in the other direction begins a new notch. */
  report(into: EventBacklog): void {
    const fine = Math.trunc(this.#turned);
    if (fine === 0) return;
    this.#turned -= fine;
    const rest = this.#rest * fine < 0 ? fine : this.#rest + fine;
    const notches = Math.trunc(rest / NOTCH);
    this.#rest = rest - notches * NOTCH;
    if (notches !== 0) into.add(EV.REL, this.#notchCode, notches);
    into.add(EV.REL, this.#fineCode, fine);
  }

  clear(): void {
    this.#turned = 0;
    this.#rest = 0;
  }
}
