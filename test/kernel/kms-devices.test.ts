/** The installed command on a monitor, with touchpads, pens and other devices that the kernel makes of what a test says. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ABS, BTN, EV, INPUT_PROP_DIRECT, KEY, REL } from '../../protocols/input-event-codes.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import type { InnerQmp } from '../rig/inner-qmp.ts';
import { openFds } from '../rig/process-resources.ts';
import { Random } from '../rig/random.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import {
  BTN_TOOL,
  INPUT_PROP_BUTTONPAD,
  INPUT_PROP_POINTER,
  SYN,
  Uinput,
  type UinputEvent,
  type UinputOptions,
} from '../rig/uinput.ts';
import * as request from '../unit/guest/virtio-gpu/requests.ts';
import { type Group, InputDriver } from './input-driver.ts';
import { abs, AXIS, axis, InputMachine, key, Kiosk, UP } from './input-kiosk.ts';
import { HEIGHT, type Pictures, WIDTH } from './kiosk-rig.ts';
import { connectorsOf, Plug, skipWithoutVkms, twoHeadsCard } from './kms-rig.ts';
import { expectSettled, skipWithoutProgram } from './machine.ts';
import { UDEVD } from './seat-rig.ts';

/** Positions on the devices of this file are below this. */
const RANGE = 1000;
/** A touchpad reports 80 times a second. libinput takes what moves much faster for a jump, and ignores it. */
const REPORT_MS = 12;
/** On QEMU's touchscreen, and on the guest's. It and its small multiples are none of `RANGE`. */
const TAP_AT = AXIS / 64;
const RAM = 0x4000_0000;
const REPLY = 24;

const TOUCHES = {
  [ABS.MT_SLOT]: 4,
  [ABS.MT_POSITION_X]: RANGE - 1,
  [ABS.MT_POSITION_Y]: RANGE - 1,
  [ABS.MT_TRACKING_ID]: 0xffff,
};
const POINT = { [ABS.X]: RANGE - 1, [ABS.Y]: RANGE - 1 };

const TOUCHPAD: Omit<UinputOptions, 'name'> = {
  keys: [BTN.LEFT, BTN.TOUCH, BTN_TOOL.FINGER, BTN_TOOL.DOUBLETAP],
  axes: { ...POINT, ...TOUCHES },
  properties: [INPUT_PROP_POINTER, INPUT_PROP_BUTTONPAD],
};
const TOUCHSCREEN: Omit<UinputOptions, 'name'> = {
  keys: [BTN.TOUCH],
  axes: { ...POINT, ...TOUCHES },
  properties: [INPUT_PROP_DIRECT],
};
const PEN: Omit<UinputOptions, 'name'> = {
  keys: [BTN_TOOL.PEN, BTN.TOUCH, BTN.STYLUS],
  axes: POINT,
  properties: [INPUT_PROP_DIRECT],
};
const MOUSE: Omit<UinputOptions, 'name'> = {
  keys: [BTN.LEFT, BTN.RIGHT, BTN.MIDDLE],
  rels: [REL.X, REL.Y, REL.WHEEL, REL.WHEEL_HI_RES],
};
const KEYBOARD: Omit<UinputOptions, 'name'> = { keys: [KEY.ESC, KEY.A, KEY.B, KEY.ENTER, KEY.LEFTSHIFT] };

/** A touch of slot `slot`. */
function touchAt(slot: number, x: number, y: number): UinputEvent[] {
  return [
    [EV.ABS, ABS.MT_SLOT, slot],
    [EV.ABS, ABS.MT_POSITION_X, x],
    [EV.ABS, ABS.MT_POSITION_Y, y],
  ];
}

function touchDown(slot: number, id: number, x: number, y: number): UinputEvent[] {
  const [select, ...place] = touchAt(slot, x, y);
  return [select!, [EV.ABS, ABS.MT_TRACKING_ID, id], ...place];
}

function touchUp(slot: number): UinputEvent[] {
  return [
    [EV.ABS, ABS.MT_SLOT, slot],
    [EV.ABS, ABS.MT_TRACKING_ID, UP],
  ];
}

/** What the driver is given up to the group with this event. */
async function heardUntil(driver: InputDriver, event: string): Promise<Group[]> {
  const heard: Group[] = [];
  do heard.push(await driver.next());
  while (!heard.at(-1)!.includes(event));
  return heard;
}

