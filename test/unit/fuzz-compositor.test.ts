import { expect, test } from 'vitest';
import { fuzzCompositors } from '../rig/fuzz-compositor.ts';
import { Random } from '../rig/random.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const MESSAGES = Number(process.env.FUZZ_COMMANDS ?? 200_000);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_128);

expectNoLeaks();

test(
  `WaylandOutput: hostile compositors neither break windows nor leave anything behind (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const result = await fuzzCompositors(new Random(SEED), MESSAGES);
    expect(result.faults).toEqual([]);
    expect(result.messages).toBeGreaterThanOrEqual(MESSAGES);
    // Windows must work for a while on most compositors, and these must end in each way, or this proves nothing.
    expect(result.messages).toBeGreaterThan(result.compositors * 200);
    expect(result.frames).toBeGreaterThan(result.compositors);
    // One in thirty refuses a window.
    const ends = result.compositors < 200 ? ['gone'] : ['gone', 'malformed', 'refused'];
    expect([...result.ends.keys()]).toEqual(expect.arrayContaining(ends));
    console.info(`fuzz: ${JSON.stringify({ ...result, ends: Object.fromEntries(result.ends) })}`);
  },
);
