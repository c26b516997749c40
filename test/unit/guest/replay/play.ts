import { setImmediate } from 'node:timers/promises';
import type { VirtioGpu } from '../../../../src/guest/virtio-gpu/device.ts';
import type { FrontEnd } from '../../../rig/front-end.ts';
import type { Step } from './synthetic-guest.ts';

/** Plays steps like a driver that waits for each answer. */
export async function play(frontEnd: FrontEnd, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    if (step.kind === 'write') frontEnd.memory.write(step.address, step.bytes);
    else await frontEnd.request(step.queue, step.bytes, step.responseSpace);
  }
}

/** Resolves when the device has taken `count` commands. */
export async function handled(device: VirtioGpu, count: number): Promise<void> {
  while (device.stats.commands < count) await setImmediate();
}
