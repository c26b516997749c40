import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { eventually } from './eventually.ts';

/** True if tests with the SPICE agent cannot run here; prints the reason, or throws it under CI=true. */
export function skipWithoutAgent(): boolean {
  const missing = ['Xvfb', 'spice-vdagentd', 'spice-vdagent', 'xclip', 'wl-copy'].filter((tool) => !isInstalled(tool));
  if (missing.length === 0) return false;
  const reason = `${missing.join(', ')}: not installed`;
  if (process.env.CI === 'true') throw new Error(reason);
  console.warn(`skipped: ${reason}`);
  return true;
}

function isInstalled(tool: string): boolean {
  try {
    execFileSync('which', [tool], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/**
 * What a guest with Xorg has of a shared clipboard: an X server, and the stock SPICE agent. Without a virtio-serial port
 * its daemon takes a socket, as QEMU's chardev is at the other end of the port.
 */
export class XAgent implements AsyncDisposable {
  readonly #children: { child: ChildProcess; closed: Promise<unknown> }[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), 'x-agent-'));
  #display = '';

  /** Where the other end of the port has to listen before `start`. */
  get port(): string {
    return join(this.#directory, 'port.sock');
  }

  /** Resolves when the agent has been started; what it announces comes later. */
  async start(): Promise<void> {
    const server = this.#run('Xvfb', ['-displayfd', '1', '-screen', '0', '640x480x24', '-nolisten', 'tcp']);
    const [number] = (await once(createInterface(server.stdout!), 'line')) as [string];
    this.#display = `:${number}`;
    const daemon = join(this.#directory, 'vdagentd.sock');
    // In the foreground, without sessions of systemd, and with a tablet that is none.
    this.#run('spice-vdagentd', ['-x', '-X', '-f', '-u', '/dev/null', '-s', this.port, '-S', daemon]);
    await eventually(() => {
      if (!existsSync(daemon)) throw new Error('spice-vdagentd does not listen');
    });
    this.#run('spice-vdagent', ['-x', '-s', this.port, '-S', daemon]);
  }

  /** A program of the guest copies this. */
  copy(type: string, data: Uint8Array): void {
    const program = this.#run('xclip', ['-quiet', '-selection', 'clipboard', '-t', type, '-i']);
    program.stdin!.end(data);
  }

  /** What a program of the guest pastes; rejects if there is nothing. */
  paste(type: string): Promise<Buffer> {
    return output('xclip', ['-selection', 'clipboard', '-t', type, '-o'], this.#env);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child, closed } of this.#children.reverse()) {
      child.kill('SIGKILL');
      await closed;
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #env(): NodeJS.ProcessEnv {
    return { PATH: process.env['PATH'], HOME: this.#directory, DISPLAY: this.#display };
  }

  #run(program: string, args: readonly string[]): ChildProcess {
    // setpriv has the kernel kill it when the thread that started it ends, for whatever reason.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], {
      env: this.#env,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    this.#children.push({ child, closed: once(child, 'close') });
    return child;
  }
}

/** What a program prints. Rejects if it fails. */
export async function output(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Buffer> {
  const options = { env, encoding: 'buffer', maxBuffer: 2 ** 26, timeout: 30_000 } as const;
  return (await promisify(execFile)(program, [...args], options)).stdout;
}
