/** Viewers that are not ours: those of gtk-vnc and TigerVNC, and noVNC. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import { BTN, KEY } from '../../protocols/input-event-codes.ts';
import { requestStats } from '../../src/control/client.ts';
import type { BridgeStats } from '../../src/control/stats.ts';
import type { Picture } from '../../src/core/picture.ts';
import { VncOutput } from '../../display/vnc/output.ts';
import { qemuFlags } from '../../src/qemu/flags.ts';
import { launchGuest, openDisplay } from '../../src/testing/index.ts';
import { goTo, openBrowser, skipWithoutChromium } from '../rig/chromium.ts';
import { eventually } from '../rig/eventually.ts';
import { freePort } from '../rig/free-port.ts';
import { axis, groups, heard, KEYBOARD, listenToKernel, readUntil } from '../rig/guest-events.ts';
import { consoleImage, newerQemu, skipWithoutGuest } from '../rig/guest-image.ts';
import { drawnPicture, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { expectPictureSoon, readPpm } from '../rig/picture.ts';
import { Random } from '../rig/random.ts';
import { EXTENDED_DESKTOP_SIZE, RfbViewer, TIGHT, ZRLE } from '../rig/rfb-viewer.ts';
import { buildScanout, ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutProgram } from '../rig/skip.ts';
import { VncRig } from '../unit/display/vnc/rig.ts';

const run = promisify(execFile);
const FIRST_PORT = 5900;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-vnc-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

/** XRGB pixels with areas of one colour, few colours and noise. */
function drawing(width: number, height: number, seed: number): Uint32Array {
  const random = new Random(seed);
  const colours = Array.from({ length: 40 }, () => random.below(2 ** 24));
  return Uint32Array.from({ length: width * height }, (_, i) => {
    const x = i % width;
    if (x < width / 4) return random.below(2 ** 24);
    return colours[(x >> 5) % (x < width / 2 ? 3 : 40)]!;
  });
}

/** The first pixels of a picture that differ, as `x,y: is, should be`. */
function differences({ width, data }: Picture, expected: Uint32Array): string[] {
  const wrong: string[] = [];
  for (let i = 0; i < expected.length && wrong.length < 5; i++) {
    const pixel = (data[i * 4]! << 16) | (data[i * 4 + 1]! << 8) | data[i * 4 + 2]!;
    if (pixel !== expected[i])
      wrong.push(`${i % width},${Math.floor(i / width)}: ${pixel.toString(16)}, ${expected[i]!.toString(16)}`);
  }
  return wrong;
}

/** A click at 123, 45, the right arrow and a B have reached the guest. */
function expectOperated(rig: VncRig): void {
  expect(rig.input.lines).toEqual(
    expect.arrayContaining([
      'to 0 123 45',
      `button ${BTN.LEFT} down`,
      `button ${BTN.LEFT} up`,
      `key ${KEY.RIGHT} down`,
      `key ${KEY.RIGHT} up`,
      `key ${KEY.B} down`,
    ]),
  );
}

describe.skipIf(skipWithoutProgram('gvnccapture'))('VncOutput and gvnccapture', () => {
  test('VncOutput: gvnccapture gets exactly what is shown, of one size and another, and with the cursor', async () => {
    const port = await freePort('127.0.0.1');
    using rig = await VncRig.open({ address: { host: '127.0.0.1', port } });
    const capture = async (): Promise<Picture> => {
      const file = join(directory, 'capture.png');
      await run('gvnccapture', ['--quiet', `127.0.0.1:${port - FIRST_PORT}`, file], { timeout: 120_000 });
      return decodePng(readFileSync(file));
    };
    for (const [width, height] of [
      [320, 200],
      [801, 603],
    ] as const) {
      const picture = drawing(width, height, width);
      await rig.show(width, height, picture);
      const captured = await capture();
      expect([captured.width, captured.height]).toEqual([width, height]);
      expect(differences(captured, picture)).toEqual([]);
    }
    const picture = drawing(320, 200, 3);
    await rig.show(320, 200, picture);
    await rig.showCursor(0xff00ff00 | 0, 310, 10, 16);
    for (let y = 10; y < 26; y++) picture.fill(0x00ff00, y * 320 + 310, y * 320 + 320);
    expect(differences(await capture(), picture)).toEqual([]);
  });
});

/** An X server without a screen, and TigerVNC's viewer on all of it. */
class TigerViewer implements AsyncDisposable {
  readonly #display: string;
  readonly #children: ReturnType<typeof spawn>[];

  private constructor(display: string, children: ReturnType<typeof spawn>[]) {
    this.#display = display;
    this.#children = children;
  }

