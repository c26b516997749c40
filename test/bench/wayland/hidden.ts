import { setTimeout } from 'node:timers/promises';
import { Sway } from '../../rig/sway.ts';
import { alternate, type Measurement } from '../benchmark.ts';
import { FlippingBridge } from '../flipping-bridge.ts';

const SIZE = { width: 1280, height: 800 };
const ROUNDS = 5;
const SAMPLE_MS = 5000;
/** In a sample: more than a guest is allowed whose window is hidden, and far less than one that is seen. */
const MAX_FLIPS = 100;

/** A window that sway keeps out of sight, while its guest flips as fast as it may and while it is still. */
export async function hidden(progress: (text: string) => void): Promise<Measurement[]> {
  await using sway = await Sway.start(SIZE.width, SIZE.height, 'for_window [title=".*"] move scratchpad');
  await using bridge = await FlippingBridge.open({ output: `wayland:${sway.socket}`, size: SIZE });
  /** Milliseconds of processor time a second, while `work` runs. */
  const cpu = async (work: () => Promise<unknown>): Promise<number> => {
    const started = performance.now();
    const before = bridge.cpuMs;
    await work();
    return ((bridge.cpuMs - before) * 1000) / (performance.now() - started);
  };
  const flipping = async (): Promise<void> => {
    let flips = 0;
    for (const end = performance.now() + SAMPLE_MS; performance.now() < end; flips++) await bridge.flipper.flip();
    if (flips > MAX_FLIPS) throw new Error(`${flips} flips in ${SAMPLE_MS} ms: the window is not hidden`);
  };
  await bridge.flipper.flip();
  progress('taking turns');
  const { ours, peer } = await alternate(
    ROUNDS,
    () => cpu(flipping),
    () => cpu(() => setTimeout(SAMPLE_MS)),
  );
  const row = { unit: 'ms/s', better: 'less', peer: null, goal: null } as const;
  return [
    { ...row, name: 'wayland-hidden/CPU, a guest that flips', ours },
    { ...row, name: 'wayland-hidden/CPU, a guest that is still', ours: peer },
  ];
}
