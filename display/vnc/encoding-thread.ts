import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Encoded, EncodeRequest } from './encoder.ts';
import type { Ready, ThreadMessage } from './encoding-thread-main.ts';

const EXTENSION = extname(import.meta.url);
const MAIN = new URL(`./encoding-thread-main${EXTENSION}`, import.meta.url);

/** A thread that encodes pictures. It keeps no process alive. */
export class EncodingThread implements Disposable {
  /** Resolves when the thread needs no more files or programs. */
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  #isDisposed = false;

  /** Answers come in the order of the requests. After `onFailed` there are none. */
  constructor(onEncoded: (encoded: Encoded) => void, onFailed: (error: Error) => void) {
    this.#worker = EXTENSION === '.ts' ? fromSource() : new Worker(MAIN);
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

/** Before it is compiled, in a checkout: threads do not inherit the loader for TypeScript. */
function fromSource(): Worker {
  const code = `import('tsx/esm/api').then(({ register }) => { register(); return import('${MAIN.href}'); })`;
  return new Worker(code, { eval: true });
}
