import { expect, test } from 'vitest';
import { fuzzBridge, fuzzControl } from '../rig/fuzz-control.ts';
import { Random } from '../rig/random.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const REQUESTS = Number(process.env.FUZZ_COMMANDS ?? (process.env.CI === undefined ? 10_000 : 30_000));
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_128);

expectNoLeaks();

test(
  `ControlServer: hostile clients reach the guest with nothing that is not checked, and others are served (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const result = await fuzzControl(new Random(SEED), REQUESTS);

    expect(result.faults).toEqual([]);
    expect(result.requests).toBeGreaterThanOrEqual(REQUESTS);
    // Many requests must be understood, and many refused, or this proves nothing.
    expect(result.handled).toBeGreaterThan(REQUESTS / 10);
    expect(result.answered).toBeGreaterThan(REQUESTS / 20);
    expect(result.refused).toBeGreaterThan(REQUESTS / 50);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);

test(
  `ControlClient: hostile bridges get no further than an error (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const { resolved, faults } = await fuzzBridge(new Random(SEED), REQUESTS / 10);

    expect(faults).toEqual([]);
    expect(resolved).toBeGreaterThan(REQUESTS / 100);
  },
);
