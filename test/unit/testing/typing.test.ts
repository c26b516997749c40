import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { HeadlessOutput } from '../../../display/headless/output.ts';
import { DisplayError } from '../../../display/picture/errors.ts';
import { BTN, KEY, LED } from '../../../protocols/input-event-codes.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { InputDevices } from '../../../src/guest/virtio-input/input-devices.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { createDisplay, openDisplay, type TestDisplay } from '../../../src/testing/open-display.ts';
import { chordsOf, parseChord } from '../../../src/testing/typing.ts';
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

  /** The events that the driver receives until `done` resolves. */
  async function groupsDuring(done: Promise<void>): Promise<string[]> {
    const groups: string[] = [];
    const typing = { isOver: false };
    void done.finally(() => (typing.isOver = true));
    while (!typing.isOver) {
      await setImmediate();
      groups.push(...driver.take().flat());
    }
    await done;
    return groups;
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
    using picture = new GuestPicture(64, 48);
    guest.show(picture.framebuffer);
    const shown = new Promise<void>((resolve) => display.onFrame(() => resolve()));
    void guest.flush(0, 0, 64, 48);
    await shown;

    expect(await groupsDuring(display.click(32, 12, 'right'))).toEqual([
      '3 0 16384',
      '3 1 8192',
      `1 ${BTN.RIGHT} 1`,
      `1 ${BTN.RIGHT} 0`,
    ]);
    await expect(display.click(64, 0)).rejects.toMatchObject({ code: 'usage' });
    guest.sink.destroyed(picture.framebuffer);
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
