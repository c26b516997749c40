import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { Picture } from '../../src/core/picture.ts';

/** Prints, for each frame, where its buffer comes from, its UUID, and what is in it. */
const PROGRAM = `
import { createHash } from 'node:crypto';
import { ExportedDisplay } from 'scanout-bridge/import';
for await (const frame of await ExportedDisplay.connect(process.argv[1])) {
  const { buffer } = frame.primary ?? {};
  const pixels = frame.picture()?.data ?? '';
  console.log(JSON.stringify({ kind: buffer?.kind, uuid: buffer?.uuid, sha: createHash('sha1').update(pixels).digest('hex') }));
  frame[Symbol.dispose]();
}`;

export interface SeenFrame {
  readonly kind: string;
  readonly uuid: string;
  readonly sha: string;
}

/** A process that imports the frames of an exported display (dist/ must exist). */
export class ExportConsumer implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  constructor(path: string) {
    this.#child = spawn(process.execPath, ['--input-type=module', '--eval', PROGRAM, path], {
      cwd: join(import.meta.dirname, '../..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** The next frame that it has released. Rejects if it has ended. */
  async next(): Promise<SeenFrame> {
    const line = await this.#lines.next();
    if (line.done) throw new Error('the consumer has ended');
    return JSON.parse(line.value) as SeenFrame;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await gone;
  }
}

/** Of a frame with this picture. */
export function shaOf({ data }: Picture): string {
  return execFileSync('sha1sum', { input: data }).toString().slice(0, 40);
}
