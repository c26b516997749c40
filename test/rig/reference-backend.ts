import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listening } from './listening.ts';

export const referenceProgram = '/usr/lib/qemu/vhost-user-gpu';

export interface ReferenceBackend extends AsyncDisposable {
  /** For `bootGuest({ gpu: { kind: 'vhost-user', socket } })`, once: it serves one QEMU and ends with it. */
  readonly socket: string;
  readonly pid: number;
}

/**
 * Starts QEMU's own vhost-user GPU in C, the peer to compare with. It does not live through a
 * reboot or a QMP `stop`: it takes only one GPU socket.
 */
export async function startReferenceBackend(): Promise<ReferenceBackend> {
  const dir = mkdtempSync(join(tmpdir(), 'scanout-reference-'));
  const socket = join(dir, 'socket');
  const backend = spawn('setpriv', ['--pdeathsig', 'KILL', referenceProgram, '--socket-path', socket], { stdio: ['ignore', 'ignore', 'pipe'] });
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
    await listening(socket, ended.then(() => Promise.reject(new Error(`${referenceProgram} ended at once: ${said}`))));
    return reference;
  } catch (error) {
    await reference[Symbol.asyncDispose]();
    throw error;
  }
}
