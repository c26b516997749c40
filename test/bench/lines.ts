import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

/** Returns a function that resolves with the next line that a program prints. It throws if `who` has ended. */
export function lines(output: Readable, who: string): () => Promise<string> {
  const all = createInterface({ input: output })[Symbol.asyncIterator]();
  return async () => {
    const next = await all.next();
    if (next.done) throw new Error(`${who} ended early`);
    return next.value;
  };
}
