/** The installed command `scanout run --output wayland`: a real guest in a window of real compositors. test/kernel/wayland-seat.test.ts tests touch. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import { ScreenReader } from '../../display/picture/screen-text.ts';
import { WlPointerAxis } from '../../display/wayland/client/index.ts';
import { BTN, KEY } from '../../protocols/input-event-codes.ts';
import { qemuFlags } from '../../src/qemu/flags.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { eventually } from '../rig/eventually.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { axis, groups, heard, KEYBOARD, listenToKernel, readUntil } from '../rig/guest-events.ts';
import { type Draw, drawnPicture, isWholeText, showText, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { expectSamePicture, isSamePicture, pictureWhen } from '../rig/picture.ts';
import { buildScanout, ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutProgram } from '../rig/skip.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';
import { VirtualInput } from '../rig/virtual-input.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { output } from '../rig/x-agent.ts';
import * as request from '../unit/guest/virtio-gpu/requests.ts';

/** Size of the screen, which the window fills; the guest is told. */
const [WIDTH, HEIGHT] = [1024, 768];
const [KEY_A, KEY_F12] = [30, 88];

const isSkipped = skipWithoutGuest('/usr/bin/evtest');
if (!isSkipped) buildScanout();

describe.skipIf(isSkipped || skipWithoutWeston())('scanout run --output wayland on Weston: a guest', () => {
  let dir: string;
  let weston: Weston;
  let run: ScanoutRun;
  let guest: Guest;
  let draw: Draw;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'scanout-live-'));
    weston = await startWeston({ size: [WIDTH, HEIGHT] });
    // QEMU's own display runs beside the window: its picture is compared with the window's.
    run = await ScanoutRun.start(
      '--guest',
      `vhost-user:${join(dir, 'gpu')}`,
      '--output',
      `wayland:${weston.socket}`,
      '--output',
      'vmm',
      '--control',
      join(dir, 'control'),
      ...['--when-off', 'last'],
    );
    guest = await boot();
  });
  afterAll(async () => {
    await guest[Symbol.asyncDispose]();
    await run[Symbol.asyncDispose]();
    await weston[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  const boot = () => bootGuest({ gpu: { kind: 'vhost-user', socket: join(dir, 'gpu') } });

  async function screenShows(seed: number): Promise<void> {
    const expected = drawnPicture(WIDTH, HEIGHT, seed);
    await pictureWhen(
      () => weston.screenshot(),
      (taken) => isSamePicture(taken, expected),
    );
  }

  test('has a mode of the window’s size, and its console looks as in QEMU', async () => {
    await showText(guest);
    const expected = await pictureWhen(() => guest.screendump(), isWholeText);
    expect([expected.width, expected.height]).toEqual([WIDTH, HEIGHT]);
    expectSamePicture(await pictureWhen(() => weston.screenshot(), isWholeText), expected, 'wayland-live-text');
  });

  test('is shown pixel by pixel when it draws, changes and flips', async () => {
    draw = await startDrawing(guest);
    await draw(`mode ${WIDTH} ${HEIGHT}`);
    await screenShows(0);
    await draw('pattern 5');
    await screenShows(5);
    await draw('flip 10 plain');
    await screenShows(10 % 3);
  });

  test('keeps running without a compositor, and the next one shows its current picture', async () => {
    await weston.kill();
    await draw('pattern 6');
    await weston.start();
    await screenShows(6);
    await draw('pattern 7');
    await screenShows(7);
  });

  test('with --when-off last leaves its last picture on the window, on the next compositor too, until another guest draws', async () => {
    await guest[Symbol.asyncDispose]();
    await run.logged('front end disconnected');
    await screenShows(7);
    await weston.kill();
    await weston.start();
    await screenShows(7);

    guest = await boot();
    draw = await startDrawing(guest);
    await draw(`mode ${WIDTH} ${HEIGHT}`);
    await draw('pattern 8');
    await screenShows(8);
  });

  test('does not keep scanout from ending, which leaves nothing behind', async () => {
    expect(await run.end('SIGTERM')).toBe(0);
    expect(readdirSync(dir)).toEqual([]);
    expect(run.log).not.toMatch(/error/i);
  });
});

const isSwayMissing = skipWithoutSway();

describe.skipIf(isSkipped || isSwayMissing)('scanout run --output wayland on sway: a user', () => {
  /** Size of the guest's mode: 1024x512 on the screen, from y = 128. */
  const [GUEST_WIDTH, GUEST_HEIGHT] = [640, 320];
  const TITLE = 'a real guest';

  let dir: string;
  let sway: Sway;
  let run: ScanoutRun;
  let guest: Guest;
  let draw: Draw;
  let person: VirtualInput;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'scanout-live-'));
    const socket = (name: string) => join(dir, name);
    sway = await Sway.start(WIDTH, HEIGHT, 'seat * pointer_constraint enable');
    const inputs = ['--input', `vhost-user:${socket('input')}`, '--input', `vhost-user:${socket('touch')},kind=touch`];
    run = await ScanoutRun.start(
      '--guest',
      `vhost-user:${socket('gpu')}`,
      ...inputs,
      '--output',
      `wayland:${sway.socket}`,
      '--title',
      TITLE,
      '--control',
      socket('control'),
    );
    const devices = qemuFlags({
      socket: 'elsewhere',
      inputs: [socket('input'), socket('touch')],
      memoryBytes: 2 ** 30,
      generic: false,
    })
      .slice(-4)
      .flat();
    guest = await bootGuest({ gpu: { kind: 'vhost-user', socket: socket('gpu') }, extraQemuArgs: devices });
    draw = await startDrawing(guest);
  });
  afterAll(async () => {
    person[Symbol.dispose]();
    await guest[Symbol.asyncDispose]();
    await run[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  /** A screenshot without the pointer, taken while there is none. */
  const screen = () => Promise.resolve(sway.screenshot());

  function tap(...codes: number[]): void {
    for (const code of codes) person.keyboard.key(code, true);
    for (const code of codes.toReversed()) person.keyboard.key(code, false);
  }

  const shortcut = () => tap(KEY.LEFTCTRL, KEY.LEFTALT, KEY.G);

  /** Resolves when the window has this title: by then sway has handled all earlier requests. */
  async function titled(what: string): Promise<void> {
    while (!sway.titles().includes(`${TITLE} — ${what}`)) await person.sent();
  }

  test('sees the guest’s pixels', async () => {
    await draw(`mode ${WIDTH} ${HEIGHT}`);
    await draw('pattern 3');
    const expected = drawnPicture(WIDTH, HEIGHT, 3);
    await pictureWhen(screen, (taken) => isSamePicture(taken, expected));
    person = await VirtualInput.plug(sway.socket);
  });

  test.skipIf(skipWithoutProgram('wl-paste'))(
    'copies the guest’s picture by Ctrl+Alt+C, which a program of the desktop pastes',
    async () => {
      const env = { PATH: process.env['PATH'], WAYLAND_DISPLAY: sway.socket };
      tap(KEY.LEFTCTRL, KEY.LEFTALT, KEY.C);
      const png = await eventually(() => output('wl-paste', ['--no-newline', '--type', 'image/png'], env));
      expectSamePicture(decodePng(png), drawnPicture(WIDTH, HEIGHT, 3), 'live-copied');
    },
  );

  test('types, points, clicks and scrolls in the guest', async () => {
    await draw(`mode ${GUEST_WIDTH} ${GUEST_HEIGHT}`);
    await pictureWhen(screen, (taken) => taken.data[0] === 0 && taken.data[1] === 0 && taken.data[2] === 0);
    await listenToKernel(guest, KEYBOARD);
    const printed: string[] = [];
    // One after the other, because a slow guest gets events that are close together as one group.
    const arrived = async (event: string, value: number) =>
      printed.push(await guest.run(readUntil(`(${event})`, `value ${value}`)));
    tap(KEY_A);
    await arrived('KEY_A', 0);
    person.pointer.moveTo(512, 208, WIDTH, HEIGHT);
    await arrived('ABS_Y', axis(50, GUEST_HEIGHT));
    person.pointer.button(BTN.LEFT, true);
    await arrived('BTN_LEFT', 1);
    person.pointer.moveTo(520, 448, WIDTH, HEIGHT);
    await arrived('ABS_Y', axis(200, GUEST_HEIGHT));
    person.pointer.button(BTN.LEFT, false);
    await arrived('BTN_LEFT', 0);
    person.pointer.wheel(WlPointerAxis.vertical_scroll, 15, 1);
    await arrived('REL_WHEEL_HI_RES', -120);
    person.pointer.scroll(WlPointerAxis.vertical_scroll, -5);
    await arrived('REL_WHEEL_HI_RES', 60);
    person.pointer.wheel(WlPointerAxis.horizontal_scroll, -30, -2);
    await arrived('REL_HWHEEL_HI_RES', -240);
    tap(KEY_F12);
    printed.push(await heard(guest));

    const at = (x: number, y: number) => [
      `EV_ABS ABS_X ${axis(x, GUEST_WIDTH)}`,
      `EV_ABS ABS_Y ${axis(y, GUEST_HEIGHT)}`,
    ];
    expect(groups(printed.join(''))).toEqual([
      ['EV_KEY KEY_A 1'],
      ['EV_KEY KEY_A 0'],
      at(320, 50),
      ['EV_KEY BTN_LEFT 1'],
      at(325, 200),
      ['EV_KEY BTN_LEFT 0'],
      ['EV_REL REL_WHEEL -1', 'EV_REL REL_WHEEL_HI_RES -120'],
      ['EV_REL REL_WHEEL_HI_RES 60'],
      ['EV_REL REL_HWHEEL -2', 'EV_REL REL_HWHEEL_HI_RES -240'],
    ]);
  });

  test('grabs by the shortcut in the title, moves the guest’s pointer relatively, and ends the grab', async () => {
    await titled('Ctrl+Alt+G to grab');
    await listenToKernel(guest, KEYBOARD);
    shortcut();
    await titled('Ctrl+Alt+G to release');
    person.pointer.moveBy(-2000, 3);
    shortcut();
    await titled('Ctrl+Alt+G to grab');
    tap(KEY_F12);
    const modifiers = [
      ['EV_KEY KEY_LEFTCTRL 1'],
      ['EV_KEY KEY_LEFTALT 1'],
      ['EV_KEY KEY_LEFTCTRL 0', 'EV_KEY KEY_LEFTALT 0'],
    ];
    expect(groups(await heard(guest))).toEqual([...modifiers, ['EV_REL REL_X -2000', 'EV_REL REL_Y 3'], ...modifiers]);
  });

  test('holds no key in the guest after switching to another window', async () => {
    await listenToKernel(guest, KEYBOARD);
    person.keyboard.key(KEY_A, true);
    await person.sent();
    const other = spawn('weston-simple-shm', {
      env: { ...process.env, WAYLAND_DISPLAY: sway.socket },
      stdio: 'ignore',
    });
    const printed = await heard(guest, 'KEY_A', 'value 0');
    other.kill();
    await once(other, 'close');
    person.keyboard.key(KEY_A, false);
    expect(groups(printed)).toEqual([['EV_KEY KEY_A 1'], ['EV_KEY KEY_A 0']]);
  });

  test('holds no key in the guest after the compositor has exited', async () => {
    await titled('Ctrl+Alt+G to grab');
    await listenToKernel(guest, KEYBOARD);
    person.keyboard.key(KEY_A, true);
    await person.sent();
    await sway[Symbol.asyncDispose]();
    expect(groups(await heard(guest, 'KEY_A', 'value 0'))).toEqual([['EV_KEY KEY_A 1'], ['EV_KEY KEY_A 0']]);
  });
});

describe.skipIf(isSwayMissing)('scanout run --output wayland: the last window', () => {
  let dir: string;
  let sway: Sway;
  let run: ScanoutRun;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'scanout-last-'));
    sway = await Sway.start(WIDTH, HEIGHT, '');
    run = await ScanoutRun.start(
      ...['--guest', `vhost-user:${join(dir, 'gpu')}`, '--output', `wayland:${sway.socket}`],
      ...['--control', join(dir, 'control')],
    );
  });
  afterEach(async () => {
    await run[Symbol.asyncDispose]();
    await sway[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  test.skipIf(skipWithoutProgram('tesseract'))('says what it waits for when its guest is gone', async () => {
    const [address, bytes] = [0x4000_0000, WIDTH * HEIGHT * 4];
    const vmm = FrontEnd.create({
      socket: connectUnix(join(dir, 'gpu')),
      memory: [{ guestAddress: address, size: 2 ** 22 }],
    });
    await vmm.connect();
    vmm.memory.write(address, new Uint8Array(bytes).fill(255));
    for (const command of [
      request.create2d(1, WIDTH, HEIGHT),
      request.attach(1, request.contiguous(bytes, address)),
      request.setScanout(0, 1, 0, 0, WIDTH, HEIGHT),
      request.transfer(1, 0, 0, WIDTH, HEIGHT, 0),
      request.flush(1, 0, 0, WIDTH, HEIGHT),
    ])
      await vmm.request(0, command, 24);
    await pictureWhen(
      () => Promise.resolve(sway.screenshot()),
      ({ data }) => data.every((value) => value === 255),
    );

    vmm[Symbol.dispose]();

    const reader = await ScreenReader.open();
    await eventually(async () =>
      expect((await reader.read(sway.screenshot())).text).toMatch(/Nothing to show: no guest is connected/),
    );
  });

  test('ends the command when it is closed', async () => {
    while (sway.titles().length === 0) await setImmediate();
    const exit = run.exited();

    sway.closeWindows();

    expect(await exit).toBe(0);
  });
});
