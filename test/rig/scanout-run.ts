import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

const project = join(import.meta.dirname, '../..');

/** The built command. */
export const MAIN = join(project, 'dist/src/cli/main.js');

/** Builds the command, unless `npm test` has done so: other tests are starting it by now. */
export function buildScanout(): void {
  if (process.env['COMMAND_IS_BUILT'] !== 'true')
    execFileSync('npm', ['run', '-s', 'build'], { cwd: project, stdio: 'inherit' });
}

/** Starts the built command (dist/ must exist). Unit tests that run by themselves start it with tsx, which takes a minute to compile it in an emulated VM. */
export function startScanout(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** A process of the built `scanout run` (dist/ must exist). It is killed when this process ends. */
export class ScanoutRun implements AsyncDisposable {
  readonly #child: ChildProcess;
  #onLog: (() => void) | null = null;
  /** Its output on stderr so far. */
  log = '';

  private constructor(node: readonly string[], args: readonly string[]) {
    // setpriv has the kernel kill it when the thread that started it ends, for whatever reason.
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', ...node, MAIN, 'run', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.log += text;
      this.#onLog?.();
    });
  }

  /** Resolves when it is listening. */
  static start(...args: readonly string[]): Promise<ScanoutRun> {
    return ScanoutRun.startOn([process.execPath], ...args);
  }

  /** The same by another Node, or with options of Node. */
  static async startOn(node: readonly string[], ...args: readonly string[]): Promise<ScanoutRun> {
    const run = new ScanoutRun(node, args);
    const gone = once(run.#child, 'close').then(([code]) =>
      Promise.reject(new Error(`scanout exited with code ${String(code)}\n${run.log}`)),
    );
    await Promise.race([once(run.#child.stdout!, 'data'), gone]);
    gone.catch(() => undefined);
    return run;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Resolves once its log contains `text` at least `times` times. */
  async logged(text: string, times = 1): Promise<void> {
    while (this.log.split(text).length <= times) await new Promise<void>((resolve) => (this.#onLog = resolve));
  }

  /** Resolves with the exit code, or null after SIGKILL, once its pipes are closed too. Call this before it ends. */
  async exited(): Promise<number | null> {
    const [code] = (await once(this.#child, 'close')) as [number | null];
    return code;
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const exit = this.exited();
    this.#child.kill(signal);
    return exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.end('SIGKILL');
  }
}
