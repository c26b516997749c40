import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listening } from './listening.ts';

export const referenceProgram = '/usr/lib/qemu/vhost-user-gpu';

export interface ReferenceBackend extends AsyncDisposable {
  /** For one `bootGuest({ gpu: { kind: 'vhost-user', socket } })`: the backend serves one QEMU and exits with it. */
  readonly socket: string;
  readonly pid: number;
}

/**
 * Starts QEMU's own vhost-user GPU, written in C, to compare with. It does not survive a reboot or
 * a QMP `stop`, because it accepts only one GPU socket.
 */
export async function startReferenceBackend(): Promise<ReferenceBackend> {
  const dir = mkdtempSync(join(tmpdir(), 'scanout-reference-'));
  const socket = join(dir, 'socket');
  const backend = spawn('setpriv', ['--pdeathsig', 'KILL', referenceProgram, '--socket-path', socket], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  backend.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = once(backend, 'close');
  const reference = {
    socket,
    pid: backend.pid!,
    async [Symbol.asyncDispose]() {
      backend.kill('SIGKILL');
      await ended;
      rmSync(dir, { recursive: true, force: true });
    },
  };
  try {
    await listening(
      socket,
      ended.then(() => Promise.reject(new Error(`${referenceProgram} exited before it was listening: ${said}`))),
    );
    return reference;
  } catch (error) {
    await reference[Symbol.asyncDispose]();
    throw error;
  }
}
