import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { decodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { listening } from './listening.ts';
import { skipWithoutProgram } from './skip.ts';

export interface WestonOptions {
  /** Default `pixman`, which supports only wl_shm. `gl` supports linux-dmabuf. */
  readonly renderer?: 'pixman' | 'gl';
  /** Logical size of the output; screenshots are `scale` times that. Default 640x480. */
  readonly size?: readonly [width: number, height: number];
  /** Integer scale of the output; default 1. */
  readonly scale?: number;
  /** With `kiosk`, the default, a window fills the output. With `desktop`, windows float at any position. */
  readonly shell?: 'kiosk' | 'desktop';
  /** A card such as `card1`: the output is its first monitor in its own size, and input comes from the seat's devices. Needs seatd. Default: headless. */
  readonly card?: string;
  readonly extraArgs?: readonly string[];
}

const SOCKET = 'wayland-test';

/** Limit of every wait for Weston. The error of one that times out has Weston's log. */
const PATIENCE_MS = 30_000;

/** For `describe.skipIf`. */
export function skipWithoutWeston(): boolean {
  return skipWithoutProgram('weston');
}

/**
 * Starts a Weston, headless by default, which is listening when this resolves. The caller owns it:
 * `await using weston = await startWeston()`. It is killed when this process ends. Any client may
 * take screenshots.
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

/** A Weston compositor, created by `startWeston`. */
export class Weston implements AsyncDisposable {
  /** XDG_RUNTIME_DIR of Weston and its clients. */
  readonly runtimeDir = mkdtempSync(join(tmpdir(), 'scanout-weston-'));
  readonly socket = join(this.runtimeDir, SOCKET);
  readonly #options: WestonOptions;
  #process: ChildProcess | null = null;
  #exited: Promise<unknown> = Promise.resolve();
  #log = '';

  constructor(options: WestonOptions) {
    this.#options = options;
  }

  /** Environment for its clients. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, XDG_RUNTIME_DIR: this.runtimeDir, WAYLAND_DISPLAY: SOCKET };
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  /** Its output so far, including that before a restart. */
  get log(): string {
    return this.#log;
  }

  /** Starts Weston, also again after `kill` or `stop`. Resolves when it is listening at `socket`. */
  async start(): Promise<void> {
    rmSync(this.socket, { force: true });
    // setpriv has the kernel kill Weston when the thread that started it ends, for whatever reason.
    const weston = spawn('setpriv', ['--pdeathsig', 'KILL', 'weston', ...this.#args()], {
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = weston;
    for (const stream of [weston.stdout, weston.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    this.#exited = new Promise((resolve) => weston.on('error', resolve).on('close', resolve));
    const gone = this.#exited.then(() => Promise.reject(new Error('it has exited')));
    await this.#patiently('start', listening(this.socket, gone));
  }

  /** What is on its output, in physical pixels. */
  async screenshot(): Promise<Picture> {
    // The program names its file by the second, so each picture gets its own directory.
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

  /** Kills Weston, as a crash would; resolves when it has exited. */
  async kill(): Promise<void> {
    this.#process?.kill('SIGKILL');
    await this.#exited;
  }

  /** Ends Weston by SIGTERM, as when a user logs out; resolves when it has exited. */
  async stop(): Promise<void> {
    this.#process?.kill('SIGTERM');
    await this.#patiently('stop', this.#exited);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.runtimeDir, { recursive: true, force: true });
  }

  #args(): string[] {
    const {
      renderer = 'pixman',
      size: [width, height] = [640, 480],
      scale = 1,
      shell = 'kiosk',
      card,
      extraArgs = [],
    } = this.#options;
    const screen =
      card === undefined
        ? ['--backend=headless', `--width=${width}`, `--height=${height}`, `--scale=${scale}`]
        : ['--backend=drm', `--drm-device=${card}`];
    return [
      ...[...screen, `--renderer=${renderer}`],
      // Without --debug only Weston's own shell may take screenshots. It must never go idle, as tests may be slow.
      ...[`--shell=${shell}`, `--socket=${SOCKET}`, '--no-config', '--debug', '--idle-time=0', ...extraArgs],
    ];
  }

  async #patiently<T>(what: string, wait: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
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
