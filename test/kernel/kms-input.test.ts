/**
 * The installed command on a monitor, with the input devices of the machine: QEMU's own, operated through its monitor, and
 * others that the kernel makes of what a test says. What arrives is what the guest's driver is given.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ABS, BTN, EV, INPUT_PROP_DIRECT, KEY, LED, MT_TOOL, REL } from '../../protocols/input-event-codes.ts';
import { K_OFF } from '../../protocols/linux-kd.ts';
import { KmsDevice } from '../../display/kms/device.ts';
import { ARROW } from '../../display/kms/own-pointer.ts';
import type { Picture } from '../../src/core/picture.ts';
import type { InputEvent, InnerQmp } from '../rig/inner-qmp.ts';
import { openFds } from '../rig/process-resources.ts';
import { Uinput } from '../rig/uinput.ts';
import { keyboardMode, Prompt } from './console.ts';
import { checksum, CrtcCrc } from './crtc-crc.ts';
import { abs, AXIS, axis, InputMachine, key, Kiosk, rel, UP } from './input-kiosk.ts';
import { HEIGHT, type Pictures, WIDTH } from './kiosk-rig.ts';
import { vkmsCard } from './kms-rig.ts';
import { expectSettled, skipWithoutProgram } from './machine.ts';
import { Seatd, skipWithoutSeatd, switchTo, terminalInFront, UDEVD } from './seat-rig.ts';

const isSkipped = skipWithoutSeatd() || skipWithoutProgram(UDEVD);
/** How often a device is plugged in and out. A release is tested with 1000. */
const PLUG_CYCLES = Number(process.env['PLUG_CYCLES'] ?? 5);
/** From one tap to the next. */
const TAP_MS = 500;
/** More than the slowest cycle on a busy machine. */
const PLUG_LIMIT_MS = 10_000;

/** QEMU's tablet at a pixel of the screen. */
function tabletAt(x: number, y: number): InputEvent[] {
  const point = (which: 'x' | 'y', value: number): InputEvent => ({ type: 'abs', data: { axis: which, value } });
  return [point('x', axis(x, WIDTH)), point('y', axis(y, HEIGHT))];
}

/** A picture with the arrow of `--cursor draw`. */
function withArrow(picture: Picture, left: number, top: number): Picture {
  ARROW.slice(0, picture.height - top).forEach((row, y) => {
    for (let x = 0; x < Math.min(row.length, picture.width - left); x++) {
      const at = ((top + y) * picture.width + left + x) * 4;
      if (row[x] !== ' ') picture.data.fill(row[x] === '#' ? 0 : 255, at, at + 3);
    }
  });
  return picture;
}

