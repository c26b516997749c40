import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { KmsDisplay } from '../../../../display/kms/display.ts';
import { KmsInput, type KmsInputOptions } from '../../../../display/kms/input.ts';
import type { OperatedScreen } from '../../../../display/kms/input-router.ts';
import type { LoginSeat, LoginSeatListener } from '../../../../display/kms/seat.ts';
import { BTN, KEY } from '../../../../protocols/input-event-codes.ts';
import type { ScreenListener } from '../../../../src/core/output.ts';
import type { InputDevice, LibinputListener } from '../../../../src/sys/lib/libinput.ts';
import { SysError } from '../../../../src/sys/errors.ts';
import { SinkLog } from '../wayland/sink-log.ts';

/** In place of libinput, which test/kernel/kms-input.test.ts has: what a test does at its listener. */
class FakeLibinput {
  static last: FakeLibinput | null = null;
  static isInstalled = true;
  readonly calls: string[] = [];
  readonly listener: LibinputListener;

  constructor(listener: LibinputListener) {
    this.listener = listener;
    FakeLibinput.last = this;
  }

  static open(_seat: string, listener: LibinputListener): FakeLibinput | null {
    return FakeLibinput.isInstalled ? new FakeLibinput(listener) : null;
  }

  resume = (): void => void this.calls.push('resume');
  suspend = (): void => void this.calls.push('suspend');
  setLeds = (leds: number): void => void this.calls.push(`leds ${leds}`);
  [Symbol.dispose] = (): void => void this.calls.push('dispose');
}

vi.mock('../../../../src/sys/lib/libinput.ts', () => ({
  Libinput: { open: (seat: string, listener: LibinputListener) => FakeLibinput.open(seat, listener) },
}));

let isUdevdRunning = true;
vi.mock('../../../../src/sys/lib/udev.ts', () => ({ hasUdevd: () => isUdevdRunning }));

const [CTRL, ALT] = [KEY.LEFTCTRL, KEY.RIGHTALT];
const TOUCHSCREEN: InputDevice = { name: 'a touchscreen', sysName: 'event7', output: null, isKeyboard: false };
const KEYBOARD: InputDevice = { name: 'a keyboard', sysName: 'event8', output: null, isKeyboard: true };

function screen(connectorName: string, scanout: number): OperatedScreen {
  return {
    connectorName,
    monitor: { width: 100, height: 100, refreshMhz: 0, widthMm: 0, heightMm: 0, name: '' },
    listener: { scanout, input: sink } as unknown as ScreenListener,
    picture: { width: 100, height: 100 },
    guestScale: 1,
    toGuest: (x, y, out) => {
      out.x = x * 100;
      out.y = y * 100;
    },
    pointAt: () => undefined,
    pointAway: () => undefined,
    watch: () => undefined,
  };
}

let sink: SinkLog;
let logged: string[];
let opened: string[];
let switched: number[];
let display: { screens: OperatedScreen[]; sleep: () => void; wake: () => void };
let seat: LoginSeat;
let seatListener: LoginSeatListener;
let input: KmsInput | null;
let libinput: FakeLibinput;

function open(options: Partial<KmsInputOptions> = {}): void {
  input = KmsInput.open({
    displays: [display as unknown as KmsDisplay],
    seat,
    log: (level, message) => void logged.push(`${level}: ${message}`),
    ...options,
  });
  libinput = FakeLibinput.last!;
}

function heard(): string[] {
  return sink.lines.splice(0);
}

function press(...codes: number[]): void {
  for (const code of codes) libinput.listener.key(code, true);
}

