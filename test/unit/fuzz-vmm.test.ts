import { expect, test } from 'vitest';
import { fuzzVmm } from '../rig/fuzz-vmm.ts';
import { Random } from '../rig/random.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const MESSAGES = Number(process.env.FUZZ_COMMANDS ?? (process.env.CI === undefined ? 20_000 : 200_000));
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_128);

expectNoLeaks();

test(
  `VhostUserBackend: hostile VMMs get errors of the protocol, and leave nothing behind (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const result = await fuzzVmm(new Random(SEED), MESSAGES);
    expect(result.faults).toEqual([]);
    expect(result.messages).toBeGreaterThanOrEqual(MESSAGES);
    // Most messages must be understood, and some commands must come through rings, or this proves nothing.
    expect(result.accepted).toBeGreaterThan(MESSAGES / 4);
    expect(result.refused).toBeGreaterThan(MESSAGES / 50);
    expect(result.ended).toBeGreaterThan(MESSAGES / 2000);
    expect(result.commands).toBeGreaterThan(MESSAGES / 200);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);
