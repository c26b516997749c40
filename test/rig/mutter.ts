import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { listening } from './listening.ts';
import { skipBecause } from './skip.ts';

const SOCKET = 'wayland-mutter';

/** For `describe.skipIf`. */
export function skipWithoutMutter(): boolean {
  for (const [program, ...args] of [
    ['mutter', '--version'],
    ['dbus-daemon', '--version'],
    ['/usr/bin/python3', '-c', 'import gi'],
  ])
    if (spawnSync(program!, args).status !== 0)
      return skipBecause(`${program} ${args.join(' ')} fails: run sh test/rig/install.sh as root`);
  return false;
}

/** GNOME's compositor, headless, with one monitor. It draws no title bars. */
export class Mutter implements AsyncDisposable {
  readonly #dir = mkdtempSync(join(tmpdir(), 'scanout-mutter-'));
  readonly #children: ChildProcess[] = [];
  readonly #answers: (() => void)[] = [];
  #input!: ChildProcess;
  #inputGone!: Promise<never>;
  #log = '';

  private constructor() {
    // `start` makes it.
  }

  /** Resolves when it accepts clients and input. */
  static async start(width: number, height: number): Promise<Mutter> {
    const mutter = new Mutter();
    try {
      await mutter.#start(width, height);
      return mutter;
    } catch (error) {
      await mutter[Symbol.asyncDispose]();
      throw new Error(`mutter: ${String(error)}\n${mutter.#log}`, { cause: error });
    }
  }

  /** Path of its Wayland socket. */
  get socket(): string {
    return join(this.#dir, SOCKET);
  }

  /** In screen pixels; the pointer stops at the edges of the screen. */
  move(dx: number, dy: number): Promise<void> {
    return this.#ask(`move ${dx} ${dy}`);
  }

  /** Moves to a position on the screen. */
  async moveTo(x: number, y: number): Promise<void> {
    await this.move(-100_000, -100_000);
    await this.move(x, y);
  }

  async button(code: number, isPressed: boolean): Promise<void> {
    await this.#ask(`button ${code} ${isPressed ? 1 : 0}`);
  }

  /** Presses the keys in this order, then releases them in the other. */
  async keys(...codes: number[]): Promise<void> {
    for (const code of codes) await this.#ask(`key ${code} 1`);
    for (const code of codes.reverse()) await this.#ask(`key ${code} 0`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, 'close');
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #start(width: number, height: number): Promise<void> {
    const bus = join(this.#dir, 'bus');
    const address = `unix:path=${bus}`;
    const daemon = this.#spawn('dbus-daemon', ['--session', '--nofork', '--nopidfile', `--address=${address}`]);
    await listening(bus, gone(daemon));
    const mutter = this.#spawn(
      'mutter',
      [
        ...['--headless', '--wayland', '--no-x11', `--wayland-display=${SOCKET}`],
        ...['--virtual-monitor', `${width}x${height}`],
      ],
      address,
    );
    await listening(this.socket, gone(mutter));
    this.#input = this.#spawn('/usr/bin/python3', [join(import.meta.dirname, 'mutter-input.py'), address], address);
    createInterface(this.#input.stdout!).on('line', () => this.#answers.shift()?.());
    this.#inputGone = gone(this.#input);
    await Promise.race([this.#answer(), this.#inputGone]);
    this.#inputGone.catch(() => undefined);
  }

  #ask(line: string): Promise<void> {
    this.#input.stdin!.write(`${line}\n`);
    return Promise.race([this.#answer(), this.#inputGone]);
  }

  #answer(): Promise<void> {
    return new Promise((resolve) => this.#answers.push(resolve));
  }

  #spawn(program: string, args: readonly string[], bus = ''): ChildProcess {
    const env = {
      ...{ PATH: process.env['PATH'], HOME: this.#dir, XDG_RUNTIME_DIR: this.#dir, XDG_CONFIG_HOME: this.#dir },
      ...{ DBUS_SESSION_BUS_ADDRESS: bus, GSETTINGS_BACKEND: 'memory', LIBGL_ALWAYS_SOFTWARE: '1' },
    };
    // setpriv has the kernel kill it when the thread that started it ends, for whatever reason.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { env, stdio: 'pipe' });
    child.stderr.on('data', (text) => (this.#log += String(text)));
    this.#children.push(child);
    return child;
  }
}

async function gone(child: ChildProcess): Promise<never> {
  await once(child, 'close');
  throw new Error(`${child.spawnfile} has exited`);
}
