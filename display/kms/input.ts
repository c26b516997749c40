import { readFileSync, realpathSync } from 'node:fs';
import { basename } from 'node:path';
import { BTN, KEY, KEY_CNT } from '../../protocols/input-event-codes.ts';
import { type Log, limitLog, logOnce, type LogOnce } from '../../src/core/log.ts';
import { monotonicMs } from '../../src/sys/clock.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { type InputDevice, Libinput, type LibinputListener, type OpenedDevice } from '../../src/sys/lib/libinput.ts';
import { hasUdevd } from '../../src/sys/lib/udev.ts';
import type { KmsDisplay } from './display.ts';
import { KmsError } from './errors.ts';
import { InputRouter, isUsable, type OperatedScreen } from './input-router.ts';
import { type LoginSeat, PlainSeat } from './seat.ts';

/**
 * Names input devices: `event3`, a path such as `/dev/input/by-id/usb-…-event-kbd`, or the name that the kernel has for
 * it, such as `AT Translated Set 2 keyboard`.
 */
export type DeviceName = string;

/** Keys that are pressed together, each as the codes (KEY_*) of which one has to be down: left and right Ctrl, for example. */
export type KeyChord = readonly (readonly number[])[];

export interface KmsInputOptions {
  /** Whose guests get the input. They stay the caller's, who disposes them after this. */
  readonly displays: readonly KmsDisplay[];
  /** The seat of the displays. */
  readonly seat?: LoginSeat;
  /** The devices to read; default: all of the seat. */
  readonly only?: readonly DeviceName[];
  /** Devices not to read. */
  readonly except?: readonly DeviceName[];
  /** Which connector (`eDP-1`) a touchscreen or tablet belongs to, where udev does not say so. */
  readonly touch?: readonly { readonly connector: string; readonly device: DeviceName }[];
  /** Calls `onQuit`; the guest does not get the last of the keys. */
  readonly quitKeys?: KeyChord;
  readonly onQuit?: () => void;
  /** Turns the monitors off after this time without input; the next input turns them on, and does nothing else. */
  readonly idleOffMs?: number;
  readonly log?: Log;
}

const CTRL = [KEY.LEFTCTRL, KEY.RIGHTCTRL] as const;
const ALT = [KEY.LEFTALT, KEY.RIGHTALT] as const;

/** What the buttons of a tablet's pen are in a guest, which has a mouse. */
const PEN_BUTTONS: Readonly<Record<number, number>> = {
  [BTN.STYLUS]: BTN.RIGHT,
  [BTN.STYLUS2]: BTN.MIDDLE,
  [BTN.STYLUS3]: BTN.SIDE,
};

/** Connectors of screens that are built in, as built-in touchscreens are. */
const BUILT_IN = /^(eDP|LVDS|DSI|DPI)-/;

/**
 * The keyboards, pointers, tablets and touchscreens of this machine, for the guests on its monitors. The kernel's console
 * gets nothing of it, and Ctrl+Alt+F1 to F12 switch virtual terminals. Follows devices as they are plugged in and out,
 * and the seat: while that is paused, nothing is held and no device is open.
 */
export class KmsInput implements Disposable {
  readonly #stack: DisposableStack;

  private constructor(stack: DisposableStack) {
    this.#stack = stack;
  }

  /**
   * Null, with a warning, if libinput is not installed or udevd does not run. KmsError `connector-missing` if `touch` names a connector that
   * no display has.
   */
  static open(options: KmsInputOptions): KmsInput | null {
    const { seat = new PlainSeat(), displays, log = () => undefined, touch = [] } = options;
    const connectors = displays.flatMap(({ screens }) => screens.map(({ connectorName }) => connectorName));
    for (const { connector } of touch) {
      if (!connectors.includes(connector))
        throw new KmsError(
          'connector-missing',
          `no connector ${connector} is shown: there is ${connectors.join(', ')}`,
        );
    }
    using stack = new DisposableStack();
    const devices = stack.use(new Devices(options, seat));
    const libinput = openLibinput(seat, devices, log);
    if (!libinput) return null;
    stack.use(libinput);
    mute(seat, log, stack);
    devices.start(libinput);
    let isDisposed = false;
    stack.defer(() => (isDisposed = true));
    seat.listen({
      paused: () => {
        if (!isDisposed) devices.pause();
      },
      resumed: () => {
        if (!isDisposed) devices.resume();
      },
    });
    return new KmsInput(stack.move());
  }

