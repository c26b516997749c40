import { expect, test } from 'vitest';
import { fuzzVdagent } from '../rig/fuzz-vdagent.ts';
import { Random } from '../rig/random.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const MESSAGES = Number(process.env.FUZZ_COMMANDS ?? 60_000);
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_128);

expectNoLeaks();

test(
  `VdagentClipboard: hostile agents neither break the clipboard nor leave anything behind (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const result = await fuzzVdagent(new Random(SEED), MESSAGES);
    expect(result.faults).toEqual([]);
    expect(result.messages).toBeGreaterThanOrEqual(MESSAGES);
    // Most agents must be understood for a while, and some refused, or this proves nothing.
    expect(result.messages).toBeGreaterThan(result.agents * 10);
    expect(result.ended).toBeGreaterThan(result.agents / 10);
    expect(result.pasted).toBeGreaterThan(result.agents / 10);
    expect(result.answered).toBeGreaterThan(result.agents);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);
