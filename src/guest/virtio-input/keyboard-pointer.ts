import { ABS, BTN, EV, KEY_CNT, KEY_ESC, KEY_MICMUTE, LED, REL } from '../../../protocols/input-event-codes.ts';
import type { WheelAxis } from '../../core/input.ts';
import { type EventBacklog, type InputDescription, VirtioInput } from './device.ts';

/** Positions are 0 to this, whatever the picture's size; QEMU's tablets count the same way. */
export const AXIS_MAX = 0x7fff;

const KEYS = Array.from({ length: KEY_MICMUTE }, (_, index) => KEY_ESC + index);
const BUTTONS = Array.from({ length: BTN.TASK - BTN.LEFT + 1 }, (_, index) => BTN.LEFT + index);

/** Two axes, two distances, two wheels in two resolutions. */
const MOST_MOTION = 8;

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
    // The guest repeats held keys itself. There are no codes, but an answer has to be there.
    [EV.REP, [0]],
  ]),
  axisMax: new Map<number, number>([
    [ABS.X, AXIS_MAX],
    [ABS.Y, AXIS_MAX],
  ]),
};

/**
 * A keyboard, and a pointer that can be put somewhere or moved by a distance, with wheels: all in
 * one device, which udev and libinput take for a keyboard and a mouse.
 */
export class KeyboardPointer extends VirtioInput {
  readonly #keys = new Keys([...KEYS, ...BUTTONS]);
  readonly #wheel = new Wheel(REL.WHEEL, REL.WHEEL_HI_RES);
  readonly #sidewaysWheel = new Wheel(REL.HWHEEL, REL.HWHEEL_HI_RES);
  #x = 0;
  #y = 0;
  #toldX = 0;
  #toldY = 0;
  /** Not told yet, with the fraction that never is. */
  #dx = 0;
  #dy = 0;

  /** `onTaken` is called when the driver has been told everything. */
  constructor(onLeds: (leds: number) => void, onTaken: () => void = () => undefined) {
    super(description, onLeds, onTaken);
  }

  /** A key that goes down and up in one frame would not be seen: the second change begins another. */
  key(code: number, isDown: boolean): void {
    if (this.#keys.isNews(code)) this.frame();
    this.begin();
    this.#keys.set(code, isDown);
  }

  /** 0 to AXIS_MAX. */
  moveTo(x: number, y: number): void {
    this.begin();
    this.#x = x;
    this.#y = y;
  }

  moveBy(dx: number, dy: number): void {
    if (!this.isHeard) return;
    this.begin();
    this.#dx += dx;
    this.#dy += dy;
  }

  turn(axis: WheelAxis, v120: number): void {
    if (!this.isHeard) return;
    this.begin();
    // The kernel's wheel turns up for more.
    if (axis === 'vertical') this.#wheel.turn(-v120);
    else this.#sidewaysWheel.turn(v120);
  }

  releaseAll(): void {
    this.frame();
    this.#keys.releaseAll();
    this.frame();
  }

  protected get isBehind(): boolean {
    return (
      this.#keys.count > 0 ||
      this.#x !== this.#toldX ||
      this.#y !== this.#toldY ||
      Math.trunc(this.#dx) !== 0 ||
      Math.trunc(this.#dy) !== 0 ||
      this.#wheel.isNews ||
      this.#sidewaysWheel.isNews
    );
  }

  protected get canWait(): boolean {
    return this.#keys.count === 0;
  }

  protected get mostEvents(): number {
    return MOST_MOTION + this.#keys.count;
  }

  /** Where before what: a click is at its place. */
  protected report(into: EventBacklog): void {
    if (this.#x !== this.#toldX) into.add(EV.ABS, ABS.X, this.#x);
    if (this.#y !== this.#toldY) into.add(EV.ABS, ABS.Y, this.#y);
    this.#toldX = this.#x;
    this.#toldY = this.#y;
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

  /** The kernel has an axis at 0 until it is told. */
  protected forget(): void {
    this.#keys.forget();
    this.#wheel.forget();
    this.#sidewaysWheel.forget();
    this.#toldX = 0;
    this.#toldY = 0;
    this.#dx = 0;
    this.#dy = 0;
  }
}

const KNOWN = 1;
const IS_DOWN = 2;
const TOLD_DOWN = 4;
const IS_NEWS = 8;

/** The keys and buttons of a device: which are down, which the driver was told are, and what changed in which order. */
export class Keys {
  readonly #state = new Uint8Array(KEY_CNT);
  readonly #news = new Uint16Array(KEY_CNT);
  #count = 0;

  /** `codes`: those the device has. */
  constructor(codes: readonly number[]) {
    for (const code of codes) this.#state[code] = KNOWN;
  }

  /** How many events `report` adds at most. */
  get count(): number {
    return this.#count;
  }

  /** It has changed since the last report. */
  isNews(code: number): boolean {
    return ((this.#state[code] ?? 0) & IS_NEWS) !== 0;
  }

  /** Ignores keys the device does not have. */
  set(code: number, isDown: boolean): void {
    const before = this.#state[code] ?? 0;
    if ((before & KNOWN) === 0 || ((before & IS_DOWN) !== 0) === isDown) return;
    this.#state[code] = (before ^ IS_DOWN) | IS_NEWS;
    if ((before & IS_NEWS) === 0) this.#news[this.#count++] = code;
  }

  releaseAll(): void {
    for (let code = 0; code < KEY_CNT; code++) this.set(code, false);
  }

  report(into: EventBacklog): void {
    for (let i = 0; i < this.#count; i++) {
      const code = this.#news[i]!;
      const isDown = (this.#state[code]! & IS_DOWN) !== 0;
      const wasDown = (this.#state[code]! & TOLD_DOWN) !== 0;
      this.#state[code] = isDown ? KNOWN | IS_DOWN | TOLD_DOWN : KNOWN;
      if (isDown !== wasDown) into.add(EV.KEY, code, isDown ? 1 : 0);
    }
    this.#count = 0;
  }

  /** All are up and there is no news. */
  forget(): void {
    for (let code = 0; code < KEY_CNT; code++) this.#state[code]! &= KNOWN;
    this.#count = 0;
  }
}

const NOTCH = 120;

/** One wheel in the two resolutions the kernel wants: every step, and a notch whenever 120 have come together. */
export class Wheel {
  readonly #notchCode: number;
  readonly #fineCode: number;
  /** Not told yet, in 120ths. */
  #turned = 0;
  /** Told, and no whole notch yet. */
  #rest = 0;

  constructor(notchCode: number, fineCode: number) {
    this.#notchCode = notchCode;
    this.#fineCode = fineCode;
  }

  get isNews(): boolean {
    return Math.trunc(this.#turned) !== 0;
  }

  turn(v120: number): void {
    this.#turned += v120;
  }

  /** A notch begun in the other direction does not count against this one. */
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

  forget(): void {
    this.#turned = 0;
    this.#rest = 0;
  }
}