  /** Releases what the guests hold, and closes the devices. */
  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

function openLibinput(seat: LoginSeat, listener: LibinputListener, log: Log): Libinput | null {
  if (!hasUdevd()) {
    log('warn', 'guests get no input from this machine while udevd does not run, which tells keyboards from mice');
    return null;
  }
  try {
    const libinput = Libinput.open(seat.udevName, listener);
    if (!libinput)
      log(
        'warn',
        'guests get no input from this machine without libinput.so.10, version 1.19 or newer: install libinput10',
      );
    return libinput;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    log('warn', `guests get no input from this machine: ${error.message}`);
    return null;
  }
}

function mute(seat: LoginSeat, log: Log, stack: DisposableStack): void {
  try {
    const muted = seat.muteTerminal();
    if (muted) stack.use(muted);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    log(
      'warn',
      `what is typed also reaches the virtual terminal in front (${error.message}): install seatd, or run as root`,
    );
  }
}

/** What is done at the devices, and which of them are used. */
class Devices implements LibinputListener, Disposable {
  readonly #options: KmsInputOptions;
  readonly #seat: LoginSeat;
  readonly #screens: readonly OperatedScreen[];
  readonly #router: InputRouter;
  readonly #log: Log;
  readonly #logOnce: LogOnce;
  readonly #stack = new DisposableStack();
  #libinput: Libinput | null = null;
  /** Those that are plugged in, and the connector that each belongs to; null: not known. */
  readonly #connectors = new Map<InputDevice, string | null>();
  /** Keys that are down, whether the guest was told or not. */
  readonly #down = new Uint8Array(KEY_CNT);
  #lastMs = 0;
  #isAsleep = false;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(options: KmsInputOptions, seat: LoginSeat) {
    const { displays, log = () => undefined } = options;
    this.#options = options;
    this.#seat = seat;
    this.#log = limitLog(log);
    this.#logOnce = logOnce(log);
    this.#screens = displays.flatMap(({ screens }) => screens);
    this.#router = this.#stack.use(new InputRouter(this.#screens, (leds) => this.#libinput?.setLeds(leds)));
  }

