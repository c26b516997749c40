/**
 * libinput, if it is installed: turns what keyboards, mice, touchpads, tablets and touchscreens report into key,
 * pointer and touch events, and finds these devices through udev.
 */
import koffi from 'koffi';
import * as c from '../../../protocols/libinput.ts';
import { DisposableStack } from '../disposable-stack.ts';
import { ERRNO } from '../../../protocols/linux-errno.ts';
import { SysError } from '../errors.ts';
import { NativeBuffer } from '../native-buffer.ts';
import { Poll } from '../poll.ts';
import { Pump } from '../pump.ts';
import { optionalLibrary } from './library.ts';
import { UdevContext } from './udev.ts';

const openRestricted = koffi.pointer(koffi.proto('int', ['str', 'int', 'uintptr_t']));
const closeRestricted = koffi.pointer(koffi.proto('void', ['int', 'uintptr_t']));

/** Returned by `open`: a descriptor, and what closes it. */
export interface OpenedDevice extends Disposable {
  readonly fd: { readonly fd: number };
}

type Call = (pointer: number) => number;

/* Events and devices are addresses. An event is valid until it is destroyed. */
class Library {
  readonly createContext: (api: number, userData: number, udev: number) => number;
  readonly assignSeat: (context: number, seat: string) => number;
  readonly setLogHandler: (context: number, handler: number) => void;
  readonly unref: Call;
  readonly getFd: Call;
  readonly dispatch: Call;
  readonly suspend: (context: number) => void;
  readonly resume: Call;
  readonly getEvent: Call;
  readonly destroyEvent: (event: number) => void;
  readonly typeOf: Call;
  readonly deviceOf: Call;
  readonly refDevice: Call;
  readonly unrefDevice: Call;
  readonly deviceName: (device: number) => string | null;
  readonly deviceSysName: (device: number) => string | null;
  readonly deviceOutput: (device: number) => string | null;
  readonly deviceHas: (device: number, capability: number) => number;
  readonly setLeds: (device: number, leds: number) => void;
  readonly tapFingers: Call;
  readonly setTap: (device: number, state: number) => number;
  readonly keyboardEvent: Call;
  readonly key: Call;
  readonly keyState: Call;
  readonly keyCount: Call;
  readonly pointerEvent: Call;
  readonly dx: Call;
  readonly dy: Call;
  readonly x: (event: number, width: number) => number;
  readonly y: (event: number, height: number) => number;
  readonly button: Call;
  readonly buttonState: Call;
  readonly buttonCount: Call;
  readonly hasAxis: (event: number, axis: number) => number;
  readonly scroll: (event: number, axis: number) => number;
  readonly scrollV120: (event: number, axis: number) => number;
  readonly touchEvent: Call;
  readonly touchSlot: Call;
  readonly touchX: (event: number, width: number) => number;
  readonly touchY: (event: number, height: number) => number;
  readonly toolEvent: Call;
  readonly toolX: (event: number, width: number) => number;
  readonly toolY: (event: number, height: number) => number;
  readonly toolTip: Call;
  readonly toolProximity: Call;
  readonly toolButton: Call;
  readonly toolButtonState: Call;

