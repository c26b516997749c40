import { expect, test } from 'vitest';
import { fuzzVnc } from '../rig/fuzz-vnc.ts';
import { Random } from '../rig/random.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const MESSAGES = Number(process.env.FUZZ_COMMANDS ?? (process.env.CI === undefined ? 5000 : 20_000));
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_128);

expectNoLeaks();

test(
  `VncOutput: hostile viewers harm only themselves, and leave nothing behind (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const result = await fuzzVnc(new Random(SEED), MESSAGES);
    expect(result.faults).toEqual([]);
    expect(result.messages).toBeGreaterThanOrEqual(MESSAGES);
    // Most must be understood, or this proves nothing.
    expect(result.greeted).toBeGreaterThan(MESSAGES / 500);
    expect(result.received).toBeGreaterThan(MESSAGES);
    expect(result.ended).toBeGreaterThan(0);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);