  /** `libinput` stays the caller's, who disposes it first. */
  start(libinput: Libinput): void {
    this.#libinput = libinput;
    this.#stack.defer(() => clearTimeout(this.#idleTimer));
    if (this.#seat.isActive) this.resume();
    this.#sayMissing();
  }

  pause(): void {
    this.#router.releaseAll();
    this.#down.fill(0);
    this.#libinput!.suspend();
    clearTimeout(this.#idleTimer);
  }

  resume(): void {
    try {
      this.#libinput!.resume();
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#log('warn', `input devices cannot be opened: ${error.message}`);
    }
    // The displays have turned their monitors on.
    this.#isAsleep = false;
    this.#lastMs = monotonicMs();
    this.#awaitIdle();
  }

  [Symbol.dispose](): void {
    this.#libinput = null;
    this.#stack[Symbol.dispose]();
  }

  open(path: string): OpenedDevice | null {
    const sysName = basename(path);
    const { only, except = [] } = this.#options;
    const name = kernelName(sysName);
    if (only && !only.some((wanted) => isNamed(wanted, sysName, name))) return null;
    if (except.some((unwanted) => isNamed(unwanted, sysName, name))) return null;
    try {
      return this.#seat.openInput(path);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const { code } = error as NodeJS.ErrnoException;
      // It was unplugged, or the seat is about to be paused.
      if (code === 'ENOENT' || code === 'ENODEV' || !this.#seat.isActive) return null;
      const remedy = code === 'EACCES' ? '; join the group that owns it (usually input), or install seatd' : '';
      this.#logOnce('warn', `${path} cannot be used: ${error.message}${remedy}`, path);
      return null;
    }
  }

  added(device: InputDevice): void {
    const { name, sysName, output } = device;
    const { touch = [] } = this.#options;
    const chosen = touch.find(({ device: wanted }) => isNamed(wanted, sysName, name));
    this.#connectors.set(device, chosen?.connector ?? output);
    this.#log('info', `input: ${name} (${sysName})`);
    if (device.isKeyboard) this.#libinput?.setLeds(this.#router.leds);
  }

  removed(device: InputDevice): void {
    this.#connectors.delete(device);
  }

  key(code: number, isPressed: boolean): void {
    if (code >= KEY_CNT) return;
    this.#down[code] = isPressed ? 1 : 0;
    if (isPressed && (this.#wake() || this.#isOurs(code))) return;
    this.#router.key(code, isPressed);
  }

  movedBy(dx: number, dy: number): void {
    if (!this.#wake()) this.#router.movedBy(dx, dy);
  }

  movedTo(device: InputDevice, x: number, y: number): void {
    const screen = this.#screenOf(device);
    if (!this.#wake() && screen) this.#router.movedTo(screen, x, y);
  }

  button(code: number, isPressed: boolean): void {
    if (!this.#wake()) this.#router.button(PEN_BUTTONS[code] ?? code, isPressed);
  }

  tip(isDown: boolean): void {
    if (!this.#wake()) this.#router.button(BTN.LEFT, isDown);
  }

  wheel(axis: 'vertical' | 'horizontal', v120: number): void {
    if (!this.#wake()) this.#router.wheel(axis, v120);
  }

  touchDown(device: InputDevice, slot: number, x: number, y: number): void {
    const screen = this.#screenOf(device);
    if (!this.#wake() && screen) this.#router.touchDown(screen, slot, x, y);
  }

  touchMoved(slot: number, x: number, y: number): void {
    this.#wake();
    this.#router.touchMoved(slot, x, y);
  }

  touchUp(slot: number): void {
    this.#router.touchUp(slot);
  }

  touchCancelled(slot: number): void {
    this.#router.touchCancelled(slot);
  }

  frame(): void {
    this.#router.frame();
  }

  /** True if the key that was pressed is not the guest's. */
  #isOurs(code: number): boolean {
    const { quitKeys, onQuit } = this.#options;
    if (quitKeys?.at(-1)?.includes(code) && quitKeys.every((codes) => this.#isDown(codes))) {
      onQuit?.();
      return true;
    }
    const terminal = terminalOf(code);
    if (terminal === 0 || !this.#isDown(CTRL) || !this.#isDown(ALT)) return false;
    try {
      this.#seat.switchTerminal(terminal);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#logOnce('warn', `Ctrl+Alt+F${terminal}: ${error.message}`, 'switch');
    }
    return true;
  }

  #isDown(codes: readonly number[]): boolean {
    for (const code of codes) if (this.#down[code] === 1) return true;
    return false;
  }

  /** The screen under a touchscreen or tablet: its own, or else one that is built in, or else the first. */
  #screenOf(device: InputDevice): OperatedScreen | null {
    const connector = this.#connectors.get(device) ?? null;
    let first: OperatedScreen | null = null;
    for (const screen of this.#screens) {
      if (connector !== null && screen.connectorName === connector) return screen;
      if (!isUsable(screen)) continue;
      if (!first || (BUILT_IN.test(screen.connectorName) && !BUILT_IN.test(first.connectorName))) first = screen;
    }
    return first;
  }

  /** Something was done. True if that turned the monitors on. */
  #wake(): boolean {
    if (this.#options.idleOffMs === undefined) return false;
    this.#lastMs = monotonicMs();
    if (!this.#isAsleep) return false;
    this.#isAsleep = false;
    for (const display of this.#options.displays) display.wake();
    this.#awaitIdle();
    return true;
  }

  #awaitIdle(): void {
    const { idleOffMs, displays } = this.#options;
    if (idleOffMs === undefined) return;
    clearTimeout(this.#idleTimer);
    const left = this.#lastMs + idleOffMs - monotonicMs();
    if (left > 0) {
      this.#idleTimer = setTimeout(() => this.#awaitIdle(), left);
      return;
    }
    this.#router.releaseAll();
    this.#isAsleep = true;
    for (const display of displays) display.sleep();
  }

  #sayMissing(): void {
    const { only = [], except = [], touch = [] } = this.#options;
    const devices = [...this.#connectors.keys()];
    const isThere = (wanted: DeviceName): boolean =>
      devices.some(({ name, sysName }) => isNamed(wanted, sysName, name));
    const there = devices.map(({ name, sysName }) => `${name} (${sysName})`).join(', ') || 'none';
    if (!this.#seat.isActive) return;
    for (const wanted of [...only, ...touch.map(({ device }) => device)].filter((name) => !except.includes(name)))
      if (!isThere(wanted))
        this.#log(
          'warn',
          `no input device is called ${wanted} now; it is used once it is plugged in. There are: ${there}`,
        );
    if (devices.length === 0) this.#log('info', 'input: no device yet');
  }
}

/** The number of F1 to F12; 0 for other keys. */
function terminalOf(code: number): number {
  if (code >= KEY.F1 && code <= KEY.F10) return code - KEY.F1 + 1;
  return code === KEY.F11 ? 11 : code === KEY.F12 ? 12 : 0;
}

function isNamed(wanted: DeviceName, sysName: string, name: string): boolean {
  if (!wanted.startsWith('/')) return wanted === sysName || wanted === name;
  try {
    return basename(realpathSync(wanted)) === sysName;
  } catch {
    return false;
  }
}

/** Empty if the device is gone. */
function kernelName(sysName: string): string {
  try {
    return readFileSync(`/sys/class/input/${sysName}/device/name`, 'utf8').trimEnd();
  } catch {
    return '';
  }
}