  static async start(port: number, width: number, height: number): Promise<TigerViewer> {
    const server = spawn('Xvfb', ['-displayfd', '3', '-screen', '0', `${width}x${height}x24`, '-nolisten', 'tcp'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    const [number] = (await once(server.stdio[3]!, 'data')) as [Buffer];
    // Without a window manager the window does not become the screen before its size is asked for.
    const options = ['-FullScreen', '-DesktopSize', `${width}x${height}`];
    const display = `:${number.toString().trim()}`;
    const viewer = spawn('xtigervncviewer', [...options, '-SecurityTypes', 'None', `127.0.0.1::${port}`], {
      env: { ...process.env, DISPLAY: display, HOME: tmpdir() },
      stdio: 'ignore',
    });
    return new TigerViewer(display, [viewer, server]);
  }

  async picture(): Promise<Picture> {
    const { stdout } = await run('import', ['-display', this.#display, '-window', 'root', 'png:-'], {
      encoding: 'buffer',
      maxBuffer: 2 ** 26,
    });
    return decodePng(stdout);
  }

  async xdotool(...args: readonly string[]): Promise<void> {
    await run('xdotool', args, { env: { ...process.env, DISPLAY: this.#display } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    }
  }
}

const lacksTiger = ['xtigervncviewer', 'Xvfb', 'import', 'xdotool'].some(skipWithoutProgram);

describe.skipIf(lacksTiger)('VncOutput and the viewer of TigerVNC', () => {
  test('VncOutput: a viewer in full screen gets a guest of its size, shows its pixels exactly, and operates it', async () => {
    const [width, height] = [640, 400];
    const port = await freePort('127.0.0.1');
    using rig = await VncRig.open({ address: { host: '127.0.0.1', port } });
    await rig.show(320, 200, drawing(320, 200, 1));
    await using viewer = await TigerViewer.start(port, width, height);

    await eventually(() => expect(rig.monitors.at(-1)).toMatchObject({ width, height }));
    const picture = drawing(width, height, 2);
    await rig.show(width, height, picture);
    await eventually(async () => expect(differences(await viewer.picture(), picture)).toEqual([]));

    await rig.showCursor(0xff00ff00 | 0, 100, 100, 16, 4);
    picture.fill(0x123456, width * 50, width * 60);
    await rig.show(width, height, picture, { x: 0, y: 50, width, height: 10 });
    await eventually(async () => expect(differences(await viewer.picture(), picture)).toEqual([]));

    await viewer.xdotool('mousemove', '123', '45', 'click', '1');
    await viewer.xdotool('key', 'Right', 'b');
    await eventually(() => expect(rig.input.lines).toContain(`key ${KEY.B} up`));
    expectOperated(rig);
  });
});

describe.skipIf(lacksTiger || skipWithoutGuest())('a real guest and the viewer of TigerVNC', () => {
  test('VncOutput: what is typed into the viewer reaches Linux, and the viewer shows every pixel of QEMU', async () => {
    const { kernel, initrd } = consoleImage();
    const port = await freePort('127.0.0.1');
    await using guest = await launchGuest({
      ...{ display: 'dbus', accel: 'tcg', memoryMiB: 192, kernel, initrd, args: ['-device', 'VGA'] },
      append: 'console=tty0 quiet loglevel=3 consoleblank=0 vt.global_cursor_default=0 mitigations=off',
    });
    using display = openDisplay({ guest });
    using vnc = await VncOutput.open({ address: { host: '127.0.0.1', port }, width: 1280, height: 800 });
    guest.bridge.show(0, vnc);
    await display.waitForText(/built-in shell/, { timeoutMs: 150_000 });
    await using viewer = await TigerViewer.start(port, 1280, 800);
    const expectSame = async (filename: string): Promise<void> => {
      await guest.qmp('screendump', { filename });
      const wanted = readPpm(readFileSync(filename));
      await eventually(async () => expect(Buffer.compare((await viewer.picture()).data, wanted.data)).toBe(0));
    };
    await expectSame(join(directory, 'before.ppm'));
    await viewer.xdotool('type', '--delay', '200', 'echo "pic"ture');
    await viewer.xdotool('key', 'Return');
    await display.waitForText(/^picture/m, { timeoutMs: 60_000 });
    await expectSame(join(directory, 'after.ppm'));
  });
});

describe.skipIf(lacksTiger || skipWithoutProgram('gvnccapture') || skipWithoutGuest(newerQemu, '/usr/bin/evtest'))(
  'scanout run --output vnc: a guest of vhost-user',
  () => {
    /** The guest's first mode is that of the output; this is that of the viewer's screen. */
    const [WIDTH, HEIGHT] = [1024, 768];
    let sockets: string;
    let port: number;
    let bridge: ScanoutRun;
    let guest: Guest;
    let viewer: TigerViewer | null = null;

    beforeAll(async () => {
      buildScanout();
      sockets = mkdtempSync(join(tmpdir(), 'scanout-vnc-guest-'));
      const at = (name: string): string => join(sockets, name);
      port = await freePort('127.0.0.1');
      bridge = await ScanoutRun.start(
        ...['--guest', `vhost-user:${at('gpu')}`, '--input', `vhost-user:${at('input')}`],
        ...['--output', `vnc:127.0.0.1:${port}`, '--control', at('control')],
      );
      const flags = qemuFlags({
        socket: 'elsewhere',
        inputs: [at('input')],
        memoryBytes: 2 ** 30,
        generic: true,
      });
      guest = await bootGuest({
        gpu: { kind: 'generic', socket: at('gpu') },
        extraQemuArgs: flags.slice(-2).flat(),
      });
    });
    afterAll(async () => {
      await viewer?.[Symbol.asyncDispose]();
      await guest[Symbol.asyncDispose]();
      await bridge[Symbol.asyncDispose]();
      rmSync(sockets, { recursive: true, force: true });
    });

    /** The mode that the guest's driver has set. */
    const mode = async (): Promise<string | undefined> =>
      /mode: "(.+?)"/.exec(await guest.run('cat /sys/kernel/debug/dri/0/state'))?.[1];

    test('shows gvnccapture exactly what it draws', async () => {
      const draw = await startDrawing(guest);
      await draw('mode 1280 800');
      await draw('pattern 5');
      const capture = async (): Promise<Picture> => {
        const file = join(directory, 'capture.png');
        await run('gvnccapture', ['--quiet', `127.0.0.1:${port - FIRST_PORT}`, file], { timeout: 120_000 });
        return decodePng(readFileSync(file));
      };
      await expectPictureSoon(capture, drawnPicture(1280, 800, 5), 'vnc-gvnccapture');
      await draw('quit');
    });

    test('gets a mode of the size of the viewer of TigerVNC, which shows exactly what it draws', async () => {
      const tiger = (viewer = await TigerViewer.start(port, WIDTH, HEIGHT));
      await eventually(async () => expect(await mode()).toBe(`${WIDTH}x${HEIGHT}`));
      const draw = await startDrawing(guest);
      await draw(`mode ${WIDTH} ${HEIGHT}`);
      const picture = (): Promise<Picture> => tiger.picture();
      await draw('flip 10 plain');
      await expectPictureSoon(picture, drawnPicture(WIDTH, HEIGHT, 10 % 3), 'vnc-tiger-flip');
      await draw('pattern 6');
      await expectPictureSoon(picture, drawnPicture(WIDTH, HEIGHT, 6), 'vnc-tiger-pattern');
      await draw('quit');
    });

    test('has in its kernel what is clicked and typed in the viewer of TigerVNC', async () => {
      const tiger = viewer!;
      await listenToKernel(guest, KEYBOARD);
      const printed: string[] = [];
      // One after the other, because a slow guest gets events that are close together as one group.
      const arrived = async (event: string) => printed.push(await guest.run(readUntil(`(${event})`, 'value 0')));
      await tiger.xdotool('mousemove', '300', '192', 'click', '1');
      await arrived('BTN_LEFT');
      await tiger.xdotool('key', 'a');
      await arrived('KEY_A');
      await tiger.xdotool('key', 'F12');
      printed.push(await heard(guest));

      expect(groups(printed.join('')).flat()).toEqual([
        ...[`EV_ABS ABS_X ${axis(300, WIDTH)}`, `EV_ABS ABS_Y ${axis(192, HEIGHT)}`],
        ...['EV_KEY BTN_LEFT 1', 'EV_KEY BTN_LEFT 0', 'EV_KEY KEY_A 1', 'EV_KEY KEY_A 0'],
      ]);
    });

    test('follows the sizes that a viewer asks for, in the mode that its driver sets', async () => {
      await viewer?.[Symbol.asyncDispose]();
      using asking = await RfbViewer.connect(
        { host: '127.0.0.1', port },
        { isShared: false, encodings: [ZRLE, EXTENDED_DESKTOP_SIZE] },
      );
      await asking.update();
      for (const [width, height] of [
        [800, 600],
        [WIDTH, HEIGHT],
      ] as const) {
        asking.setDesktopSize(width, height);
        while (asking.width !== width) await asking.update(true);
        expect(asking.height).toBe(height);
        expect(await mode()).toBe(`${width}x${height}`);
      }
    });
  },
);

describe.skipIf(skipWithoutChromium())('VncOutput and noVNC in Chromium', () => {
  test('VncOutput: its page shows the pixels exactly, follows the size, and operates the guest', async () => {
    const port = await freePort('127.0.0.1');
    using rig = await VncRig.open({ address: { host: '127.0.0.1', port }, password: 'sesame' });
    await rig.show(320, 200, drawing(320, 200, 1));
    await using browser = await openBrowser(1000, 700);
    const { page } = browser;
    const requests: string[] = [];
    page.on('request', (request) => requests.push(new URL(request.url()).host));
    await goTo(page, `http://127.0.0.1:${port}/`, page.locator('#password'));
    await page.fill('#password', 'sesame');
    await page.click('#login button');
    await page.waitForSelector('canvas');

    const expectShown = (picture: Uint32Array, width: number, height: number): Promise<void> =>
      eventually(async () => {
        const url = await page.evaluate<string>("document.querySelector('canvas').toDataURL()");
        const shown = decodePng(Buffer.from(url.split(',')[1]!, 'base64'));
        expect([shown.width, shown.height]).toEqual([width, height]);
        expect(differences(shown, picture)).toEqual([]);
      });
    await expectShown(drawing(320, 200, 1), 320, 200);

    await page.check('#follow');
    await eventually(() => expect(rig.monitors.at(-1)).toMatchObject({ width: 1000 }));
    const { width, height } = rig.monitors.at(-1)!;
    const picture = drawing(width, height, 2);
    await rig.show(width, height, picture);
    await expectShown(picture, width, height);
    await rig.showCursor(0xff00ff00 | 0, 100, 100, 16, 4);
    picture.fill(0x123456, width * 50, width * 60);
    await rig.show(width, height, picture, { x: 0, y: 50, width, height: 10 });
    await expectShown(picture, width, height);
    await eventually(async () =>
      expect(await page.evaluate("document.querySelector('canvas').style.cursor")).toMatch(/^url\(.*\) 4 4, /),
    );

    const box = (await page.locator('canvas').boundingBox())!;
    await page.mouse.click(box.x + 123, box.y + 45);
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('b');
    await eventually(() => expect(rig.input.lines).toContain(`key ${KEY.B} up`));
    expectOperated(rig);
    expect(new Set(requests)).toEqual(new Set([`127.0.0.1:${port}`]));
  });

  test('VncOutput: a page opened second watches until it takes over', async () => {
    const port = await freePort('127.0.0.1');
    using rig = await VncRig.open({ address: { host: '127.0.0.1', port } });
    await rig.show(320, 200, drawing(320, 200, 1));
    const driver = await RfbViewer.connect({ host: '127.0.0.1', port });
    await using browser = await openBrowser(600, 400);
    const { page } = browser;
    await goTo(page, `http://127.0.0.1:${port}/`, page.getByText('Connected', { exact: true }));
    await page.keyboard.press('a');
    await page.click('#drive');
    await page.getByText('operates the guest').waitFor();
    await page.keyboard.press('b');
    await eventually(() => expect(rig.input.lines).toContain(`key ${KEY.B} up`));
    expect(rig.input.lines).not.toContain(`key ${KEY.A} down`);
    expect(driver.socket.destroyed).toBe(false);
    driver[Symbol.dispose]();
  });
});

describe('scanout run --output vnc', () => {
  test('scanout run: serves viewers and browsers by TCP with a password and at a socket from inside its sandbox', async () => {
    const at = (name: string): string => join(directory, name);
    const port = await freePort('127.0.0.1');
    writeFileSync(at('password'), 'sesame\n', { mode: 0o600 });
    await using bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${at('gpu.sock')}`, '--control', at('control.sock')],
      ...['--output', `vnc:127.0.0.1:${port},password-file=${at('password')},size=320x200`],
      ...['--output', `vnc:${at('vnc.sock')}`],
    );
    const byTcp = await RfbViewer.connect({ host: '127.0.0.1', port }, { password: 'sesame', encodings: [ZRLE] });
    using bySocket = await RfbViewer.connect(at('vnc.sock'), { encodings: [TIGHT] });
    await byTcp.update();
    await bySocket.update();

    expect([byTcp.width, byTcp.height, bySocket.width, bySocket.height]).toEqual([320, 200, 1280, 800]);
    for (const path of ['', 'page.js', 'novnc/core/rfb.js'])
      expect((await fetch(`http://127.0.0.1:${port}/${path}`)).status).toBe(200);
    const { vnc, sandbox } = (await requestStats(at('control.sock'))) as BridgeStats;
    expect(sandbox.systemCalls).toBe(true);
    expect(vnc).toMatchObject([
      { address: `127.0.0.1:${port}`, viewers: 1, updates: 1 },
      { viewers: 1, updates: 1 },
    ]);
    byTcp[Symbol.dispose]();
    expect(await bridge.end('SIGTERM')).toBe(0);
    expect(readdirSync(directory)).toEqual(['password']);
  });
});
