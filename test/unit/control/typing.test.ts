import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { HeadlessOutput } from '../../../display/headless/output.ts';
import { DisplayError } from '../../../display/picture/errors.ts';
import { ABS, BTN, KEY, LED, REL } from '../../../protocols/input-event-codes.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { InputDevices } from '../../../src/guest/virtio-input/input-devices.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { createDisplay, openDisplay, type TestDisplay } from '../../../src/testing/open-display.ts';
import { chordsOf, parseChord } from '../../../src/control/typing.ts';
import { GuestPicture } from '../bridge/fakes.ts';
import { InputDriver } from '../guest/virtio-input/rig.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';
import { FakeGuest } from '../display/wayland/window-rig.ts';

const { LEFTSHIFT, LEFTCTRL, LEFTALT } = KEY;

expectNoLeaks();

describe('chordsOf', () => {
  test('adds Shift for characters that need it', () => {
    expect(chordsOf('aZ1!~|\n\t')).toEqual([
      [KEY.A],
      [LEFTSHIFT, KEY.Z],
      [KEY[1]],
      [LEFTSHIFT, KEY[1]],
      [LEFTSHIFT, KEY.GRAVE],
      [LEFTSHIFT, KEY.BACKSLASH],
      [KEY.ENTER],
      [KEY.TAB],
    ]);
  });

  test('types each printable ASCII character by a different chord', () => {
    const all = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join('');

    expect(new Set(chordsOf(all).map(String)).size).toBe(95);
  });

  test('reverses Shift for letters while Caps Lock is on', () => {
    expect(chordsOf('aB1!', 1 << LED.CAPSL)).toEqual([[LEFTSHIFT, KEY.A], [KEY.B], [KEY[1]], [LEFTSHIFT, KEY[1]]]);
  });

  test('refuses a character that no key types and names it', () => {
    expect(() => chordsOf('naïve')).toThrow(
      expect.objectContaining({ code: 'key', message: expect.stringContaining('"ï" (character 3') as string }),
    );
  });
});

describe('parseChord', () => {
  test.each([
    ['ctrl+alt+F2', [LEFTCTRL, LEFTALT, KEY.F2]],
    ['Enter', [KEY.ENTER]],
    ['super', [KEY.LEFTMETA]],
    ['RIGHTCTRL + printscreen', [KEY.RIGHTCTRL, KEY.SYSRQ]],
    ['ctrl+c', [LEFTCTRL, KEY.C]],
    ['ctrl++', [LEFTCTRL, LEFTSHIFT, KEY.EQUAL]],
    ['+', [LEFTSHIFT, KEY.EQUAL]],
    ['shift+?', [LEFTSHIFT, KEY.SLASH]],
    ['7', [KEY[7]]],
    ['kp7', [KEY.KP7]],
  ])('parses %s', (keys, chord) => {
    expect(parseChord(keys)).toEqual(chord);
  });

  test.each([
    ['ctrl+ecs', 'did you mean'],
    ['pageupp', 'did you mean pageup?'],
    ['controll', 'did you mean control?'],
    ['', 'one character'],
    ['ctrl+', 'one character'],
    ['whatever', 'linux/input-event-codes.h'],
  ])('refuses %j and suggests similar names', (keys, hint) => {
    expect(() => parseChord(keys)).toThrow(
      expect.objectContaining({ code: 'key', message: expect.stringContaining(hint) as string }),
    );
  });
});

