/** What `scanout screenshot` in a loop takes from a guest that flips. */
import { type ChildProcess, spawn } from 'node:child_process';
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

/** A round during which a program starts again and again. */
async function flipBeside(start: () => ChildProcess, bridge: FlippingBridge): Promise<Round> {
  const ending = new AbortController();
  const ended = runUntil(ending.signal, start);
  const round = await flip(bridge, FLIPS);
  ending.abort();
  await ended;
  return round;
}

async function runUntil(signal: AbortSignal, start: () => ChildProcess): Promise<void> {
  while (!signal.aborted) {
    const program = start();
    const [code] = (await once(program, 'close')) as [number | null];
    if (code !== 0) throw new Error(`${program.spawnargs.join(' ')} ended with ${code}`);
  }
}

async function run({ progress }: BenchContext): Promise<readonly Measurement[]> {
  const folder = mkdtempSync(join(tmpdir(), 'scanout-bench-screenshots-'));
  try {
    const file = join(folder, 'screen.png');
    await using bridge = await FlippingBridge.open({ output: `headless:${SIZE.width}x${SIZE.height}`, size: SIZE });
    progress('warming up');
    await flip(bridge, WARM_UP);
    const ours: Round[] = [];
    const node: Round[] = [];
    const alone: Round[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      progress(`round ${round + 1} of ${ROUNDS}`);
      alone.push(await flip(bridge, FLIPS));
      ours.push(await flipBeside(() => startScanout(['screenshot', file, '--control', bridge.control]), bridge));
      node.push(await flipBeside(() => spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }), bridge));
    }
    const row = (what: string, unit: string, better: Measurement['better'], of: (round: Round) => number) => ({
      name: `screenshots/${what}`,
      unit,
      better,
      ours: ours.map(of),
      peer: { name: 'without screenshots', samples: alone.map(of) },
      goal: null,
    });
    const missed = (what: string, rounds: readonly Round[], goal: number | null): Measurement => ({
      name: `screenshots/refreshes missed in ${ROUNDS * FLIPS}${what}`,
      unit: 'blanks',
      better: 'less',
      ours: [rounds.reduce((sum, round) => sum + round.missed, 0)],
      peer: null,
      goal,
    });
    return [
      row('frames', '1/s', 'more', ({ framesPerSecond }) => framesPerSecond),
      missed('', ours, 0),
      missed(', while `node -e 0` runs again and again', node, null),
      missed(', left alone', alone, null),
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