describe.skipIf(isSkipped)('scanout run on a monitor, with the input devices of the machine', () => {
  let machine: InputMachine;
  let directory: string;
  let pictures: Pictures;
  let qmp: InnerQmp;

  const press = (qcode: string, down: boolean): void => machine.press(qcode, down);
  const type = (...qcodes: string[]): void => machine.type(...qcodes);

  beforeAll(async () => {
    machine = await InputMachine.start();
    ({ directory, pictures, qmp } = machine);
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
  });

  test('without a kiosk what is typed reaches the virtual terminal', async () => {
    using prompt = new Prompt(terminalInFront());
    type('h', 'i', 'ret');
    await expectSettled(prompt.line, 'hi\n');
  });

  describe('on a seat of seatd', () => {
    let seatd: Seatd;
    let kiosk: Kiosk;
    let terminal: string;

    beforeAll(async () => {
      terminal = terminalInFront();
      seatd = await Seatd.start();
      kiosk = await Kiosk.start(directory, pictures, '--quit-keys', 'ctrl+alt+backspace');
    });
    afterAll(async () => {
      // Also if there is no kiosk: a seatd that stayed would be asked whenever a test switches terminals.
      await using _seatd = seatd;
      await kiosk[Symbol.asyncDispose]();
    });

    test("keys of QEMU's keyboard arrive, and none reach the virtual terminal", async () => {
      using prompt = new Prompt(terminal);
      type('a', 'ret');
      const heard = [];
      for (let i = 0; i < 4; i++) heard.push(await kiosk.keyboard.next());
      expect(heard).toEqual([[key(KEY.A, 1)], [key(KEY.A, 0)], [key(KEY.ENTER, 1)], [key(KEY.ENTER, 0)]]);
      expect(keyboardMode(terminal)).toBe(K_OFF);
      expect(prompt.line()).toBe('');
    });

    test('Alt+SysRq+h is the kernel’s: it logs its help, and the guest gets Alt only', async () => {
      const isHelpLogged = (): boolean =>
        execFileSync('dmesg', { encoding: 'latin1', maxBuffer: 2 ** 24 }).includes('sysrq: HELP');
      const before = isHelpLogged();
      for (const qcode of ['alt', 'sysrq', 'h']) press(qcode, true);
      for (const qcode of ['h', 'sysrq', 'alt']) press(qcode, false);
      expect([await kiosk.keyboard.next(), await kiosk.keyboard.next()]).toEqual([
        [key(KEY.LEFTALT, 1)],
        [key(KEY.LEFTALT, 0)],
      ]);
      expect(before).toBe(false);
      await expectSettled(isHelpLogged, true);
    });

    test("QEMU's tablet points at the guest's pixels", async () => {
      qmp.sendInput(...tabletAt(320, 120));
      const moved = await kiosk.keyboard.next();
      qmp.sendInput({ type: 'btn', data: { button: 'right', down: true } });
      const down = await kiosk.keyboard.next();
      qmp.sendInput({ type: 'btn', data: { button: 'right', down: false } });
      const up = await kiosk.keyboard.next();
      expect([moved, down, up]).toEqual([
        [abs(ABS.X, axis(320, WIDTH)), abs(ABS.Y, axis(120, HEIGHT))],
        [key(BTN.RIGHT, 1)],
        [key(BTN.RIGHT, 0)],
      ]);
    });

    test("touches of QEMU's touchscreen arrive in their slots", async () => {
      const touching = (kind: 'begin' | 'end', slot: number) =>
        ({
          type: 'mtt',
          data: { type: kind, slot, 'tracking-id': kind === 'end' ? UP : slot, axis: 'x', value: 0 },
        }) as const;
      const at = (slot: number, which: 'x' | 'y', position: number, size: number) =>
        ({
          type: 'mtt',
          data: { type: 'data', slot, 'tracking-id': slot, axis: which, value: (position * AXIS) / size },
        }) as const;
      const begin = (slot: number, x: number, y: number) => [
        touching('begin', slot),
        at(slot, 'x', x, WIDTH),
        at(slot, 'y', y, HEIGHT),
      ];
      qmp.sendInput(...begin(0, 160, 60), ...begin(1, 480, 120));
      const heard = [await kiosk.touchscreen.next()];
      qmp.sendInput(touching('end', 0));
      heard.push(await kiosk.touchscreen.next());
      qmp.sendInput(touching('end', 1));
      heard.push(await kiosk.touchscreen.next());
      const down = (slot: number, x: number, y: number) => [
        abs(ABS.MT_TRACKING_ID, slot),
        abs(ABS.MT_TOOL_TYPE, MT_TOOL.FINGER),
        abs(ABS.MT_POSITION_X, axis(x, WIDTH)),
        abs(ABS.MT_POSITION_Y, axis(y, HEIGHT)),
      ];
      expect(heard).toEqual([
        [...down(0, 160, 60), abs(ABS.MT_SLOT, 1), ...down(1, 480, 120), key(BTN.TOUCH, 1)],
        [abs(ABS.MT_SLOT, 0), abs(ABS.MT_TRACKING_ID, UP)],
        [abs(ABS.MT_SLOT, 1), abs(ABS.MT_TRACKING_ID, UP), key(BTN.TOUCH, 0)],
      ]);
    });

    test('a mouse that is plugged in moves the pointer, and turns its wheel by parts of a notch', async () => {
      using mouse = new Uinput({
        name: 'a mouse',
        keys: [BTN.LEFT, BTN.RIGHT],
        rels: [REL.X, REL.Y, REL.WHEEL, REL.WHEEL_HI_RES],
      });
      await kiosk.run.logged(`input: a mouse (${mouse.sysName})`);
      mouse.emit([EV.REL, REL.X, 5]);
      const [moved] = await kiosk.keyboard.next();
      expect(moved).toMatch(new RegExp(`^${EV.ABS} ${ABS.X} `));
      expect(Number(moved!.split(' ')[2])).toBeGreaterThan(axis(320, WIDTH));
      mouse.emit([EV.REL, REL.WHEEL, -1], [EV.REL, REL.WHEEL_HI_RES, -120]);
      mouse.emit([EV.REL, REL.WHEEL_HI_RES, -30]);
      expect([await kiosk.keyboard.next(), await kiosk.keyboard.next()]).toEqual([
        [rel(REL.WHEEL, -1), rel(REL.WHEEL_HI_RES, -120)],
        [rel(REL.WHEEL_HI_RES, -30)],
      ]);
    });

    test('the guest switches LEDs, also of a keyboard that is plugged in later', async () => {
      const options = {
        name: 'a keyboard',
        keys: [KEY.ESC, KEY.A, KEY.B, KEY.ENTER, KEY.SPACE],
        leds: [LED.NUML, LED.CAPSL],
      };
      using keyboard = new Uinput(options);
      await kiosk.run.logged(`input: a keyboard (${keyboard.sysName})`);
      await kiosk.keyboard.setLed(LED.CAPSL, true);
      await expectSettled(() => keyboard.nextOutput(), [EV.LED, LED.CAPSL, 1]);
      using second = new Uinput({ ...options, name: 'a second keyboard' });
      await expectSettled(() => second.nextOutput(), [EV.LED, LED.CAPSL, 1]);
      await kiosk.keyboard.setLed(LED.CAPSL, false);
      await expectSettled(() => keyboard.nextOutput(), [EV.LED, LED.CAPSL, 0]);
    });

    test('keys of a keyboard that is unplugged are released, but for one that another keyboard holds', async () => {
      using keyboard = new Uinput({ name: 'a third keyboard', keys: [KEY.ESC, KEY.A, KEY.B, KEY.ENTER] });
      await kiosk.run.logged(`input: a third keyboard (${keyboard.sysName})`);
      keyboard.emit([EV.KEY, KEY.A, 1]);
      keyboard.emit([EV.KEY, KEY.B, 1]);
      expect([await kiosk.keyboard.next(), await kiosk.keyboard.next()]).toEqual([[key(KEY.A, 1)], [key(KEY.B, 1)]]);
      press('b', true);
      // The kiosk has it once this has arrived.
      press('c', true);
      expect(await kiosk.keyboard.next()).toEqual([key(KEY.C, 1)]);
      keyboard[Symbol.dispose]();
      expect(await kiosk.keyboard.next()).toEqual([key(KEY.A, 0)]);
      press('b', false);
      press('c', false);
      expect([await kiosk.keyboard.next(), await kiosk.keyboard.next()]).toEqual([[key(KEY.B, 0)], [key(KEY.C, 0)]]);
    });

    test('Ctrl+Alt+F2 shows another terminal: the guest holds nothing then, and is operated again afterwards', async () => {
      const other = terminal === 'tty2' ? 'tty3' : 'tty2';
      const chord = ['ctrl', 'alt', other.replace('tty', 'f')];
      for (const qcode of chord) press(qcode, true);
      const heard: string[] = [];
      // In one group, or in two if the devices are revoked before the bridge is told to leave the terminal.
      while (heard.length < 4) heard.push(...(await kiosk.keyboard.next()));
      expect(heard).toEqual([key(KEY.LEFTCTRL, 1), key(KEY.LEFTALT, 1), key(KEY.LEFTCTRL, 0), key(KEY.LEFTALT, 0)]);
      await expectSettled(terminalInFront, other);
      for (const qcode of chord) press(qcode, false);
      using prompt = new Prompt(other);
      type('h', 'o', 'ret');
      await expectSettled(prompt.line, 'ho\n');

      press('x', true);
      await switchTo(terminal);
      await kiosk.run.logged('input: QEMU Virtio Keyboard', 2);
      press('x', false);
      type('a');
      expect([await kiosk.keyboard.next(), await kiosk.keyboard.next()]).toEqual([[key(KEY.A, 1)], [key(KEY.A, 0)]]);
      using crc = new CrtcCrc(vkmsCard()!);
      await crc.until(checksum(pictures.one.onScreen(WIDTH, HEIGHT)));
    });

    test(
      `a touchscreen that is plugged in and out ${PLUG_CYCLES} times leaves nothing behind`,
      async () => {
        const heard = async (event: string): Promise<void> => {
          while (!(await kiosk.touchscreen.next()).includes(event));
        };
        const plug = async (): Promise<void> => {
          using device = new Uinput({
            name: 'a touchscreen',
            keys: [BTN.TOUCH],
            axes: {
              [ABS.X]: 1000,
              [ABS.Y]: 1000,
              [ABS.MT_SLOT]: 1,
              [ABS.MT_POSITION_X]: 1000,
              [ABS.MT_POSITION_Y]: 1000,
              [ABS.MT_TRACKING_ID]: 9,
            },
            properties: [INPUT_PROP_DIRECT],
          });
          const node = `/dev/input/${device.sysName}`;
          const touch = (id: number): void =>
            device.emit(
              [EV.ABS, ABS.MT_TRACKING_ID, id],
              [EV.ABS, ABS.MT_POSITION_X, 500],
              [EV.ABS, ABS.MT_POSITION_Y, 250],
              [EV.KEY, BTN.TOUCH, 1],
            );
          // Lines of the log are limited: look for its descriptor.
          await expectSettled(() => [...openFds(kiosk.run.pid).values()].includes(node), true);
          // What is touched while libinput asks the device for its state is not reported: tap until that has come to an end.
          const tapped = heard(key(BTN.TOUCH, 0));
          for (let id = 1, isHeard = false; !isHeard; id++) {
            touch(id);
            device.emit([EV.ABS, ABS.MT_TRACKING_ID, UP], [EV.KEY, BTN.TOUCH, 0]);
            isHeard = await Promise.race([tapped.then(() => true), setTimeout(TAP_MS, false)]);
          }
          touch(0);
          await heard(key(BTN.TOUCH, 1));
          device[Symbol.dispose]();
          await heard(key(BTN.TOUCH, 0));
          await expectSettled(() => [...openFds(kiosk.run.pid).values()].some((file) => file.startsWith(node)), false);
        };
        await plug();
        const before = openFds(kiosk.run.pid).size;
        for (let cycle = 0; cycle < PLUG_CYCLES; cycle++) await plug();
        await expectSettled(() => openFds(kiosk.run.pid).size, before);
      },
      60_000 + PLUG_CYCLES * PLUG_LIMIT_MS,
    );

    test('the quit keys end it, and the virtual terminal has its keyboard again', async () => {
      const exited = kiosk.run.exited();
      for (const qcode of ['ctrl', 'alt', 'backspace']) press(qcode, true);
      expect(await exited).toBe(0);
      for (const qcode of ['ctrl', 'alt', 'backspace']) press(qcode, false);
      expect(kiosk.run.log).toContain('exiting: the quit keys were pressed');
      await expectSettled(() => keyboardMode(terminal) === K_OFF, false);
      using prompt = new Prompt(terminal);
      type('y', 'o', 'ret');
      await expectSettled(prompt.line, 'yo\n');
    });
  });

  test('without a seat manager it opens devices itself, turns monitors off without input, and gives the terminal its keyboard back', async () => {
    const connector = readdirSync('/sys/class/drm').find((name) =>
      name.startsWith(`${basename(vkmsCard()!)}-Virtual-`),
    )!;
    const isOn = () => readFileSync(`/sys/class/drm/${connector}/enabled`, 'latin1').trim() === 'enabled';
    const before = keyboardMode(terminalInFront());
    await using kiosk = await Kiosk.start(directory, pictures, '--idle-off', '5');
    await expectSettled(isOn, false);
    type('a');
    await expectSettled(isOn, true);
    const heard = kiosk.keyboard.next();
    // On a busy machine they may be off again.
    do type('b');
    while (!(await Promise.race([heard.then(() => true), setTimeout(TAP_MS, false)])));
    expect(await heard).toEqual([key(KEY.B, 1)]);
    await kiosk.run.end('SIGTERM');
    expect(keyboardMode(terminalInFront())).toBe(before);
  });

  test('without a seat manager Ctrl+Alt+F2 gives the card up for another terminal, and so does a switch by others', async () => {
    const own = terminalInFront();
    const other = own === 'tty2' ? 'tty3' : 'tty2';
    const card = vkmsCard()!;
    await using kiosk = await Kiosk.start(directory, pictures);
    const shown = checksum(pictures.one.onScreen(WIDTH, HEIGHT));
    using crc = new CrtcCrc(card);
    await crc.until(shown);
    const resumed = `${basename(card)}: resumed`;
    const chord = ['ctrl', 'alt', other.replace('tty', 'f')];
    for (const qcode of chord) press(qcode, true);
    const heard: string[] = [];
    while (heard.length < 4) heard.push(...(await kiosk.keyboard.next()));
    expect(heard.slice(2)).toEqual([key(KEY.LEFTCTRL, 0), key(KEY.LEFTALT, 0)]);
    await expectSettled(terminalInFront, other);
    for (const qcode of chord) press(qcode, false);
    // Another program can be its master.
    KmsDevice.open(card)[Symbol.dispose]();
    using prompt = new Prompt(other);
    type('h', 'o', 'ret');
    await expectSettled(prompt.line, 'ho\n');

    await switchTo(own);
    await kiosk.run.logged(resumed);
    await crc.until(shown);
    await kiosk.run.logged('input: QEMU Virtio Keyboard', 2);
    type('a');
    expect([await kiosk.keyboard.next(), await kiosk.keyboard.next()]).toEqual([[key(KEY.A, 1)], [key(KEY.A, 0)]]);

    await switchTo(other);
    await kiosk.run.logged(`${basename(card)}: paused`, 2);
    await switchTo(own);
    await kiosk.run.logged(resumed, 2);
    await crc.until(shown);
    expect(keyboardMode(own)).toBe(K_OFF);
    await kiosk.run.end('SIGTERM');
    expect(keyboardMode(own)).not.toBe(K_OFF);
  });

  describe('without a seat manager, with --cursor draw', () => {
    let kiosk: Kiosk;
    let prompt: Prompt;
    let terminal: string;
    let mode: number;

    beforeAll(async () => {
      terminal = terminalInFront();
      mode = keyboardMode(terminal);
      prompt = new Prompt(terminal);
      kiosk = await Kiosk.start(directory, pictures, '--cursor', 'draw');
    });
    afterAll(async () => {
      using _prompt = prompt;
      await kiosk[Symbol.asyncDispose]();
    });

    test('shows an arrow where the tablet points, also beyond an edge', async () => {
      using crc = new CrtcCrc(vkmsCard()!);
      await crc.until(checksum(pictures.one.onScreen(WIDTH, HEIGHT)));
      // Where the tablet was not before: the kernel reports no position twice.
      for (const [x, y] of [
        [300, 100],
        [WIDTH - 4, HEIGHT - 2],
      ] as const) {
        qmp.sendInput(...tabletAt(x, y));
        await kiosk.keyboard.next();
        await crc.until(checksum(withArrow(pictures.one.onScreen(WIDTH, HEIGHT), x, y)));
      }
    });

    test('the terminal gets nothing of what is typed, and has its keyboard again after SIGKILL', async () => {
      expect(keyboardMode(terminal)).toBe(K_OFF);
      type('a', 'ret');
      const heard = [];
      for (let i = 0; i < 4; i++) heard.push(await kiosk.keyboard.next());
      expect(heard).toEqual([[key(KEY.A, 1)], [key(KEY.A, 0)], [key(KEY.ENTER, 1)], [key(KEY.ENTER, 0)]]);
      expect(kiosk.run.log).toMatch(/sandbox: .*system calls filtered, files limited/);
      await kiosk.run.end('SIGKILL');
      await expectSettled(() => keyboardMode(terminal), mode);
      expect(prompt.line()).toBe('');
    });
  });
});