describe('TestDisplay input', () => {
  let seat: InputDevices;
  let driver: InputDriver;
  let touch: InputDriver;
  let display: TestDisplay;
  let guest: FakeGuest;

  beforeEach(() => {
    seat = new InputDevices();
    seat.serve('keyboard-pointer');
    driver = new InputDriver(seat.keyboardPointer);
    touch = new InputDriver(seat.touchscreen);
    guest = new FakeGuest();
    display = openDisplay({ guest, size: { width: 64, height: 48 }, input: seat });
  });
  afterEach(() => {
    display[Symbol.dispose]();
    driver[Symbol.dispose]();
    touch[Symbol.dispose]();
    vi.useRealTimers();
  });

  /** The events that the driver receives until `done` settles. */
  async function groupsDuring(done: Promise<void>, from = driver): Promise<string[]> {
    const groups: string[] = [];
    const typing = { isOver: false };
    const over = (): void => void (typing.isOver = true);
    done.then(over, over);
    while (!typing.isOver) {
      await setImmediate();
      groups.push(...from.take().flat());
    }
    await done;
    return groups;
  }

  /** Puts a picture on the screen until it is disposed. */
  async function shownPicture(): Promise<Disposable> {
    const picture = new GuestPicture(64, 48);
    guest.show(picture.framebuffer);
    const shown = new Promise<void>((resolve) => display.onFrame(() => resolve()));
    void guest.flush(0, 0, 64, 48);
    await shown;
    return {
      [Symbol.dispose]: () => {
        guest.sink.destroyed(picture.framebuffer);
        picture[Symbol.dispose]();
      },
    };
  }

  test('type delivers a long text completely to a driver with four buffers', async () => {
    const text = 'sphinx of black quartz, judge my vow 0123456789 '.repeat(60);
    const groups = await groupsDuring(display.type(text));

    expect(groups).toEqual(chordsOf(text).flatMap(([code]) => [`1 ${code} 1`, `1 ${code} 0`]));
  });

  test('press presses keys in order and releases them in reverse', async () => {
    expect(await groupsDuring(display.press('ctrl+alt+F2'))).toEqual(
      [LEFTCTRL, LEFTALT, KEY.F2]
        .map((code) => `1 ${code} 1`)
        .concat([KEY.F2, LEFTALT, LEFTCTRL].map((code) => `1 ${code} 0`)),
    );
  });

  test('click moves the pointer and clicks; refuses a pixel outside the screen', async () => {
    using _shown = await shownPicture();

    expect(await groupsDuring(display.click(32, 12, 'right'))).toEqual([
      '3 0 16384',
      '3 1 8192',
      `1 ${BTN.RIGHT} 1`,
      `1 ${BTN.RIGHT} 0`,
    ]);
    await expect(display.click(64, 0)).rejects.toMatchObject({ code: 'usage' });
  });

  test('doubleClick clicks twice at one place', async () => {
    using _shown = await shownPicture();

    expect(await groupsDuring(display.doubleClick(32, 12))).toEqual(
      ['3 0 16384', '3 1 8192'].concat(...Array<string[]>(2).fill([`1 ${BTN.LEFT} 1`, `1 ${BTN.LEFT} 0`])),
    );
  });

  test('drag moves with the button held, in steps, to the end', async () => {
    using _shown = await shownPicture();
    const groups = await groupsDuring(display.drag({ x: 0, y: 12 }, { x: 32, y: 12 }));

    // The guest takes an axis to be at 0 from its start.
    expect(groups.slice(0, 3)).toEqual(['3 1 8192', `1 ${BTN.LEFT} 1`, '3 0 1024']);
    expect(groups.slice(-2)).toEqual(['3 0 16384', `1 ${BTN.LEFT} 0`]);
    expect(groups).toHaveLength(2 + 16 + 1);
    await expect(display.drag({ x: 0, y: 0 }, { x: 0, y: 48 })).rejects.toMatchObject({ code: 'usage' });
  });

  test('drag releases the button when the driver takes nothing more', async () => {
    using _shown = await shownPicture();
    vi.useFakeTimers();
    driver.pause();
    const dragging = display.drag({ x: 0, y: 0 }, { x: 32, y: 12 }).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(10_001);
    vi.useRealTimers();
    driver.resume();

    expect(await dragging).toMatchObject({ code: 'input' });
    const groups = await groupsDuring(setImmediate());
    expect([groups[0], groups.at(-1)]).toEqual([`1 ${BTN.LEFT} 1`, `1 ${BTN.LEFT} 0`]);
  });

  test('scroll turns the wheel notch by notch: down is negative in the kernel, right is positive', async () => {
    const groups = await groupsDuring(display.scroll({ down: 2, right: -1 }));

    expect(groups.filter((event) => /^2 [68] /.test(event))).toEqual([
      `2 ${REL.HWHEEL} -1`,
      `2 ${REL.WHEEL} -1`,
      `2 ${REL.WHEEL} -1`,
    ]);
  });

  test('touch needs a touchscreen; then it goes down, moves and is lifted', async () => {
    using _shown = await shownPicture();
    await expect(display.touch({ x: 1, y: 1 })).rejects.toMatchObject({
      code: 'input',
      message: expect.stringContaining('--input touch') as string,
    });
    seat.serve('touch');
    const groups = await groupsDuring(display.touch({ x: 16, y: 12 }, { x: 32, y: 12 }), touch);

    expect(groups.filter((event) => !event.startsWith(`3 ${ABS.MT_TOOL_TYPE} `)).slice(0, 5)).toEqual([
      `3 ${ABS.MT_SLOT} 15`,
      `3 ${ABS.MT_TRACKING_ID} 0`,
      `3 ${ABS.MT_POSITION_X} 8192`,
      `3 ${ABS.MT_POSITION_Y} 8192`,
      `1 ${BTN.TOUCH} 1`,
    ]);
    expect(groups.slice(-3)).toEqual([
      `3 ${ABS.MT_POSITION_X} 16384`,
      `3 ${ABS.MT_TRACKING_ID} -1`,
      `1 ${BTN.TOUCH} 0`,
    ]);
  });

  test('what is asked for at the same time is done one after the other', async () => {
    const [first, second] = ['abc', 'xyz'].map((text) => display.type(text));
    const groups = await groupsDuring(Promise.all([first, second]).then(() => undefined));

    expect(groups).toEqual(chordsOf('abcxyz').flatMap(([code]) => [`1 ${code} 1`, `1 ${code} 0`]));
  });

  test('what fails does not keep the next from its turn', async () => {
    const refused = expect(display.type('é')).rejects.toMatchObject({ code: 'key' });
    const groups = await groupsDuring(display.type('a'));
    await refused;

    expect(groups).toEqual([`1 ${KEY.A} 1`, `1 ${KEY.A} 0`]);
  });

  test('click rejects while the guest shows nothing', async () => {
    await expect(display.click(1, 1)).rejects.toMatchObject({ code: 'dark' });
  });

  test('type rejects after a timeout when the driver takes no events', async () => {
    vi.useFakeTimers();
    driver.pause();
    const typing = display.type('hello').catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(10_001);

    expect(await typing).toMatchObject({ code: 'input', message: expect.stringContaining('virtio_input') as string });
  });

  test('type rejects with the reason when the guest is gone', async () => {
    using output = HeadlessOutput.open({ width: 64, height: 48 });
    using bridge = new Bridge(new FakeGuest());
    bridge.show(0, output);
    const end = new AbortController();
    using lost = createDisplay({
      bridge,
      output,
      scanout: 0,
      input: seat,
      videoSeconds: 0,
      end,
      owned: new DisposableStack(),
    });
    driver.pause();
    const typing = lost.type('hello');
    end.abort(new DisplayError('closed', 'the guest is gone'));

    await expect(typing).rejects.toMatchObject({ code: 'closed', message: 'the guest is gone' });
  });
});
