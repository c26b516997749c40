/** What the sandbox of `scanout run` costs a frame: each system call is checked by a filter. */
import { skipWithoutWeston, startWeston } from '../rig/weston.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';
import { FlippingBridge } from './flipping-bridge.ts';

const SIZE = { width: 640, height: 480 };
/** Of each frame, so few pixels are new that what is copied costs little. */
const DRAWN = { width: 64, height: 64 };
const WARM_UP = 3000;
const ROUNDS = 9;
const GOAL = 1.05;

/** Microseconds of processor time per flip. */
async function cpuUs(bridge: FlippingBridge, flips: number): Promise<number> {
  const before = bridge.cpuMs;
  for (let flip = 0; flip < flips; flip++) await bridge.flipper.flip();
  return ((bridge.cpuMs - before) * 1000) / flips;
}

async function compare(name: string, outputs: readonly [string, string], flips: number): Promise<Measurement> {
  const common = { size: SIZE, drawn: DRAWN };
  await using inside = await FlippingBridge.open({ ...common, output: outputs[0] });
  await using outside = await FlippingBridge.open({ ...common, output: outputs[1], args: ['--sandbox=off'] });
  await cpuUs(inside, WARM_UP);
  await cpuUs(outside, WARM_UP);
  const { ours, peer } = await alternate(
    ROUNDS,
    () => cpuUs(inside, flips),
    () => cpuUs(outside, flips),
  );
  return {
    name: `sandbox/${name}`,
    unit: 'us/flip',
    better: 'less',
    ours,
    peer: { name: '--sandbox=off', samples: peer },
    goal: GOAL,
  };
}

export const sandbox: Benchmark = {
  name: 'sandbox',
  about: 'a flip of `scanout run` in its sandbox, against --sandbox=off',
  needsQuiet: true,
  missing: () => (skipWithoutWeston() ? 'weston: sh test/rig/install.sh' : null),
  async run({ progress }) {
    progress('headless');
    const headless = `headless:${SIZE.width}x${SIZE.height}@240`;
    const first = await compare('headless', [headless, headless], 1000);
    progress('windows');
    const fast = { size: [SIZE.width, SIZE.height] as const, extraArgs: ['--refresh-rate=240000'] };
    await using a = await startWeston(fast);
    await using b = await startWeston(fast);
    return [first, await compare('windows', [`wayland:${a.socket}`, `wayland:${b.socket}`], 1000)];
  },
};
