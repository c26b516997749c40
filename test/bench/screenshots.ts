/** What `scanout screenshot` in a loop takes from a guest that flips. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startScanout } from '../rig/scanout-run.ts';
import type { Benchmark, BenchContext, Measurement } from './benchmark.ts';
import { FlippingBridge } from './flipping-bridge.ts';

const SIZE = { width: 1920, height: 1080 };
const WARM_UP = 600;
const ROUNDS = 5;
/** In a round: 5 seconds. */
const FLIPS = 300;

interface Round {
  readonly framesPerSecond: number;
  readonly missed: number;
  /** Of the bridge, ms a frame. */
  readonly cpu: number;
}

async function flip(bridge: FlippingBridge, flips: number): Promise<Round> {
  const started = performance.now();
  const before = bridge.cpuMs;
  const missed = await bridge.flipper.missed(flips);
  const cpu = (bridge.cpuMs - before) / flips;
  return { framesPerSecond: (flips * 1000) / (performance.now() - started), missed, cpu };
}

/** Takes one screenshot after another until the signal. */
async function takeScreenshots(file: string, control: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const [code] = (await once(startScanout(['screenshot', file, '--control', control]), 'close')) as [number | null];
    if (code !== 0) throw new Error(`scanout screenshot ended with ${code}`);
  }
}

async function run({ progress }: BenchContext): Promise<readonly Measurement[]> {
  const folder = mkdtempSync(join(tmpdir(), 'scanout-bench-screenshots-'));
  try {
    await using bridge = await FlippingBridge.open({ output: `headless:${SIZE.width}x${SIZE.height}`, size: SIZE });
    progress('warming up');
    await flip(bridge, WARM_UP);
    const ours: Round[] = [];
    const peer: Round[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      progress(`round ${round + 1} of ${ROUNDS}`);
      peer.push(await flip(bridge, FLIPS));
      const ending = new AbortController();
      const taken = takeScreenshots(join(folder, 'screen.png'), bridge.control, ending.signal);
      ours.push(await flip(bridge, FLIPS));
      ending.abort();
      await taken;
    }
    const row = (what: string, unit: string, better: Measurement['better'], of: (round: Round) => number) => ({
      name: `screenshots/${what}`,
      unit,
      better,
      ours: ours.map(of),
      peer: { name: 'without screenshots', samples: peer.map(of) },
      goal: null,
    });
    return [
      row('frames', '1/s', 'more', ({ framesPerSecond }) => framesPerSecond),
      {
        name: `screenshots/refreshes missed in ${ROUNDS * FLIPS}`,
        unit: 'blanks',
        better: 'less',
        ours: [ours.reduce((sum, { missed }) => sum + missed, 0)],
        peer: null,
        goal: 0,
      },
      row('CPU of the bridge', 'ms/frame', 'less', ({ cpu }) => cpu),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export const screenshots: Benchmark = {
  name: 'screenshots',
  about: 'a guest of 1080p that flips while `scanout screenshot` runs again and again, against one that is left alone',
  needsQuiet: true,
  missing: () => null,
  run,
};
