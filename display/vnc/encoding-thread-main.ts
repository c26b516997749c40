/** The thread in which pictures are encoded, so that no frame waits for that. */
import { parentPort } from 'node:worker_threads';
import { type EncodeRequest, ViewerEncoder } from './encoder.ts';

/** To encode, or the number of a viewer that has left. */
export type ThreadMessage = EncodeRequest | number;

const encoders = new Map<number, ViewerEncoder>();
let last = Promise.resolve();

/** Sent first: everything is loaded. */
export type Ready = 'ready';

// One after the other: they share buffers, and a viewer's streams have an order.
parentPort!.on('message', (message: ThreadMessage) => {
  last = last.then(() => (typeof message === 'number' ? forget(message) : encode(message)));
});

parentPort!.postMessage('ready' satisfies Ready);

async function encode(request: EncodeRequest): Promise<void> {
  let encoder = encoders.get(request.viewer);
  if (!encoder) encoders.set(request.viewer, (encoder = new ViewerEncoder()));
  const encoded = await encoder.encode(request);
  parentPort!.postMessage(encoded, [encoded.bytes.buffer]);
}

function forget(viewer: number): void {
  encoders.get(viewer)?.close();
  encoders.delete(viewer);
}
