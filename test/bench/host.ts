import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { bundled } from './programs.ts';

/** A bundled program of this folder in a process of its own, which prints a line when it is ready and runs until SIGTERM. */
export class Host implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** What it has printed. */
  readonly line: string;

  private constructor(child: ChildProcess, line: string) {
    this.#child = child;
    this.line = line;
  }

  static async start(program: string, ...args: readonly string[]): Promise<Host> {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, bundled(program), ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child.stdout.setEncoding('utf8');
    const gone = once(child, 'close').then(() => Promise.reject(new Error(`${program} ended`)));
    gone.catch(() => undefined);
    const [line] = (await Promise.race([once(child.stdout, 'data'), gone])) as [string];
    return new Host(child, line);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGTERM');
    await closed;
  }
}
