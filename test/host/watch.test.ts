/** `scanout watch` as people see it: in a terminal (tmux) and in a browser. */
import { type ChildProcess, execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import { VIRTIO_GPU_FORMAT } from '../../protocols/virtio-gpu.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { goTo, openBrowser, skipWithoutChromium } from '../rig/chromium.ts';
import { eventually } from '../rig/eventually.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { MAIN, ScanoutRun, startScanout } from '../rig/scanout-run.ts';
import { skipWithoutProgram } from '../rig/skip.ts';
import * as request from '../unit/guest/virtio-gpu/requests.ts';

const run = promisify(execFile);
const WIDTH = 64;
const HEIGHT = 48;
const RAM = 0x4000_0000;
const REPLY = 24;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-watch-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

const at = (name: string): string => join(directory, name);

/** A guest whose screen has one colour, 0xRRGGBB. */
class PlainGuest implements Disposable {
  readonly #frontEnd: FrontEnd;

  private constructor(socket: string) {
    this.#frontEnd = FrontEnd.create({
      socket: connectUnix(socket),
      memory: [{ guestAddress: RAM, size: 2 ** 20 }],
    });
  }

  static async connect(socket: string): Promise<PlainGuest> {
    const guest = new PlainGuest(socket);
    await guest.#frontEnd.connect();
    const commands = [
      request.create2d(1, WIDTH, HEIGHT, VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM),
      request.attach(1, request.contiguous(WIDTH * HEIGHT * 4, RAM)),
      request.setScanout(0, 1, 0, 0, WIDTH, HEIGHT),
    ];
    for (const command of commands) await guest.#frontEnd.request(0, command, REPLY);
    return guest;
  }

  async fill(colour: number): Promise<void> {
    const pixels = new Uint32Array(WIDTH * HEIGHT).fill(colour);
    this.#frontEnd.memory.write(RAM, new Uint8Array(pixels.buffer));
    const commands = [request.transfer(1, 0, 0, WIDTH, HEIGHT, 0), request.flush(1, 0, 0, WIDTH, HEIGHT)];
    for (const command of commands) await this.#frontEnd.request(0, command, REPLY);
  }

  [Symbol.dispose](): void {
    this.#frontEnd[Symbol.dispose]();
  }
}

/** A terminal of 80x24 in which a command runs. */
class Terminal implements AsyncDisposable {
  readonly #socket: string;

  private constructor(socket: string) {
    this.#socket = socket;
  }

  static async start(socket: string, command: string): Promise<Terminal> {
    const terminal = new Terminal(socket);
    // tmux sees that a command has ended, but not always with which exit code.
    const shell = `${command}; echo "exit code $?"; read end`;
    await terminal.#tmux('new-session', '-d', '-x', '80', '-y', '24', shell);
    return terminal;
  }

  /** With the escape sequences of colours. */
  async shown(): Promise<string> {
    return this.#tmux('capture-pane', '-e', '-p');
  }

  async type(key: string): Promise<void> {
    await this.#tmux('send-keys', key);
  }

  /** The exit code of the command; empty while it runs. */
  async exitCode(): Promise<string> {
    return /exit code (\d+)/.exec(await this.shown())?.[1] ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tmux('kill-server').catch(() => undefined);
  }

