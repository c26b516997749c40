/** The process of two guests that `neighbours` measures: prints their sockets as JSON, and runs until SIGTERM. */
import { OurGpu } from '../rig/our-gpu.ts';

const guests = [OurGpu.open(), OurGpu.open()];
process.on('SIGTERM', () => {
  for (const guest of guests) guest[Symbol.dispose]();
  process.exit();
});
console.log(JSON.stringify(guests.map(({ socket }) => socket)));
