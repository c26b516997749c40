import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';

/**
 * Runs a call that might block this thread for good. If it has not returned after half a minute, a second thread runs
 * `rescue`, JavaScript that ends it, and this rejects.
 */
export async function mustReturn(call: () => void, rescue: string): Promise<void> {
  const done = new Int32Array(new SharedArrayBuffer(4));
  const rescuer = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
    const fs = require('node:fs');
    parentPort.postMessage('ready');
    const isLate = Atomics.wait(workerData, 0, 0, 30_000) === 'timed-out';
    if (isLate) { ${rescue} }
    parentPort.postMessage(isLate);`,
    { eval: true, workerData: done },
  );
  await new Promise((resolve) => rescuer.once('message', resolve));
  const isLate = new Promise((resolve) => rescuer.once('message', resolve));
  try {
    call();
  } finally {
    Atomics.store(done, 0, 1);
    Atomics.notify(done, 0);
    expect(await isLate).toBe(false);
    await rescuer.terminate();
  }
}