function release(...codes: number[]): void {
  for (const code of codes) libinput.listener.key(code, false);
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'hrtime'] });
  FakeLibinput.isInstalled = true;
  isUdevdRunning = true;
  FakeLibinput.last = null;
  sink = new SinkLog();
  logged = [];
  opened = [];
  switched = [];
  input = null;
  display = { screens: [screen('HDMI-A-1', 0), screen('eDP-1', 1)], sleep: vi.fn(), wake: vi.fn() };
  seat = {
    name: 'test',
    udevName: 'seat0',
    isActive: true,
    openCard: () => {
      throw new Error('not a test of cards');
    },
    openInput: (path) => {
      opened.push(path);
      return { fd: { fd: 9 }, [Symbol.dispose]: () => undefined };
    },
    muteTerminal: () => null,
    switchTerminal: (terminal) => void switched.push(terminal),
    listen: (listener) => (seatListener = listener),
    [Symbol.dispose]: () => undefined,
  };
});
afterEach(() => {
  input?.[Symbol.dispose]();
  vi.useRealTimers();
});

describe('KmsInput', () => {
  test('without libinput is null, and says which package to install', () => {
    FakeLibinput.isInstalled = false;
    open();
    expect(input).toBeNull();
    expect(logged).toEqual([expect.stringMatching(/^warn: .*install libinput10/)]);
  });

  test('without udevd is null, and leaves the terminal its keyboard', () => {
    isUdevdRunning = false;
    seat.muteTerminal = () => expect.unreachable();
    open();
    expect(input).toBeNull();
    expect(logged).toEqual([expect.stringMatching(/^warn: .*udevd does not run/)]);
  });

  test('keeps what is typed from the terminal until it is disposed, or says that it cannot', () => {
    const muted = { [Symbol.dispose]: vi.fn() };
    seat.muteTerminal = () => muted;
    open();
    expect(muted[Symbol.dispose]).not.toHaveBeenCalled();
    input![Symbol.dispose]();
    expect(muted[Symbol.dispose]).toHaveBeenCalledOnce();
    seat.muteTerminal = () => {
      throw new SysError('open', 'EACCES', '/dev/tty1');
    };
    open();
    expect(logged.at(-2)).toMatch(/^warn: what is typed also reaches the virtual terminal .*EACCES/);
  });

  test('switches virtual terminals by Ctrl+Alt+F1 to F12, which the guest does not get', () => {
    open();
    press(CTRL, ALT, KEY.F2, KEY.F10, KEY.F11, KEY.F12);
    release(KEY.F2);
    expect(switched).toEqual([2, 10, 11, 12]);
    expect(heard()).toEqual([`key ${CTRL} down`, `key ${ALT} down`]);
  });

  test('gives the guest F keys without both modifiers', () => {
    open();
    press(CTRL, KEY.F2);
    expect(switched).toEqual([]);
    expect(heard()).toEqual([`key ${CTRL} down`, `key ${KEY.F2} down`]);
  });

  test('warns once if terminals cannot be switched', () => {
    seat.switchTerminal = () => {
      throw new SysError('libseat_switch_session', 'EPERM');
    };
    open();
    press(CTRL, ALT, KEY.F1, KEY.F2);
    expect(logged.filter((line) => line.startsWith('warn'))).toEqual([
      'warn: Ctrl+Alt+F1: libseat_switch_session: EPERM',
    ]);
  });

  test('ends by the quit keys in any order of the modifiers', () => {
    const onQuit = vi.fn();
    open({ quitKeys: [[KEY.LEFTCTRL, KEY.RIGHTCTRL], [KEY.LEFTALT, KEY.RIGHTALT], [KEY.BACKSPACE]], onQuit });
    press(ALT, KEY.BACKSPACE);
    release(KEY.BACKSPACE);
    expect(onQuit).not.toHaveBeenCalled();
    press(CTRL, KEY.BACKSPACE);
    expect(onQuit).toHaveBeenCalledOnce();
    expect(heard().at(-1)).toBe(`key ${CTRL} down`);
  });

  test('releases what is held and closes the devices when the seat is paused, and opens them again', () => {
    open();
    press(CTRL, ALT);
    heard();
    seatListener.paused();
    release(CTRL, ALT);
    seatListener.resumed();
    press(KEY.F3);
    expect(heard()).toEqual([`key ${CTRL} up`, `key ${ALT} up`, 'frame', `key ${KEY.F3} down`]);
    expect(libinput.calls).toEqual(['resume', 'suspend', 'resume']);
  });

  test('opens no device while the seat belongs to another program', () => {
    seat = { ...seat, isActive: false };
    open();
    expect(libinput.calls).toEqual([]);
    seatListener.resumed();
    expect(libinput.calls).toEqual(['resume']);
  });

  test('uses the devices that were chosen', () => {
    open({ only: ['event7', 'event8'], except: ['event8'] });
    for (const name of ['event6', 'event7', 'event8']) libinput.listener.open(`/dev/input/${name}`);
    expect(opened).toEqual(['/dev/input/event7']);
    expect(logged).toContainEqual(expect.stringMatching(/no input device is called event7 now.* There are: none/));
  });

  test('says once how to get a permission, and leaves the device out', () => {
    seat.openInput = () => {
      throw new SysError('open', 'EACCES');
    };
    open();
    expect(libinput.listener.open('/dev/input/event7')).toBeNull();
    expect(libinput.listener.open('/dev/input/event7')).toBeNull();
    expect(logged.filter((line) => line.includes('event7'))).toEqual([
      expect.stringMatching(/^warn: .*EACCES.*join the group that owns it/),
    ]);
  });

  test.each([
    ['the connector that was chosen', 'HDMI-A-1', [{ connector: 'HDMI-A-1', device: 'a touchscreen' }], 'eDP-1'],
    ["udev's connector", 'HDMI-A-1', [], 'HDMI-A-1'],
    ['the built-in screen', 'eDP-1', [], null],
  ])('maps a touchscreen to %s', (_, connector, touch, output) => {
    open({ touch });
    const device = { ...TOUCHSCREEN, output };
    libinput.listener.added(device);
    libinput.listener.touchDown(device, 0, 0.5, 0.25);
    libinput.listener.frame();
    expect(heard()).toEqual([`touch ${connector === 'eDP-1' ? 1 : 0} 0 50 25`, 'frame']);
  });

  test('refuses a connector that is not shown', () => {
    expect(() => open({ touch: [{ connector: 'DP-9', device: 'event7' }] })).toThrow(
      expect.objectContaining({
        code: 'connector-missing',
        message: expect.stringContaining('HDMI-A-1') as string,
      }) as Error,
    );
  });

  test('makes mouse buttons of a pen', () => {
    open();
    libinput.listener.tip(true);
    libinput.listener.button(BTN.STYLUS, true);
    libinput.listener.button(BTN.STYLUS2, true);
    expect(heard()).toEqual([BTN.LEFT, BTN.RIGHT, BTN.MIDDLE].map((button) => `button ${button} down`));
  });

  test("sets a keyboard's LEDs when it is plugged in", () => {
    sink = Object.assign(new SinkLog(), { leds: 5 });
    display.screens = [screen('HDMI-A-1', 0)];
    open();
    libinput.listener.added(KEYBOARD);
    expect(libinput.calls).toEqual(['resume', 'leds 5']);
  });

  test('turns monitors off without input, and on by the first input, which the guest does not get', () => {
    open({ idleOffMs: 1000 });
    press(KEY.A);
    vi.advanceTimersByTime(900);
    release(KEY.A);
    press(KEY.B);
    vi.advanceTimersByTime(999);
    expect(display.sleep).not.toHaveBeenCalled();
    heard();
    vi.advanceTimersByTime(1);
    expect(display.sleep).toHaveBeenCalledOnce();
    expect(heard()).toEqual([`key ${KEY.B} up`, 'frame']);

    press(KEY.C);
    expect(display.wake).toHaveBeenCalledOnce();
    release(KEY.C);
    expect(heard()).toEqual([]);
    press(KEY.D);
    expect(heard()).toEqual([`key ${KEY.D} down`]);
    vi.advanceTimersByTime(1000);
    expect(display.sleep).toHaveBeenCalledTimes(2);
  });
});
