/**
 * The process of the guests that `many-guests` measures: `node many-guests-host.js FOLDER COUNT WIDTH HEIGHT` listens at
 * FOLDER/0, FOLDER/1 and so on, one guest each, prints a line, and runs until SIGTERM. What connects to FOLDER/wake-ups
 * writes the time of CLOCK_MONOTONIC in nanoseconds, 8 bytes, again and again; when it has ended, the answer is the 99th
 * percentile of how much later this process read them, in ms.
 */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Bridge, HeadlessOutput, VhostUserGuest } from '../../src/index.ts';
import { percentile } from './benchmark.ts';

const [folder = '', count, width, height] = process.argv.slice(2);

for (let i = 0; i < Number(count); i++) {
  const guest = VhostUserGuest.open({ socket: join(folder, String(i)) });
  new Bridge(guest).show(0, HeadlessOutput.open({ width: Number(width), height: Number(height) }));
}

createServer({ allowHalfOpen: true }, (socket) => {
  const late: number[] = [];
  socket.on('data', (stamps) => {
    const now = process.hrtime.bigint();
    for (let at = 0; at < stamps.length; at += 8) late.push(Number(now - stamps.readBigUInt64LE(at)) / 1e6);
  });
  socket.on('end', () => socket.end(String(percentile(late, 0.99))));
}).listen(join(folder, 'wake-ups'), () => console.log('listening'));

process.on('SIGTERM', () => process.exit());
