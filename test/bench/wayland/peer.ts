import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Size } from '../../../src/core/geometry.ts';

export interface PeerOptions {
  readonly kind: 'shm' | 'dmabuf';
  readonly size: Size;
  /** Size of each frame's damage, in the top left corner. */
  readonly damage: Size;
  /** Environment that names the compositor. */
  readonly env: NodeJS.ProcessEnv;
}

/** What one round of frames took: processor time per frame of all threads, and the time from flush to sendmsg. */
export interface Round {
  readonly cpuUs: number;
  readonly medianUs: number;
  readonly p99Us: number;
}

/** A process of client.c; its window is open until dispose. */
export class Peer implements Disposable {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string, undefined>;

  constructor(program: string, { kind, size, damage, env }: PeerOptions) {
    const child = spawn(program, [kind, ...[size.width, size.height, damage.width, damage.height].map(String)], {
      env,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child = child;
    this.#answers = createInterface(child.stdout)[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async frames(count: number): Promise<Round> {
    this.#child.stdin!.write(`${count}\n`);
    const answer = await this.#answers.next();
    if (answer.done === true) throw new Error('the client in C has exited');
    const [cpuUs, medianUs, p99Us] = answer.value.split(' ').map(Number);
    return { cpuUs: cpuUs! / count, medianUs: medianUs!, p99Us: p99Us! };
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
