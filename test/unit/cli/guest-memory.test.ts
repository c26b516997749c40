/** What a greedy guest can make `scanout run` allocate, as the kernel counts it. */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { VIRTIO_GPU_RESP, virtio_gpu_ctrl_hdr } from '../../../protocols/virtio-gpu.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import { FrontEnd } from '../../rig/front-end.ts';
import * as request from '../guest/virtio-gpu/requests.ts';
import { ended, start } from './scanout.ts';

const MIB = 2 ** 20;
const LIMIT_MIB = 96;
const LIMIT = LIMIT_MIB * MIB;
const RAM = { guestAddress: 2 ** 30, size: 64 * MIB };
const PAGE = 4096;
/** Pages of a list that have neighbours far away, so that no two entries become one. */
const SCATTERED = Array.from({ length: 8192 }, (_, i) => ({
  addr: RAM.guestAddress + ((i * 5) % 8192) * 2 * PAGE,
  length: PAGE,
}));

/** Bytes of a process that are its own: neither guest memory nor files. */
function ownBytes(pid: number): number {
  let bytes = 0;
  let isOwn = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$/.exec(line);
    if (mapping) isOwn = !/^\/(?!memfd:scanout)/.test(mapping[1]!) || mapping[1]!.startsWith('/dev/zero');
    else if (isOwn) bytes += 1024 * Number(/^Rss: +(\d+) kB/.exec(line)?.[1] ?? 0);
  }
  return bytes;
}

/** Each asks for one more of something, so many times. */
const greedy: Record<string, readonly [number, (id: number) => Uint8Array[]]> = {
  // Pages that are not aligned cannot stay where they are.
  'pixels of resources': [
    32,
    (id) => [
      request.create2d(id, 2048, 1024),
      request.attach(id, [{ addr: RAM.guestAddress + 8, length: 8 * MIB }]),
      request.transfer(id, 0, 0, 2048, 1024, 0),
    ],
  ],
  'lists of pages': [1500, (id) => [request.create2d(id, 64, 64), request.attach(id, SCATTERED)]],
  'lists of pages of blobs': [1500, (id) => [request.createBlob(id, SCATTERED.length * PAGE, SCATTERED)]],
  'shadows of pictures': [
    32,
    (id) => [
      request.create2d(id, 2048, 1024 + id),
      request.attach(id, [{ addr: RAM.guestAddress, length: 16 * MIB }]),
      request.setScanout(id % 16, id, 0, 0, 2048, 1024 + id),
      request.transfer(id, 0, 0, 2048, 1024 + id, 0),
      request.flush(id, 0, 0, 2048, 1024 + id),
    ],
  ],
};

test.each(Object.keys(greedy))(
  'scanout run: a guest that wants ever more %s makes it allocate no more than --max-guest-memory and a fifth',
  { timeout: 120_000 },
  async (what) => {
    const directory = mkdtempSync(join(tmpdir(), 'scanout-memory-'));
    const socket = join(directory, 'gpu.sock');
    const outputs = Array.from({ length: 16 }, () => ['--output', 'headless:1280x800']).flat();
    const child = start(['run', '--guest', `vhost-user:${socket}`, ...outputs, '--max-guest-memory', `${LIMIT_MIB}M`]);
    onTestFinished(() => {
      child.kill('SIGKILL');
      rmSync(directory, { recursive: true });
    });
    await Promise.race([
      once(child.stdout!, 'data'),
      ended(child).then(({ stderr }) => Promise.reject(new Error(stderr))),
    ]);
    using guest = FrontEnd.create({ socket: connectUnix(socket), memory: [RAM] });
    await guest.connect();
    const ask = async (message: Uint8Array): Promise<boolean> => {
      const response = await guest.request(0, message, 64);
      return virtio_gpu_ctrl_hdr.decode(response).type === VIRTIO_GPU_RESP.OK_NODATA;
    };
    // What the first of each kind costs belongs to the program.
    const [count, more] = greedy[what]!;
    for (const message of more(4096)) await ask(message);
    for (const message of [request.setScanout(0, 0, 0, 0, 0, 0), request.unref(4096)]) await ask(message);
    const before = ownBytes(child.pid!);

    let most = 0;
    for (let id = 1, refused = 0; refused < 20 && id <= count; id++) {
      for (const message of more(id)) if (!(await ask(message))) refused++;
      if (id % 32 === 0) most = Math.max(most, ownBytes(child.pid!) - before);
    }
    most = Math.max(most, ownBytes(child.pid!) - before);

    console.log(
      what,
      (most / MIB).toFixed(0),
      'MiB',
      JSON.stringify(virtio_gpu_ctrl_hdr.decode(await guest.request(0, more(9000).at(-1)!, 64)).type),
    );
    expect(most).toBeLessThan(1.2 * LIMIT);
  },
);
