import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { requestStats } from '../../../src/control/client.ts';
import { type SandboxState, sandboxText } from '../../../src/control/stats.ts';
import { landlockVersion } from '../../../src/sys/sandbox/landlock.ts';
import { noFilters } from '../../../src/sys/sandbox/seccomp.ts';
import { skipBecause } from '../../rig/skip.ts';
import { scanout, start } from './scanout.ts';

const PROBE = new URL('../../rig/sandbox-probe.ts', import.meta.url).href;

/** What the probe prints in a sandbox. */
const CONFINED = {
  execve: 'EPERM',
  'start a program': 'EPERM',
  ptrace: 'EPERM',
  io_uring_setup: 'ENOSYS',
  clone3: 'ENOSYS',
  'ioctl TIOCSTI': 'EPERM',
  'become dumpable': 'EPERM',
  'signal another process': 'EPERM',
  'Internet socket': 'EPERM',
  'connect by TCP': 'EPERM',
  'make a file': 'EPERM',
  'read a file outside': 'EACCES',
  'read a file outside, in another thread': 'EACCES',
  'Unix socket': 'done',
  'read a library': 'done',
  'work in the thread pool': 'done',
  'write to the pipe of a peer': 'done',
  'start a thread': 'done',
};

function missing(): string | null {
  const unfiltered = noFilters();
  if (unfiltered !== null) return unfiltered;
  try {
    landlockVersion();
    return null;
  } catch (error) {
    return String(error);
  }
}

const why = missing();
const skip = why !== null && skipBecause(`no sandbox: ${why}`);

let directory: string;
const file = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-sandbox-'));
  writeFileSync(file('secret'), 'a key');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** A bridge that listens, with its lines on stdout. */
class Bridge implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly #lines: Interface;
  #log = '';

  private constructor(child: ChildProcess) {
    this.child = child;
    this.#lines = createInterface(child.stdout!);
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
  }

  static async start(...args: readonly string[]): Promise<Bridge> {
    const env = { PROBE_SECRET: file('secret'), PROBE_FRESH: file('fresh') };
    const all = ['run', '--guest', `vhost-user:${file('gpu.sock')}`, '--control', file('control.sock'), ...args];
    const bridge = new Bridge(start(all, { env, preload: PROBE }));
    await bridge.line('listening on');
    return bridge;
  }

  async line(beginning: string): Promise<string> {
    const gone = once(this.child, 'close').then(([code]) =>
      Promise.reject(new Error(`scanout ended with ${String(code)}\n${this.#log}`)),
    );
    gone.catch(() => undefined);
    for (;;) {
      const [line] = (await Promise.race([once(this.#lines, 'line'), gone])) as [string];
      if (line.startsWith(beginning)) return line;
    }
  }

  async probe(): Promise<unknown> {
    this.child.kill('SIGUSR2');
    return JSON.parse((await this.line('probe ')).slice('probe '.length));
  }

  async sandbox(): Promise<SandboxState> {
    return ((await requestStats(file('control.sock'))) as { sandbox: SandboxState }).sandbox;
  }

  /** Resolves with the exit code after SIGTERM. Call this once it has answered: then it waits for signals. */
  async end(): Promise<number | null> {
    const closed = once(this.child, 'close');
    this.child.kill('SIGTERM');
    await closed;
    return this.child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const closed = once(this.child, 'close');
      this.child.kill('SIGKILL');
      await closed;
    }
  }
}

/** The values of a line in the status of each thread of a process. */
function ofThreads(pid: number, name: string): Set<string> {
  const values = new Set<string>();
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      const status = readFileSync(`/proc/${pid}/task/${task}/status`, 'latin1');
      values.add(new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)![1]!);
    } catch (error) {
      // The thread has ended.
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  return values;
}

describe.skipIf(skip)('the sandbox of scanout run', () => {
  test('forbids programs, other processes, the network and files, and allows what a bridge does', async () => {
    await using bridge = await Bridge.start();

    expect(await bridge.probe()).toEqual(CONFINED);
  });

  test('holds in every thread', async () => {
    await using bridge = await Bridge.start();
    await bridge.probe();

    const pid = bridge.child.pid!;
    expect(readdirSync(`/proc/${pid}/task`).length).toBeGreaterThan(1);
    expect([ofThreads(pid, 'NoNewPrivs'), ofThreads(pid, 'Seccomp')]).toEqual([new Set(['1']), new Set(['2'])]);
  });

  test('is reported by stats, as text and as JSON', async () => {
    await using bridge = await Bridge.start();
    const state = { noNewPrivileges: true, notDumpable: true, systemCalls: true, landlock: landlockVersion() };

    expect(await bridge.sandbox()).toEqual(state);
    expect((await scanout('stats', '--control', file('control.sock'))).stdout).toContain(
      `\nsandbox: no new privileges, not dumpable, system calls filtered, files limited by Landlock ${state.landlock}\n`,
    );
  });

  test('lets the bridge remove its sockets when it ends', async () => {
    await using bridge = await Bridge.start('--record', file('session.scanout'));

    await bridge.sandbox();
    expect(await bridge.end()).toBe(0);

    expect(readdirSync(directory).toSorted()).toEqual(['secret', 'session.scanout']);
  });

  test('is off with --sandbox=off', async () => {
    await using bridge = await Bridge.start('--sandbox=off');

    expect(await bridge.probe()).toMatchObject({
      'start a program': 'done',
      'Internet socket': 'done',
      'make a file': 'done',
      'read a file outside': 'done',
    });
    expect(await bridge.sandbox()).toEqual({
      noNewPrivileges: false,
      notDumpable: false,
      systemCalls: false,
      landlock: null,
    });
    expect((await scanout('stats', '--control', file('control.sock'))).stdout).toContain('\nsandbox: off\n');
  });
});

describe('sandboxText', () => {
  test('names what holds, and nothing else', () => {
    const state = { noNewPrivileges: true, notDumpable: true, systemCalls: false, landlock: null };

    expect(sandboxText(state)).toBe('no new privileges, not dumpable');
  });
});
