import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Picture } from '../../src/core/picture.ts';
import { readPpm } from './picture.ts';

/** User id of `nobody`. Debian's sway does not run as root. */
const NOBODY = 65534;
/** For a tool that asks sway: a sway that does not answer must not hold up the whole run, which waits for the tool. */
const PATIENCE_MS = 60_000;

/** The part we read of a node in sway's tree; see GET_TREE in sway-ipc(7). */
interface Container {
  readonly name: string;
  /** Present in windows only. */
  readonly app_id?: string | null;
  readonly nodes: readonly Container[];
}

function titlesIn({ name, app_id, nodes }: Container): string[] {
  return app_id === undefined ? nodes.flatMap(titlesIn) : [name];
}

/** True if tests with sway cannot run here; prints the reason, or throws it under CI=true. */
export function skipWithoutSway(): boolean {
  const missing = swayMissing();
  if (missing === null) return false;
  if (process.env.CI === 'true') throw new Error(missing);
  console.warn(`skipped: ${missing}`);
  return true;
}

/** Null if nothing is missing. */
function swayMissing(): string | null {
  for (const tool of ['sway', 'grim']) {
    try {
      execFileSync('which', [tool], { stdio: 'ignore' });
    } catch {
      return `${tool} is not installed`;
    }
  }
  return process.getuid?.() === 0 ? null : 'starting sway as another user requires root';
}

/** A headless sway with one output, drawn by pixman. */
export class Sway implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #dir: string;
  #display = '';

  private constructor(child: ChildProcess, dir: string) {
    this.#process = child;
    this.#closed = once(child, 'close');
    this.#dir = dir;
  }

  /** Path of its Wayland socket. */
  get socket(): string {
    return join(this.#dir, this.#display);
  }

  /** `config` is added to a configuration without borders. Resolves when sway accepts clients. */
  static async start(width: number, height: number, config = ''): Promise<Sway> {
    const dir = mkdtempSync(join(tmpdir(), 'scanout-sway-'));
    chownSync(dir, NOBODY, NOBODY);
    const file = join(dir, 'config');
    writeFileSync(
      file,
      `xwayland disable\ndefault_border none\noutput * mode ${width}x${height} position 0 0\n${config}\nexec echo "display $WAYLAND_DISPLAY"\n`,
    );
    const env = {
      PATH: process.env['PATH'],
      HOME: dir,
      XDG_RUNTIME_DIR: dir,
      WLR_BACKENDS: 'headless',
      WLR_RENDERER: 'pixman',
      WLR_LIBINPUT_NO_DEVICES: '1',
    };
    // setpriv has the kernel kill sway when the thread that started it ends, for whatever reason.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'sway', '--config', file], {
      uid: NOBODY,
      gid: NOBODY,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let complaints = '';
    child.stderr.on('data', (text) => (complaints += String(text)));
    const sway = new Sway(child, dir);
    try {
      await new Promise<void>((resolve, reject) => {
        sway.#closed.then(() => reject(new Error(`sway exited: ${complaints}`)), reject);
        createInterface(child.stdout).on('line', (line) => {
          const display = /^display (.+)$/.exec(line)?.[1];
          if (display === undefined) return;
          sway.#display = display;
          resolve();
        });
      });
      return sway;
    } catch (error) {
      await sway[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the output shows, including the pointer. */
  screenshot(): Picture {
    const env = { PATH: process.env['PATH'], XDG_RUNTIME_DIR: this.#dir, WAYLAND_DISPLAY: this.socket };
    return readPpm(execFileSync('grim', ['-c', '-t', 'ppm', '-'], { env, maxBuffer: 2 ** 26, timeout: PATIENCE_MS }));
  }

  /** Titles of all open windows. */
  titles(): string[] {
    return titlesIn(JSON.parse(this.#message('--type', 'get_tree')) as Container);
  }

  /** Closes all windows, as a user would. */
  closeWindows(): void {
    this.#message('[title=".*"] kill');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill();
    await this.#closed;
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #message(...args: readonly string[]): string {
    const socket = join(
      this.#dir,
      readdirSync(this.#dir).find((name) => name.startsWith('sway-ipc.'))!,
    );
    return execFileSync('swaymsg', ['--socket', socket, '--raw', ...args], { encoding: 'utf8', timeout: PATIENCE_MS });
  }
}