  constructor() {
    const library = koffi.load('libinput.so.10');
    const bind = (name: string, result: string, ...parameters: string[]): never =>
      library.func(`libinput_${name}`, result, ['uintptr_t', ...parameters]) as never;
    this.createContext = bind('udev_create_context', 'uintptr_t', 'uintptr_t', 'uintptr_t');
    this.assignSeat = bind('udev_assign_seat', 'int', 'str');
    this.setLogHandler = bind('log_set_handler', 'void', 'uintptr_t');
    this.unref = bind('unref', 'uintptr_t');
    this.getFd = bind('get_fd', 'int');
    this.dispatch = bind('dispatch', 'int');
    this.suspend = bind('suspend', 'void');
    this.resume = bind('resume', 'int');
    this.getEvent = bind('get_event', 'uintptr_t');
    this.destroyEvent = bind('event_destroy', 'void');
    this.typeOf = bind('event_get_type', 'int');
    this.deviceOf = bind('event_get_device', 'uintptr_t');
    this.refDevice = bind('device_ref', 'uintptr_t');
    this.unrefDevice = bind('device_unref', 'uintptr_t');
    this.deviceName = bind('device_get_name', 'str');
    this.deviceSysName = bind('device_get_sysname', 'str');
    this.deviceOutput = bind('device_get_output_name', 'str');
    this.deviceHas = bind('device_has_capability', 'int', 'int');
    this.setLeds = bind('device_led_update', 'void', 'int');
    this.tapFingers = bind('device_config_tap_get_finger_count', 'int');
    this.setTap = bind('device_config_tap_set_enabled', 'int', 'int');
    this.keyboardEvent = bind('event_get_keyboard_event', 'uintptr_t');
    this.key = bind('event_keyboard_get_key', 'uint32_t');
    this.keyState = bind('event_keyboard_get_key_state', 'int');
    this.keyCount = bind('event_keyboard_get_seat_key_count', 'uint32_t');
    this.pointerEvent = bind('event_get_pointer_event', 'uintptr_t');
    this.dx = bind('event_pointer_get_dx', 'double');
    this.dy = bind('event_pointer_get_dy', 'double');
    this.x = bind('event_pointer_get_absolute_x_transformed', 'double', 'uint32_t');
    this.y = bind('event_pointer_get_absolute_y_transformed', 'double', 'uint32_t');
    this.button = bind('event_pointer_get_button', 'uint32_t');
    this.buttonState = bind('event_pointer_get_button_state', 'int');
    this.buttonCount = bind('event_pointer_get_seat_button_count', 'uint32_t');
    this.hasAxis = bind('event_pointer_has_axis', 'int', 'int');
    this.scroll = bind('event_pointer_get_scroll_value', 'double', 'int');
    this.scrollV120 = bind('event_pointer_get_scroll_value_v120', 'double', 'int');
    this.touchEvent = bind('event_get_touch_event', 'uintptr_t');
    this.touchSlot = bind('event_touch_get_seat_slot', 'int32_t');
    this.touchX = bind('event_touch_get_x_transformed', 'double', 'uint32_t');
    this.touchY = bind('event_touch_get_y_transformed', 'double', 'uint32_t');
    this.toolEvent = bind('event_get_tablet_tool_event', 'uintptr_t');
    this.toolX = bind('event_tablet_tool_get_x_transformed', 'double', 'uint32_t');
    this.toolY = bind('event_tablet_tool_get_y_transformed', 'double', 'uint32_t');
    this.toolTip = bind('event_tablet_tool_get_tip_state', 'int');
    this.toolProximity = bind('event_tablet_tool_get_proximity_state', 'int');
    this.toolButton = bind('event_tablet_tool_get_button', 'uint32_t');
    this.toolButtonState = bind('event_tablet_tool_get_button_state', 'int');
  }
}

const loadLibinput = optionalLibrary(() => new Library());

/** Whether libinput 1.19 or newer is installed. */
export function hasLibinput(): boolean {
  return loadLibinput() !== null;
}

/** Positions are asked for as if the screen had this many pixels in each direction, then divided by it. */
const FINE = 65_536;
/** Of `scroll`, which sends degrees for wheels: one notch of most. Touchpads send pixels of about that scale. */
const UNITS_PER_NOTCH = 15;
const V120_PER_NOTCH = 120;
const { EIO } = ERRNO;

/** A device that is plugged in. */
export interface InputDevice {
  /** As the kernel reports it, which takes it from the device: `AT Translated Set 2 keyboard`. */
  readonly name: string;
  /** `event3` */
  readonly sysName: string;
  /** udev's property WL_OUTPUT: the connector of the monitor that it belongs to. */
  readonly output: string | null;
  readonly isKeyboard: boolean;
}

/**
 * What people do. Called from the event loop, and by `resume` and `suspend`. Positions are from 0 to
 * 1, from the left and from the top. Keys and buttons are those of the kernel, each pressed by the first device that
 * holds it and released by the last; also when a device is unplugged. A frame ends events that belong together. Any
 * call may dispose the Libinput.
 */
