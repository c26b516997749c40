/**
 * The installed command in a window of a Weston that has a screen and input devices of its own. QEMU has both: its
 * picture of the screen is the oracle, and what is done at its devices goes through the kernel, libinput and Weston.
 */
import { spawn, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ABS, BTN, EV, MT_TOOL, REL } from '../../protocols/input-event-codes.ts';
import { InnerQmp } from '../rig/inner-qmp.ts';
import { isSamePicture, pictureWhen } from '../rig/picture.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { openUdmabuf, ScatteredPicture } from '../rig/scattered-picture.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { InputDriver } from './input-driver.ts';
import { FakeVmm } from './kiosk-rig.ts';
import { twoHeadsCard } from './kms-rig.ts';
import { skipWithoutProgram } from './machine.ts';
import { Seatd, skipWithoutSeatd, UDEVD, Udevd } from './seat-rig.ts';

/** Of QEMU's `two-heads`. */
const [SCREEN_WIDTH, SCREEN_HEIGHT] = [640, 480];
/** Of the guest: pixel by pixel, in the middle. */
const [WIDTH, HEIGHT] = [640, 240];
const TOP = (SCREEN_HEIGHT - HEIGHT) / 2;
const AXIS = 0x8000;
const UP = -1;
const [KEY_A, KEY_B] = [30, 48];

const key = (code: number, value: number): string => `${EV.KEY} ${code} ${value}`;
const rel = (code: number, value: number): string => `${EV.REL} ${code} ${value}`;
const abs = (code: number, value: number): string => `${EV.ABS} ${code} ${value}`;
const axis = (position: number, size: number): number => Math.ceil((position * AXIS) / size);