/** `event3` */
function sysNameOf(device: string): string {
  const root = '/sys/class/input';
  return readdirSync(root).find(
    (name) => name.startsWith('event') && readFileSync(`${root}/${name}/device/name`, 'utf8').trimEnd() === device,
  )!;
}

/** The keys and buttons that are down, and the touches, after `groups`. */
function held(groups: readonly Group[]): string[] {
  const state = new Map<string, boolean>();
  let slot = 0;
  for (const [type, code, value] of groups.flat().map((event) => event.split(' ').map(Number))) {
    if (type === EV.KEY) state.set(`key ${code}`, value !== 0);
    if (type === EV.ABS && code === ABS.MT_SLOT) slot = value!;
    if (type === EV.ABS && code === ABS.MT_TRACKING_ID) state.set(`touch ${slot}`, value !== UP);
  }
  return [...state].filter(([, isDown]) => isDown).map(([name]) => name);
}

describe.skipIf(skipWithoutVkms() || skipWithoutProgram(UDEVD))('scanout run on a monitor', () => {
  let machine: InputMachine;
  let directory: string;
  let pictures: Pictures;
  let qmp: InnerQmp;

  /** Touches QEMU's touchscreen, and lets go. */
  const tap = (x: number): void => {
    const touch = (data: Record<string, unknown>) =>
      ({ type: 'mtt', data: { slot: 0, 'tracking-id': 0, axis: 'x', value: x, ...data } }) as const;
    qmp.sendInput(touch({ type: 'begin' }), touch({ type: 'data' }), touch({ type: 'data', axis: 'y' }));
    qmp.sendInput(touch({ type: 'end', 'tracking-id': UP }));
  };

  /** Plugs a device in; resolves when the kiosk uses it. */
  async function plug(run: ScanoutRun, options: UinputOptions): Promise<Uinput> {
    const device = new Uinput(options);
    await run.logged(`input: ${options.name} (${device.sysName})`);
    return device;
  }

  const isOpen = (run: ScanoutRun, sysName: string): boolean =>
    [...openFds(run.pid).values()].includes(`/dev/input/${sysName}`);

  beforeAll(async () => {
    machine = await InputMachine.start();
    ({ directory, pictures, qmp } = machine);
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
  });

  describe('with devices that are plugged in', () => {
    let kiosk: Kiosk;

    beforeAll(async () => {
      kiosk = await Kiosk.start(directory, pictures);
    });
    afterAll(async () => {
      await kiosk[Symbol.asyncDispose]();
    });

    test('a tap on a touchpad clicks, and two fingers scroll', async () => {
      using touchpad = await plug(kiosk.run, { name: 'a touchpad', ...TOUCHPAD });
      let id = 0;
      const click = [[key(BTN.LEFT, 1)], [key(BTN.LEFT, 0)]];
      const tapPad = (): void =>
        touchpad.send(
          ...touchDown(0, ++id, 500, 300),
          ...([[EV.KEY, BTN.TOUCH, 1], [EV.KEY, BTN_TOOL.FINGER, 1], SYN] as const),
          ...touchUp(0),
          ...([[EV.KEY, BTN.TOUCH, 0], [EV.KEY, BTN_TOOL.FINGER, 0], SYN] as const),
        );
      tapPad();
      expect(await heardUntil(kiosk.keyboard, key(BTN.LEFT, 0))).toEqual(click);

      const [left, right] = [400, 500];
      touchpad.emit(
        ...touchDown(0, ++id, left, 200),
        ...touchDown(1, ++id, right, 200),
        [EV.KEY, BTN.TOUCH, 1],
        [EV.KEY, BTN_TOOL.DOUBLETAP, 1],
      );
      for (let y = 210; y <= 400; y += 10) {
        await setTimeout(REPORT_MS);
        touchpad.emit(...touchAt(0, left, y), ...touchAt(1, right, y));
      }
      touchpad.emit(...touchUp(0), ...touchUp(1), [EV.KEY, BTN.TOUCH, 0], [EV.KEY, BTN_TOOL.DOUBLETAP, 0]);
      tapPad();
      const scrolled = await heardUntil(kiosk.keyboard, key(BTN.LEFT, 0));
      expect(scrolled.splice(-2)).toEqual(click);
      expect(scrolled.length).toBeGreaterThan(0);
      // Down, as the fingers moved.
      const wheel = new RegExp(`^${EV.REL} (${REL.WHEEL}|${REL.WHEEL_HI_RES}) -\\d+$`);
      expect(scrolled.flat().filter((event) => !wheel.test(event))).toEqual([]);
    });

    test('a pen points where it is held, its tip and its button click', async () => {
      using pen = await plug(kiosk.run, { name: 'a pen', ...PEN });
      const near = (x: number, y: number): void =>
        pen.emit([EV.KEY, BTN_TOOL.PEN, 1], [EV.ABS, ABS.X, x], [EV.ABS, ABS.Y, y]);
      const away = (): void => pen.emit([EV.KEY, BTN_TOOL.PEN, 0]);
      near(250, 750);
      away();
      near(500, 250);
      for (const button of [BTN.TOUCH, BTN.STYLUS]) for (const value of [1, 0]) pen.emit([EV.KEY, button, value]);
      away();
      const at = (x: number, y: number): Group => [abs(ABS.X, axis(x, WIDTH)), abs(ABS.Y, axis(y, HEIGHT))];
      expect(await heardUntil(kiosk.keyboard, key(BTN.RIGHT, 0))).toEqual([
        at(WIDTH / 4, (HEIGHT * 3) / 4),
        at(WIDTH / 2, HEIGHT / 4),
        [key(BTN.LEFT, 1)],
        [key(BTN.LEFT, 0)],
        [key(BTN.RIGHT, 1)],
        [key(BTN.RIGHT, 0)],
      ]);
    });

    test.each([
      ['keyboard', KEYBOARD],
      ['mouse', MOUSE],
      ['touchscreen', TOUCHSCREEN],
      ['touchpad', TOUCHPAD],
      ['pen', PEN],
    ])('a %s that sends anything and is unplugged within a frame leaves nothing held', async (name, options) => {
      const heard: Group[] = [];
      for (let seed = 1; seed <= 3; seed++) {
        const random = new Random(seed);
        const { keys = [], rels = [], axes = {} } = options;
        const anything = (): UinputEvent => {
          const [kind, code, limit] = random.pick([
            ...keys.map((each) => [EV.KEY, each, 1] as const),
            ...rels.map((each) => [EV.REL, each, RANGE] as const),
            ...Object.entries(axes).map(([each, limit]) => [EV.ABS, Number(each), limit] as const),
          ]);
          // Touches end by -1.
          return [kind, code, kind === EV.ABS && random.chance(0.2) ? UP : random.below(limit + 1)];
        };
        using device = await plug(kiosk.run, { name: `wild ${name} ${seed}`, ...options });
        const { sysName } = device;
        for (let group = 0; group < 20; group++) {
          device.send(...Array.from({ length: 1 + random.below(12) }, anything), SYN);
          await setTimeout(random.below(3));
        }
        device.send(...Array.from({ length: 12 }, anything));
        device[Symbol.dispose]();
        await expectSettled(
          () => [...openFds(kiosk.run.pid).values()].some((file) => file.startsWith(`/dev/input/${sysName}`)),
          false,
        );
        machine.type('q');
        heard.push(...(await heardUntil(kiosk.keyboard, key(KEY.Q, 0))));
        // A position is not reported twice.
        tap(TAP_AT * seed);
        heard.push(...(await heardUntil(kiosk.touchscreen, abs(ABS.MT_POSITION_X, TAP_AT * seed))));
        heard.push(await kiosk.touchscreen.next());
        expect(held(heard), `seed ${seed}`).toEqual([]);
      }
    });
  });

  test.each([
    ['the one that is chosen', 'the chosen keyboard', { chosen: true, other: false, qemu: false }],
    ['all but one that is excluded', 'not:the other keyboard', { chosen: true, other: false, qemu: true }],
  ])('--input-devices: uses %s', async (_what, choice, used) => {
    using chosen = new Uinput({ name: 'the chosen keyboard', ...KEYBOARD });
    using other = new Uinput({ name: 'the other keyboard', ...KEYBOARD });
    const [nodes, qemu] = [[chosen.sysName, other.sysName], sysNameOf('QEMU Virtio Keyboard')];
    execFileSync('udevadm', ['settle']);
    await using kiosk = await Kiosk.start(directory, pictures, '--input-devices', choice);
    await kiosk.run.logged(`input: the chosen keyboard (${nodes[0]})`);
    for (const value of [1, 0]) other.emit([EV.KEY, KEY.A, value]);
    for (const value of [1, 0]) chosen.emit([EV.KEY, KEY.B, value]);
    expect(await heardUntil(kiosk.keyboard, key(KEY.B, 0))).toEqual([[key(KEY.B, 1)], [key(KEY.B, 0)]]);
    const [isChosen, isOther, isQemu] = [...nodes, qemu].map((node) => isOpen(kiosk.run, node));
    expect({ chosen: isChosen, other: isOther, qemu: isQemu }).toEqual(used);
  });

  test('two monitors: a touchscreen belongs to the one that --touch names, or to the first, and a mouse goes over their edge', async () => {
    const card = twoHeadsCard()!;
    const second = connectorsOf(card)[1]!;
    using _plug = new Plug(card, second, 'on');
    const socket = (name: string): string => join(directory, name);
    await using run = await ScanoutRun.start(
      ...['--guest', `vhost-user:${socket('gpu')}`, '--output', `kms:${card},mode=${WIDTH}x${HEIGHT}`],
      ...['--input', `vhost-user:${socket('input')}`, '--input', `vhost-user:${socket('touch')},kind=touch`],
      ...['--control', socket('control'), '--touch', `${second}=the second panel`],
    );
    using pointer = await InputDriver.connect(socket('input'));
    using guest = await InputDriver.connect(socket('touch'));
    const memory = [{ guestAddress: RAM, size: 4 * 2 ** 20 }];
    using gpu = FrontEnd.create({ socket: connectUnix(socket('gpu')), memory });
    await gpu.connect();
    const picture = { width: WIDTH, height: HEIGHT, stride: WIDTH * 4, offset: 0 };
    const commands = [
      request.createBlob(1, WIDTH * HEIGHT * 4, request.contiguous(WIDTH * HEIGHT * 4, RAM)),
      ...[0, 1].map((scanout) => request.setScanoutBlob(scanout, 1, picture)),
      request.flush(1, 0, 0, WIDTH, HEIGHT),
    ];
    for (const command of commands) await gpu.request(0, command, REPLY);

    const touched: number[] = [];
    for (const name of ['the second panel', 'another panel']) {
      using panel = await plug(run, { name, ...TOUCHSCREEN });
      panel.emit(...touchDown(0, 1, RANGE / 2, RANGE / 2), [EV.KEY, BTN.TOUCH, 1]);
      panel.emit(...touchUp(0), [EV.KEY, BTN.TOUCH, 0]);
      const [down] = await heardUntil(guest, key(BTN.TOUCH, 0));
      touched.push(Number(down!.find((event) => event.startsWith(`${EV.ABS} ${ABS.MT_POSITION_X} `))!.split(' ')[2]));
    }
    // The guest's scanouts are side by side on the axis.
    expect(touched).toEqual([axis(WIDTH * 1.5, WIDTH * 2), axis(WIDTH * 0.5, WIDTH * 2)]);

    using mouse = await plug(run, { name: 'a mouse', ...MOUSE });
    // From the middle of the first one to beyond the right edge of the second.
    for (let i = 0; i < 40; i++) mouse.emit([EV.REL, REL.X, 60]);
    mouse.emit([EV.KEY, BTN.LEFT, 1]);
    mouse.emit([EV.KEY, BTN.LEFT, 0]);
    const places = (await heardUntil(pointer, key(BTN.LEFT, 0)))
      .flat()
      .filter((event) => event.startsWith(`${EV.ABS} ${ABS.X} `))
      .map((event) => Number(event.split(' ')[2]));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places[0]).toBeGreaterThan(axis(WIDTH * 0.5, WIDTH * 2));
    expect(places.at(-1)).toBe(axis(WIDTH * 2 - 1, WIDTH * 2));
    expect(places.some((place) => place > axis(WIDTH, WIDTH * 2) && place < axis(WIDTH * 1.5, WIDTH * 2))).toBe(true);
  });
});
