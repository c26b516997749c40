import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Picture } from '../../src/core/picture.ts';
import { readPpm } from './picture.ts';

/** Debian's sway does not run as root: this is `nobody`. */
const NOBODY = 65534;

/** Why tests with sway cannot run here; null if they can. */
export function swayMissing(): string | null {
  for (const tool of ['sway', 'grim']) {
    try {
      execFileSync('which', [tool], { stdio: 'ignore' });
    } catch {
      return `${tool} is not installed`;
    }
  }
  return process.getuid?.() === 0 ? null : 'sway is started as another user, which takes root';
}

/** A headless sway with one output, drawn by pixman. */
export class Sway implements AsyncDisposable {
  /** Path of its socket. */
  readonly socket: string;
  readonly #process: ChildProcess;
  readonly #dir: string;

  private constructor(child: ChildProcess, dir: string, display: string) {
    this.#process = child;
    this.#dir = dir;
    this.socket = join(dir, display);
  }

  /** `config` is added to one without borders. Resolves when it takes clients. */
  static async start(width: number, height: number, config = ''): Promise<Sway> {
    const dir = mkdtempSync(join(tmpdir(), 'scanout-sway-'));
    chownSync(dir, NOBODY, NOBODY);
    const file = join(dir, 'config');
    writeFileSync(file, `xwayland disable\ndefault_border none\noutput * mode ${width}x${height} position 0 0\n${config}\nexec echo "display $WAYLAND_DISPLAY"\n`);
    const env = { PATH: process.env['PATH'], HOME: dir, XDG_RUNTIME_DIR: dir, WLR_BACKENDS: 'headless', WLR_RENDERER: 'pixman', WLR_LIBINPUT_NO_DEVICES: '1' };
    const child = spawn('sway', ['--config', file], { uid: NOBODY, gid: NOBODY, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let complaints = '';
    child.stderr.on('data', (text) => (complaints += String(text)));
    const display = await new Promise<string>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`sway ended: ${code ?? signal}\n${complaints}`)));
      createInterface(child.stdout).on('line', (line) => {
        const match = /^display (.+)$/.exec(line);
        if (match) resolve(match[1]!);
      });
    });
    return new Sway(child, dir, display);
  }

  /** What the output shows, with the pointer. */
  screenshot(): Picture {
    const env = { PATH: process.env['PATH'], XDG_RUNTIME_DIR: this.#dir, WAYLAND_DISPLAY: this.socket };
    return readPpm(execFileSync('grim', ['-c', '-t', 'ppm', '-'], { env, maxBuffer: 2 ** 26 }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill();
    await ended;
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
