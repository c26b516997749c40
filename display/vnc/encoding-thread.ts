import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { isSource, packageProgram } from '../../src/sys/package-file.ts';
import type { Encoded, EncodeRequest } from './encoder.ts';
import type { Ready, ThreadMessage } from './encoding-thread-main.ts';

/** A thread that encodes pictures. It keeps no process alive. */
export class EncodingThread implements Disposable {
  /** Resolves when the thread needs no more files or programs. */
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  #isDisposed = false;

  /** Answers come in the order of the requests. After `onFailed` there are none. */
  constructor(onEncoded: (encoded: Encoded) => void, onFailed: (error: Error) => void) {
    this.#worker = startThread();
    this.ready = new Promise((resolve) => {
      this.#worker.on('message', (message: Encoded | Ready) => {
        if (message === 'ready') resolve();
        else if (!this.#isDisposed) onEncoded(message);
      });
      this.#worker.on('error', (error) => {
        resolve();
        if (!this.#isDisposed) onFailed(error);
      });
    });
    this.#worker.unref();
  }

  encode(request: EncodeRequest): void {
    this.#post(request);
  }

  /** Drops the streams of a viewer that has left. */
  forget(viewer: number): void {
    this.#post(viewer);
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    // One that is ended while it loads its modules may leave the thread that loads them.
    void this.ready.then(() => this.#worker.terminate());
  }

  #post(message: ThreadMessage): void {
    this.#worker.postMessage(message);
  }
}

function startThread(): Worker {
  const program = pathToFileURL(packageProgram('display/vnc/encoding-thread-main.ts'));
  if (!isSource) return new Worker(program);
  // Threads do not inherit the loader for TypeScript.
  const code = `import('tsx/esm/api').then(({ register }) => { register(); return import('${program.href}'); })`;
  return new Worker(code, { eval: true });
}
