import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { decodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { listening } from './listening.ts';

export interface WestonOptions {
  /** `pixman` unless told: wl_shm only. `gl` has linux-dmabuf. */
  readonly renderer?: 'pixman' | 'gl';
  /** Of the output, as windows see it: pictures of it are `scale` times that. 640x480 unless told. */
  readonly size?: readonly [width: number, height: number];
  /** Of the output, whole; 1 unless told. */
  readonly scale?: number;
  /** `kiosk` unless told: a window fills the output. On the `desktop` windows float, anywhere. */
  readonly shell?: 'kiosk' | 'desktop';
  /** The output is the first monitor of this card, in its own size (`card1`; takes a seatd), and its input devices are those of the seat. Headless unless told. */
  readonly card?: string;
  readonly extraArgs?: readonly string[];
}

const SOCKET = 'wayland-test';

/** No wait of the rig lasts longer: then it fails, with Weston's log. */
const PATIENCE_MS = 30_000;

/** True on a developer's machine without Weston, which is told what to install. Under CI=true nothing is skipped. */
export function skipWithoutWeston(): boolean {
  if (process.env.CI === 'true' || spawnSync('weston', ['--version']).status === 0) return false;
  console.warn('skipped: no weston (sh test/rig/install.sh)');
  return true;
}

/**
 * Starts a headless Weston that listens when this resolves. It is the caller's: `await using
 * weston = await startWeston()`; and it dies with this process. Anybody may take screenshots.
 */
export async function startWeston(options: WestonOptions = {}): Promise<Weston> {
  const weston = new Weston(options);
  try {
    await weston.start();
    return weston;
  } catch (error) {
    await weston[Symbol.asyncDispose]();
    throw error;
  }
}

/** A compositor, without a screen unless told; made by `startWeston`. */
export class Weston implements AsyncDisposable {
  /** XDG_RUNTIME_DIR of it and of its clients. */
  readonly runtimeDir = mkdtempSync(join(tmpdir(), 'scanout-weston-'));
  readonly socket = join(this.runtimeDir, SOCKET);
  readonly #options: WestonOptions;
  #process: ChildProcess | null = null;
  #exited: Promise<unknown> = Promise.resolve();
  #log = '';

  constructor(options: WestonOptions) {
    this.#options = options;
  }

  /** For programs that are to be its clients. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, XDG_RUNTIME_DIR: this.runtimeDir, WAYLAND_DISPLAY: SOCKET };
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  /** What it said so far, through all its lives. */
  get log(): string {
    return this.#log;
  }

  /** Starts it, again after `kill` or `stop`; resolves when it listens, at the same place. */
  async start(): Promise<void> {
    rmSync(this.socket, { force: true });
    // Under setpriv it dies with the thread that started it, however that ends.
    const weston = spawn('setpriv', ['--pdeathsig', 'KILL', 'weston', ...this.#args()], { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = weston;
    for (const stream of [weston.stdout, weston.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    this.#exited = new Promise((resolve) => weston.on('error', resolve).on('close', resolve));
    const gone = this.#exited.then(() => Promise.reject(new Error('it has ended')));
    await this.#patiently('start', listening(this.socket, gone));
  }

  /** What is on its output, in the output's pixels. */
  async screenshot(): Promise<Picture> {
    // It names the file by the second, so one directory each.
    const cwd = mkdtempSync(join(this.runtimeDir, 'screenshot-'));
    try {
      const env = { ...this.env };
      delete env.XDG_PICTURES_DIR;
      await this.#patiently('screenshot', promisify(execFile)('weston-screenshooter', { cwd, env }));
      return decodePng(readFileSync(join(cwd, readdirSync(cwd)[0]!)));
    } finally {
      rmSync(cwd, { recursive: true });
    }
  }

  /** Ends it at once, as a crash would; resolves when it is gone. */
  async kill(): Promise<void> {
    this.#process?.kill('SIGKILL');
    await this.#exited;
  }

  /** Asks it to end, as a user who logs out; resolves when it is gone. */
  async stop(): Promise<void> {
    this.#process?.kill('SIGTERM');
    await this.#patiently('stop', this.#exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.runtimeDir, { recursive: true, force: true });
  }

  #args(): string[] {
    const { renderer = 'pixman', size: [width, height] = [640, 480], scale = 1, shell = 'kiosk', card, extraArgs = [] } = this.#options;
    const screen = card === undefined ? ['--backend=headless', `--width=${width}`, `--height=${height}`, `--scale=${scale}`] : ['--backend=drm', `--drm-device=${card}`];
    return [
      ...[...screen, `--renderer=${renderer}`],
      // Without --debug only its own shell may take pictures. It never goes idle: tests may be slow.
      ...[`--shell=${shell}`, `--socket=${SOCKET}`, '--no-config', '--debug', '--idle-time=0', ...extraArgs],
    ];
  }

  async #patiently<T>(what: string, wait: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`nothing for ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
    });
    try {
      return await Promise.race([wait, tooLong]);
    } catch (error) {
      throw new Error(`weston, ${what}: ${(error as Error).message}\n${this.#log}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}
