/** Input at an output, as the kernel and the libinput of a real guest receive it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BTN, LED } from '../../protocols/input-event-codes.ts';
import { qemuFlags } from '../../src/qemu/flags.ts';
import { Bridge, type InputSink, VhostUserGuest, VhostUserInput } from '../../src/index.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { axis, groups, heard, KEYBOARD, listen, listenToKernel, readUntil, TOUCHSCREEN } from '../rig/guest-events.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { resources, resourcesBefore } from '../rig/our-gpu.ts';
import { FakeOutput } from '../unit/bridge/fakes.ts';

const [WIDTH, HEIGHT] = [1024, 768];
const HERE = 0;
const [KEY_A, KEY_S, KEY_F12] = [30, 31, 88];

/** Our side of a guest: its GPU and input devices, and an output with input. */
class Desk implements Disposable {
  readonly log: string[] = [];
  readonly bridge: Bridge;
  readonly #output: FakeOutput;
  readonly #input: VhostUserInput;
  readonly #dir = mkdtempSync(join(tmpdir(), 'scanout-input-'));
  readonly #stack = new DisposableStack();

  constructor() {
    const log = (level: string, message: string) => void this.log.push(`${level}: ${message}`);
    this.#stack.defer(() => rmSync(this.#dir, { recursive: true, force: true }));
    this.#input = this.#stack.use(VhostUserInput.open({ log }));
    this.#input.serve('keyboard-pointer', join(this.#dir, 'input'));
    this.#input.serve('touch', join(this.#dir, 'touch'));
    const guest = this.#stack.use(VhostUserGuest.open({ socket: join(this.#dir, 'gpu'), log }));
    this.#output = this.#stack.use(new FakeOutput({ size: [WIDTH, HEIGHT] }));
    this.#output.onPresent = () => this.#output.vblank();
    this.bridge = this.#stack.use(new Bridge(guest, { input: this.#input.sink, log }));
    this.bridge.show(HERE, this.#output);
  }

  get input(): InputSink {
    return this.#output.screen.input!;
  }

  boot(): Promise<Guest> {
    const flags = qemuFlags({
      socket: 'elsewhere',
      inputs: [join(this.#dir, 'input'), join(this.#dir, 'touch')],
      memoryBytes: 2 ** 30,
      generic: false,
    });
    return bootGuest({
      gpu: { kind: 'vhost-user', socket: join(this.#dir, 'gpu') },
      extraQemuArgs: flags.slice(-4).flat(),
    });
  }

  /** The LEDs after their next change. */
  nextLeds(): Promise<number> {
    return new Promise((resolve) => {
      const stop = this.input.onLeds((leds) => {
        stop();
        resolve(leds);
      });
    });
  }

  tap(...codes: number[]): void {
    for (const code of codes) {
      for (const isPressed of [true, false]) {
        this.input.key(code, isPressed);
        this.input.frame();
      }
    }
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

describe.skipIf(skipWithoutGuest('/usr/bin/evtest', '/usr/bin/libinput', '/lib/systemd/systemd-udevd'))(
  'input at an output',
  () => {
    let before: ReturnType<typeof resources>;
    let desk: Desk;
    let guest: Guest;

    beforeAll(async () => {
      before = await resourcesBefore();
      desk = new Desk();
      guest = await desk.boot();
    });
    afterAll(async () => {
      await guest[Symbol.asyncDispose]();
      desk[Symbol.dispose]();
    });

    test("reaches the guest's kernel: keys, pointer, buttons and wheels", async () => {
      await listenToKernel(guest, KEYBOARD);
      desk.tap(KEY_A);
      desk.input.pointerMovedTo(HERE, 512, 192.5);
      desk.input.button(BTN.LEFT, true);
      desk.input.frame();
      desk.input.button(BTN.LEFT, false);
      desk.input.pointerMovedBy(-7, 12);
      desk.input.frame();
      desk.input.wheel('vertical', 240);
      desk.input.wheel('horizontal', 60);
      // In one frame with the wheels: without it, a slow guest would get the wheels together with whatever follows.
      desk.tap(KEY_F12);

      expect(desk.bridge.stats[0]!.picture).toBe(`${WIDTH}x${HEIGHT}`);
      expect(groups(await heard(guest))).toEqual([
        ['EV_KEY KEY_A 1'],
        ['EV_KEY KEY_A 0'],
        [`EV_ABS ABS_X ${axis(512, WIDTH)}`, `EV_ABS ABS_Y ${axis(192.5, HEIGHT)}`, 'EV_KEY BTN_LEFT 1'],
        ['EV_REL REL_X -7', 'EV_REL REL_Y 12', 'EV_KEY BTN_LEFT 0'],
        ['EV_REL REL_WHEEL -2', 'EV_REL REL_WHEEL_HI_RES -240', 'EV_REL REL_HWHEEL_HI_RES 60', 'EV_KEY KEY_F12 1'],
      ]);
    });

    test("reaches the guest's kernel: touches in their slots", async () => {
      await listenToKernel(guest, TOUCHSCREEN);
      desk.input.touchDown(HERE, 0, 256, 384);
      desk.input.touchDown(HERE, 1, 512, 96);
      desk.input.frame();
      desk.input.touchUp(1);
      desk.input.frame();
      desk.input.touchMoved(HERE, 0, 257, 384);
      desk.input.touchUp(0);
      desk.input.frame();

      const [down, ...rest] = groups(await heard(guest, 'BTN_TOUCH'));
      expect(down).toEqual([
        'EV_ABS ABS_MT_TRACKING_ID 0',
        `EV_ABS ABS_MT_POSITION_X ${axis(256, WIDTH)}`,
        `EV_ABS ABS_MT_POSITION_Y ${axis(384, HEIGHT)}`,
        'EV_ABS ABS_MT_SLOT 1',
        'EV_ABS ABS_MT_TRACKING_ID 1',
        `EV_ABS ABS_MT_POSITION_X ${axis(512, WIDTH)}`,
        `EV_ABS ABS_MT_POSITION_Y ${axis(96, HEIGHT)}`,
        'EV_KEY BTN_TOUCH 1',
      ]);
      expect(rest).toEqual([
        ['EV_ABS ABS_MT_TRACKING_ID -1'],
        [
          'EV_ABS ABS_MT_SLOT 0',
          `EV_ABS ABS_MT_POSITION_X ${axis(257, WIDTH)}`,
          'EV_ABS ABS_MT_TRACKING_ID -1',
          'EV_KEY BTN_TOUCH 0',
        ],
      ]);
    });

    test("reaches the guest's libinput, which detects the kind of each device", async () => {
      await guest.run(
        'mkdir -p /run/udev; /lib/systemd/systemd-udevd --daemon; udevadm trigger --subsystem-match=input --action=add; udevadm settle',
      );
      const devices = await guest.run('libinput list-devices');
      await listen(guest, 'libinput debug-events --show-keycodes', TOUCHSCREEN);
      desk.input.pointerMovedTo(HERE, 256, 192);
      desk.input.frame();
      desk.input.pointerMovedBy(10, -5);
      desk.input.frame();
      desk.input.wheel('vertical', 120);
      desk.input.frame();
      desk.input.touchDown(HERE, 0, 512, 384);
      desk.input.frame();
      desk.input.touchCancelled();
      desk.input.frame();
      const touched = await guest.run(readUntil('TOUCH_CANCEL', ''));
      desk.tap(KEY_A, KEY_F12);
      const said = touched + (await heard(guest, 'KEY_F12', 'released'));

      expect(devices).toMatch(new RegExp(`${KEYBOARD}\\n(.*\\n){3}Capabilities: *keyboard pointer *\\n`));
      expect(devices).toMatch(new RegExp(`${TOUCHSCREEN}\\n(.*\\n){3}Capabilities: *touch *\\n`));
      expect(said).toMatch(/POINTER_MOTION_ABSOLUTE.* 25\.00\/ ?25\.00/);
      expect(said).toMatch(/POINTER_MOTION .*\(\+10\.00\/ ?-5\.00\)/);
      expect(said).toMatch(/POINTER_SCROLL_WHEEL .*\/120\.0/);
      expect(said).toMatch(/TOUCH_DOWN .* 50\.00\/50\.00/);
      expect(said).toMatch(/KEY_A \(30\) pressed/);
    });

    test('in a paused guest releases a key that goes up, and drops keys pressed and released in the pause', async () => {
      await listenToKernel(guest, KEYBOARD);
      desk.input.key(KEY_A, true);
      desk.input.frame();
      await guest.run(readUntil('KEY_A', 'value 1'));
      await guest.qmp('stop');
      desk.input.key(KEY_A, false);
      desk.tap(KEY_S);
      await guest.qmp('cont');
      desk.tap(KEY_F12);

      expect(groups(await heard(guest))).toEqual([['EV_KEY KEY_A 0']]);
    });

    test('leaves nothing pressed in the guest after releaseAll', async () => {
      await listenToKernel(guest, KEYBOARD);
      desk.input.key(KEY_A, true);
      desk.input.button(BTN.MIDDLE, true);
      desk.input.frame();
      desk.input.releaseAll();
      desk.tap(KEY_F12);

      expect(groups(await heard(guest))).toEqual([
        ['EV_KEY KEY_A 1', 'EV_KEY BTN_MIDDLE 1'],
        ['EV_KEY KEY_A 0', 'EV_KEY BTN_MIDDLE 0'],
      ]);
    });

    test("gets the LEDs of the guest's keyboard", async () => {
      const lit = desk.nextLeds();
      await guest.run('echo 1 >$(echo /sys/class/leds/*::compose/brightness)');

      expect(await lit).toBe(1 << LED.COMPOSE);
      expect(desk.input.leds).toBe(1 << LED.COMPOSE);
    });

    test('reaches a rebooted guest, without keys held before and with all LEDs off', async () => {
      desk.input.key(KEY_S, true);
      desk.input.frame();
      await guest.reboot();
      await listenToKernel(guest, KEYBOARD);
      desk.input.key(KEY_S, false);
      desk.tap(KEY_A, KEY_F12);

      expect(groups(await heard(guest))).toEqual([['EV_KEY KEY_A 1'], ['EV_KEY KEY_A 0']]);
      expect(desk.input.leds).toBe(0);
    });

    test('reaches the next VMM on the same sockets, without any state of the previous one', async () => {
      await guest[Symbol.asyncDispose]();
      desk.tap(KEY_S);
      guest = await desk.boot();
      await listenToKernel(guest, KEYBOARD);
      desk.tap(KEY_A, KEY_F12);

      expect(groups(await heard(guest))).toEqual([['EV_KEY KEY_A 1'], ['EV_KEY KEY_A 0']]);
      await guest.powerOff();
      await guest[Symbol.asyncDispose]();
      expect(desk.log.filter((line) => !line.startsWith('info'))).toEqual([]);
      desk[Symbol.dispose]();
      expect(resources()).toEqual(before);
    });
  },
);