describe.skipIf(skipWithoutSeatd() || skipWithoutProgram(UDEVD) || skipWithoutWeston())(
  'WaylandOutput on Weston on a KMS screen, with kernel input devices',
  () => {
    /** What ends it all, in reverse order. */
    const ends: (() => unknown)[] = [];
    let weston: Weston;
    let qmp: InnerQmp;
    let picture: ScatteredPicture;
    let keyboard: InputDriver;
    let touchscreen: InputDriver;

    function use<T extends Disposable | AsyncDisposable>(resource: T): T {
      ends.push(() => (Symbol.asyncDispose in resource ? resource[Symbol.asyncDispose]() : resource[Symbol.dispose]()));
      return resource;
    }

    beforeAll(async () => {
      const directory = mkdtempSync(join(tmpdir(), 'scanout-seat-'));
      ends.push(() => rmSync(directory, { recursive: true }));
      const socket = (name: string) => join(directory, name);
      use(await Udevd.start());
      execFileSync('udevadm', ['trigger', '--action=add', '--subsystem-match=drm', '--subsystem-match=input']);
      execFileSync('udevadm', ['settle']);
      use(await Seatd.start({ isVtBound: false }));
      weston = use(await startWeston({ card: basename(twoHeadsCard()!) }));
      qmp = use(new InnerQmp());
      const inputs = [
        '--input',
        `vhost-user:${socket('input')}`,
        '--input',
        `vhost-user:${socket('touch')},kind=touch`,
      ];
      use(
        await ScanoutRun.start(
          '--guest',
          `vhost-user:${socket('gpu')}`,
          ...inputs,
          '--output',
          `wayland:${weston.socket}`,
          '--control',
          socket('control'),
        ),
      );
      keyboard = use(await InputDriver.connect(socket('input')));
      touchscreen = use(await InputDriver.connect(socket('touch')));
      picture = use(new ScatteredPicture(use(openUdmabuf()), WIDTH, HEIGHT).fillNoise(1));
      const vmm = use(await FakeVmm.connect(socket('gpu')));
      await vmm.show(picture);
    });
    afterAll(async () => {
      for (const end of ends.reverse()) await end();
    });

    const point = (axis: 'x' | 'y', position: number, size: number) =>
      ({ type: 'abs', data: { axis, value: (position * AXIS) / size } }) as const;
    const move = (x: number, y: number) => qmp.sendInput(point('x', x, SCREEN_WIDTH), point('y', y, SCREEN_HEIGHT));
    const button = (button: string, down: boolean) => qmp.sendInput({ type: 'btn', data: { button, down } });
    const press = (qcode: string, down: boolean) =>
      qmp.sendInput({ type: 'key', data: { key: { type: 'qcode', data: qcode }, down } });

    const touching = (type: 'begin' | 'update' | 'end', slot: number) =>
      ({ type: 'mtt', data: { type, slot, 'tracking-id': type === 'end' ? UP : slot, axis: 'x', value: 0 } }) as const;
    const touchAt = (slot: number, axis: 'x' | 'y', position: number, size: number) =>
      ({
        type: 'mtt',
        data: { type: 'data', slot, 'tracking-id': slot, axis, value: (position * AXIS) / size },
      }) as const;
    const touch = (type: 'begin' | 'update', slot: number, x: number, y: number) => [
      touching(type, slot),
      touchAt(slot, 'x', x, SCREEN_WIDTH),
      touchAt(slot, 'y', y, SCREEN_HEIGHT),
    ];

    test('shows the guest’s pixels in the middle of the screen', async () => {
      const expected = picture.onScreen(SCREEN_WIDTH, SCREEN_HEIGHT);
      await pictureWhen(
        () => Promise.resolve(qmp.screendump('two-heads', 0)),
        (taken) => isSamePicture(taken, expected),
      );
    });

    test('touches arrive in their slots, at the guest pixels under the fingers', async () => {
      const heard: string[][] = [];
      qmp.sendInput(...touch('begin', 0, 160, TOP + 60), ...touch('begin', 1, 480, TOP + 120));
      heard.push(await touchscreen.next());
      qmp.sendInput(...touch('update', 1, 470, TOP + 180));
      heard.push(await touchscreen.next());
      qmp.sendInput(touching('end', 0));
      heard.push(await touchscreen.next());
      qmp.sendInput(touching('end', 1));
      heard.push(await touchscreen.next());

      const tool = abs(ABS.MT_TOOL_TYPE, MT_TOOL.FINGER);
      const place = (x: number, y: number) => [
        abs(ABS.MT_POSITION_X, axis(x, WIDTH)),
        abs(ABS.MT_POSITION_Y, axis(y, HEIGHT)),
      ];
      expect(heard).toEqual([
        [
          abs(ABS.MT_TRACKING_ID, 0),
          tool,
          ...place(160, 60),
          abs(ABS.MT_SLOT, 1),
          abs(ABS.MT_TRACKING_ID, 1),
          tool,
          ...place(480, 120),
          key(BTN.TOUCH, 1),
        ],
        place(470, 180),
        [abs(ABS.MT_SLOT, 0), abs(ABS.MT_TRACKING_ID, UP)],
        [abs(ABS.MT_SLOT, 1), abs(ABS.MT_TRACKING_ID, UP), key(BTN.TOUCH, 0)],
      ]);
    });

    test('pointer motion, buttons and wheel arrive', async () => {
      const heard: string[][] = [];
      move(320, TOP + 30);
      heard.push(await keyboard.next());
      button('right', true);
      heard.push(await keyboard.next());
      button('right', false);
      heard.push(await keyboard.next());
      button('wheel-down', true);
      heard.push(await keyboard.next());
      expect(heard).toEqual([
        [abs(ABS.X, axis(320, WIDTH)), abs(ABS.Y, axis(30, HEIGHT))],
        [key(BTN.RIGHT, 1)],
        [key(BTN.RIGHT, 0)],
        [rel(REL.WHEEL, -1), rel(REL.WHEEL_HI_RES, -120)],
      ]);
    });

    test('keys arrive, and are released when another window takes the focus', async () => {
      press('a', true);
      const down = await keyboard.next();
      press('a', false);
      const up = await keyboard.next();
      press('b', true);
      const held = await keyboard.next();
      const other = spawn('weston-simple-shm', { env: weston.env, stdio: 'ignore' });
      const taken = await keyboard.next();
      other.kill();
      await once(other, 'close');
      press('b', false);

      expect([down, up, held, taken]).toEqual([[key(KEY_A, 1)], [key(KEY_A, 0)], [key(KEY_B, 1)], [key(KEY_B, 0)]]);
    });
  },
);