export interface LibinputListener {
  /**
   * Opens a device, by its path, for reading and writing and without blocking; or returns null, and the device is not
   * used. The result is disposed when the device is gone, or not to be used for now.
   */
  open(path: string): OpenedDevice | null;
  added(device: InputDevice): void;
  removed(device: InputDevice): void;
  key(code: number, isPressed: boolean): void;
  movedBy(dx: number, dy: number): void;
  movedTo(device: InputDevice, x: number, y: number): void;
  button(code: number, isPressed: boolean): void;
  /** The tip of a tablet's tool. */
  tip(isDown: boolean): void;
  /** 120 is one notch, down or to the right. */
  wheel(axis: 'vertical' | 'horizontal', v120: number): void;
  /** `slot` identifies the touch among those of all devices until it is up. */
  touchDown(device: InputDevice, slot: number, x: number, y: number): void;
  touchMoved(slot: number, x: number, y: number): void;
  touchUp(slot: number): void;
  touchCancelled(slot: number): void;
  frame(): void;
}

/** The input devices of one seat of this machine. Keeps the process alive until disposed. */
export class Libinput implements Disposable {
  readonly #library: Library;
  readonly #seat: string;
  readonly #listener: LibinputListener;
  readonly #context: number;
  readonly #stack: DisposableStack;
  readonly #opened = new Map<number, OpenedDevice>();
  /** By address. Each holds a reference. */
  readonly #devices = new Map<number, InputDevice>();
  /** The addresses of the tablets whose tool's tip is down. */
  readonly #tipsDown = new Set<number>();
  readonly #pump = new Pump(() => this.#next());
  #isAssigned = false;
  /** The event that is being handled; 0 between events. */
  #event = 0;