  async #tmux(...args: readonly string[]): Promise<string> {
    const env = { ...process.env, LC_ALL: 'C.UTF-8', TERM: 'xterm-256color', COLORTERM: 'truecolor' };
    return (await run('tmux', ['-S', this.#socket, '-f', '/dev/null', '-u', ...args], { env })).stdout;
  }
}

describe.skipIf(skipWithoutProgram('tmux'))('scanout watch in a terminal', () => {
  test('scanout watch: shows the picture as it changes, and what the bridge does, until q is pressed', async () => {
    await using _bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${at('gpu.sock')}`, '--control', at('control.sock')],
      ...['--output', `headless:${WIDTH}x${HEIGHT}`],
    );
    using guest = await PlainGuest.connect(at('gpu.sock'));
    await using terminal = await Terminal.start(
      at('tmux.sock'),
      `${process.execPath} ${MAIN} watch --control ${at('control.sock')}`,
    );
    for (const [colour, sequence] of [
      [0xff0000, '255;0;0'],
      [0x0080ff, '0;128;255'],
    ] as const) {
      await guest.fill(colour);
      await eventually(async () => expect(await terminal.shown()).toContain(`\x1b[38;2;${sequence}`));
    }
    await eventually(async () => {
      const shown = await terminal.shown();
      expect(shown).toContain(`scanout 0: ${WIDTH}x${HEIGHT}`);
      expect(shown).toMatch(/ headless: shadow, \d+\.\d frames\/s/);
      // Of two frames: each is measured.
      expect(shown).toMatch(/ms since the flush, median \(99 %\): staged \d/);
      expect(shown).toMatch(/looking on: \d control connections?/);
    });
    await terminal.type('q');
    await eventually(async () => expect(await terminal.exitCode()).toBe('0'));
    expect(await terminal.shown()).not.toContain('38;2;');
  });

  test('scanout watch: ends with the bridge, and gives the terminal back', async () => {
    await using bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${at('gpu.sock')}`, '--control', at('control.sock')],
      ...['--output', `headless:${WIDTH}x${HEIGHT}`],
    );
    await using terminal = await Terminal.start(
      at('tmux.sock'),
      `${process.execPath} ${MAIN} watch --control ${at('control.sock')}`,
    );
    await eventually(async () => expect(await terminal.shown()).toContain('no guest is connected'));
    expect(await bridge.end('SIGTERM')).toBe(0);
    await eventually(async () => expect(await terminal.exitCode()).not.toBe(''));
    expect(await terminal.shown()).not.toContain('looking on');
  });
});

/** Resolves with the first word that a command prints. */
async function firstWord(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout!.setEncoding('utf8');
  for await (const chunk of child.stdout!) {
    text += chunk as string;
    if (/\s/.test(text)) return text.split(/\s/)[0]!;
  }
  throw new Error(`the command ended: ${text}`);
}

describe.skipIf(skipWithoutChromium())('scanout watch --page', () => {
  test('scanout watch: its page shows the picture and what the bridge does, to a browser that has the token', async () => {
    await using _bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${at('gpu.sock')}`, '--control', at('control.sock')],
      ...['--output', `vnc:${at('vnc.sock')}`],
    );
    using guest = await PlainGuest.connect(at('gpu.sock'));
    await guest.fill(0x12_34_56);
    const watch = startScanout(['watch', '--page', '--control', at('control.sock')]);
    const url = await firstWord(watch);
    for (const path of ['/', '/status', '/page.js', '/?token=0'])
      expect((await fetch(new URL(path, url), { redirect: 'manual' })).status).toBe(401);

    await using browser = await openBrowser(600, 400);
    const { page } = browser;
    await goTo(page, url, page.locator('canvas'));
    await eventually(async () => {
      const png = await page.evaluate<string>("document.querySelector('canvas').toDataURL()");
      const { width, height, data } = decodePng(Buffer.from(png.split(',')[1]!, 'base64'));
      expect([width, height, ...data.subarray(0, 3)]).toEqual([WIDTH, HEIGHT, 0x12, 0x34, 0x56]);
    });
    await guest.fill(0x65_43_21);
    await eventually(async () => {
      const text = await page.textContent('#bridge');
      expect(text).toContain(`scanout 0: ${WIDTH}x${HEIGHT}`);
      expect(text).toMatch(/staged [\d.]+ \([\d.]+\), presented [\d.]+ \([\d.]+\), on screen [\d.]+ /);
      expect(text).toContain(`1 viewer at ${at('vnc.sock')}, one may drive`);
    });
    const closed = once(watch, 'close');
    watch.kill('SIGTERM');
    expect(await closed).toEqual([0, null]);
  });

  test('scanout watch: has no page for a bridge without VNC, and says how to get one', async () => {
    await using _bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${at('gpu.sock')}`, '--control', at('control.sock')],
      ...['--output', `headless:${WIDTH}x${HEIGHT}`],
    );
    const watch = startScanout(['watch', '--page', '--control', at('control.sock')]);
    let text = '';
    watch.stderr!.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    expect(await once(watch, 'close')).toEqual([2, null]);
    expect(text).toContain('start it with `--output vnc`');
  });
});