  private constructor(library: Library, seat: string, listener: LibinputListener, stack: DisposableStack) {
    this.#library = library;
    this.#seat = seat;
    this.#listener = listener;
    const api = stack.use(NativeBuffer.allocate(c.libinput_interface.size));
    c.libinput_interface.set(api.view, 0, {
      open_restricted: callback(stack, openRestricted, (path: string) => this.#open(path)),
      close_restricted: callback(stack, closeRestricted, (fd: number) => this.#close(fd)),
    });
    const udev = stack.use(UdevContext.open());
    this.#context = library.createContext(api.address, 0, udev.address);
    if (this.#context === 0) throw new SysError('libinput_udev_create_context', 'ENOMEM');
    stack.defer(() => {
      this.#endEvent();
      for (const device of this.#devices.keys()) library.unrefDevice(device);
      library.unref(this.#context);
    });
    // Its messages have names of devices in them, which may contain anything, and would go to stderr.
    library.setLogHandler(this.#context, 0);
    stack.use(Poll.readable({ fd: library.getFd(this.#context) }, () => this.#dispatch()));
    stack.use(this.#pump);
    this.#stack = stack.move();
  }

  /**
   * Uses no device before `resume`. Null if libinput 1.19 or newer is not installed. `seat` is udev's ID_SEAT: `seat0`.
   * SysError.
   */
  static open(seat: string, listener: LibinputListener): Libinput | null {
    const library = loadLibinput();
    if (library === null) return null;
    using stack = new DisposableStack();
    return new Libinput(library, seat, listener, stack);
  }

  /** Opens the devices of the seat, and those that are plugged in from now on. SysError if udev cannot be asked. */
  resume(): void {
    const result = this.#isAssigned
      ? this.#library.resume(this.#context)
      : this.#library.assignSeat(this.#context, this.#seat);
    if (result < 0) throw new SysError('libinput_resume', 'EIO', this.#seat);
    this.#isAssigned = true;
    this.#drain();
  }

  /** Closes all devices, before it returns. Their keys are released, and they are reported as removed. */
  suspend(): void {
    if (this.#isAssigned) this.#library.suspend(this.#context);
    this.#drain();
  }

  /** Sets the LEDs of all keyboards. Bit n is the kernel's LED n; those above Scroll Lock are ignored. */
  setLeds(leds: number): void {
    const known = leds & (c.LIBINPUT_LED_NUM_LOCK | c.LIBINPUT_LED_CAPS_LOCK | c.LIBINPUT_LED_SCROLL_LOCK);
    for (const [address, { isKeyboard }] of this.#devices) if (isKeyboard) this.#library.setLeds(address, known);
  }

  /** Closes all devices. The listener hears nothing more. */
  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #open(path: string): number {
    try {
      const device = this.#listener.open(path);
      if (device === null) return -EIO!;
      this.#opened.set(device.fd.fd, device);
      return device.fd.fd;
    } catch (error) {
      // It must not pass through C.
      queueMicrotask(() => {
        throw error;
      });
      return -EIO!;
    }
  }

  #close(fd: number): void {
    this.#opened.get(fd)?.[Symbol.dispose]();
    this.#opened.delete(fd);
  }

  /** Does not read more while events wait for their turn, so that these stay few. */
  #dispatch(): void {
    if (this.#pump.isBusy) return;
    this.#library.dispatch(this.#context);
    this.#pump.start();
  }

  /** What came and went is known when it returns, at once: there are few devices. */
  #drain(): void {
    while (this.#next());
  }

  #next(): boolean {
    const event = this.#library.getEvent(this.#context);
    if (event === 0) return false;
    this.#event = event;
    try {
      this.#handle(event);
    } finally {
      this.#endEvent();
    }
    return !this.#stack.disposed;
  }

  #endEvent(): void {
    if (this.#event !== 0) this.#library.destroyEvent(this.#event);
    this.#event = 0;
  }

  #handle(event: number): void {
    const library = this.#library;
    const listener = this.#listener;
    const type = library.typeOf(event);
    switch (type) {
      case c.LIBINPUT_EVENT_DEVICE_ADDED:
        this.#added(library.deviceOf(event));
        return;
      case c.LIBINPUT_EVENT_DEVICE_REMOVED:
        this.#removed(library.deviceOf(event));
        return;
      case c.LIBINPUT_EVENT_KEYBOARD_KEY: {
        const keyboard = library.keyboardEvent(event);
        const isPressed = library.keyState(keyboard) === c.LIBINPUT_KEY_STATE_PRESSED;
        if (library.keyCount(keyboard) !== (isPressed ? 1 : 0)) return;
        listener.key(library.key(keyboard), isPressed);
        break;
      }
      case c.LIBINPUT_EVENT_POINTER_MOTION: {
        const pointer = library.pointerEvent(event);
        listener.movedBy(library.dx(pointer), library.dy(pointer));
        break;
      }
      case c.LIBINPUT_EVENT_POINTER_MOTION_ABSOLUTE: {
        const pointer = library.pointerEvent(event);
        listener.movedTo(this.#device(event), library.x(pointer, FINE) / FINE, library.y(pointer, FINE) / FINE);
        break;
      }
      case c.LIBINPUT_EVENT_POINTER_BUTTON: {
        const pointer = library.pointerEvent(event);
        const isPressed = library.buttonState(pointer) === c.LIBINPUT_BUTTON_STATE_PRESSED;
        if (library.buttonCount(pointer) !== (isPressed ? 1 : 0)) return;
        listener.button(library.button(pointer), isPressed);
        break;
      }
      case c.LIBINPUT_EVENT_POINTER_SCROLL_WHEEL:
      case c.LIBINPUT_EVENT_POINTER_SCROLL_FINGER:
      case c.LIBINPUT_EVENT_POINTER_SCROLL_CONTINUOUS: {
        const pointer = library.pointerEvent(event);
        const isWheel = type === c.LIBINPUT_EVENT_POINTER_SCROLL_WHEEL;
        this.#scrolled(pointer, 'vertical', c.LIBINPUT_POINTER_AXIS_SCROLL_VERTICAL, isWheel);
        this.#scrolled(pointer, 'horizontal', c.LIBINPUT_POINTER_AXIS_SCROLL_HORIZONTAL, isWheel);
        break;
      }
      case c.LIBINPUT_EVENT_TOUCH_DOWN:
      case c.LIBINPUT_EVENT_TOUCH_MOTION: {
        const touch = library.touchEvent(event);
        const slot = library.touchSlot(touch);
        const x = library.touchX(touch, FINE) / FINE;
        const y = library.touchY(touch, FINE) / FINE;
        if (type === c.LIBINPUT_EVENT_TOUCH_DOWN) listener.touchDown(this.#device(event), slot, x, y);
        else listener.touchMoved(slot, x, y);
        return;
      }
      case c.LIBINPUT_EVENT_TOUCH_UP:
        listener.touchUp(library.touchSlot(library.touchEvent(event)));
        return;
      case c.LIBINPUT_EVENT_TOUCH_CANCEL:
        listener.touchCancelled(library.touchSlot(library.touchEvent(event)));
        return;
      case c.LIBINPUT_EVENT_TOUCH_FRAME:
        break;
      case c.LIBINPUT_EVENT_TABLET_TOOL_AXIS:
      case c.LIBINPUT_EVENT_TABLET_TOOL_PROXIMITY:
      case c.LIBINPUT_EVENT_TABLET_TOOL_TIP: {
        const tool = library.toolEvent(event);
        const isDown = library.toolTip(tool) === c.LIBINPUT_TABLET_TOOL_TIP_DOWN;
        listener.movedTo(this.#device(event), library.toolX(tool, FINE) / FINE, library.toolY(tool, FINE) / FINE);
        if (type === c.LIBINPUT_EVENT_TABLET_TOOL_TIP) this.#tip(library.deviceOf(event), isDown);
        // libinput reports no release of a tip that comes down in the frame in which its tool goes away.
        if (
          type === c.LIBINPUT_EVENT_TABLET_TOOL_PROXIMITY &&
          library.toolProximity(tool) === c.LIBINPUT_TABLET_TOOL_PROXIMITY_STATE_OUT
        )
          this.#tip(library.deviceOf(event), false);
        break;
      }
      case c.LIBINPUT_EVENT_TABLET_TOOL_BUTTON: {
        const tool = library.toolEvent(event);
        listener.button(library.toolButton(tool), library.toolButtonState(tool) === c.LIBINPUT_BUTTON_STATE_PRESSED);
        break;
      }
      default:
        // Gestures, switches and the buttons of tablets have no place in a guest.
        return;
    }
    if (!this.#stack.disposed) listener.frame();
  }

  #scrolled(pointer: number, axis: 'vertical' | 'horizontal', number: number, isWheel: boolean): void {
    const library = this.#library;
    if (this.#stack.disposed || library.hasAxis(pointer, number) === 0) return;
    const v120 = isWheel
      ? library.scrollV120(pointer, number)
      : (library.scroll(pointer, number) * V120_PER_NOTCH) / UNITS_PER_NOTCH;
    if (v120 !== 0) this.#listener.wheel(axis, v120);
  }

  #tip(device: number, isDown: boolean): void {
    if (this.#tipsDown.has(device) === isDown) return;
    if (isDown) this.#tipsDown.add(device);
    else this.#tipsDown.delete(device);
    this.#listener.tip(isDown);
  }

  #device(event: number): InputDevice {
    return this.#devices.get(this.#library.deviceOf(event))!;
  }

  #added(address: number): void {
    const library = this.#library;
    const device: InputDevice = {
      name: library.deviceName(address) ?? '',
      sysName: library.deviceSysName(address) ?? '',
      output: library.deviceOutput(address),
      isKeyboard: library.deviceHas(address, c.LIBINPUT_DEVICE_CAP_KEYBOARD) !== 0,
    };
    library.refDevice(address);
    this.#devices.set(address, device);
    // As on desktops; many touchpads have no other button.
    if (library.tapFingers(address) > 0) library.setTap(address, c.LIBINPUT_CONFIG_TAP_ENABLED);
    this.#listener.added(device);
  }

  #removed(address: number): void {
    const device = this.#devices.get(address);
    if (!device) return;
    this.#devices.delete(address);
    this.#tipsDown.delete(address);
    this.#library.unrefDevice(address);
    this.#listener.removed(device);
  }
}

/** The address of a C function that calls `call`, until the stack is disposed. */
function callback(stack: DisposableStack, type: typeof openRestricted, call: (first: never) => unknown): number {
  const address = koffi.register(call, type);
  stack.defer(() => koffi.unregister(address));
  return Number(address);
}
