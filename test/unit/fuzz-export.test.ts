import { expect, test } from 'vitest';
import { fuzzExport } from '../rig/fuzz-export.ts';
import { fuzzImport } from '../rig/fuzz-import.ts';
import { Random } from '../rig/random.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const MESSAGES = Number(process.env.FUZZ_COMMANDS ?? (process.env.CI === undefined ? 20_000 : 200_000));
const SEED = Number(process.env.FUZZ_SEED ?? 20_261_128);

expectNoLeaks();

test(
  `ExportDisplay: hostile consumers and guest programs harm only themselves, and leave nothing behind (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const result = await fuzzExport(new Random(SEED), MESSAGES);
    expect(result.faults).toEqual([]);
    expect(result.messages).toBeGreaterThanOrEqual(MESSAGES);
    // Most must be understood, or this proves nothing.
    expect(result.frames).toBeGreaterThan(MESSAGES / 50);
    expect(result.imports).toBeGreaterThan(MESSAGES / 50);
    expect(result.errors).toBeGreaterThan(MESSAGES / 50);
    expect(result.ended).toBeGreaterThan(MESSAGES / 1000);
    expect(result.answers).toBeGreaterThan(MESSAGES / 200);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);

test(
  `ExportedDisplay: hostile bridges get errors of the protocol, and leave nothing behind (FUZZ_SEED=${SEED})`,
  { timeout: 900_000 },
  async () => {
    const result = await fuzzImport(new Random(SEED), MESSAGES);
    expect(result.faults).toEqual([]);
    expect(result.messages).toBeGreaterThanOrEqual(MESSAGES);
    expect(result.frames).toBeGreaterThan(MESSAGES / 20);
    expect(result.pictures).toBeGreaterThan(MESSAGES / 200);
    expect(result.ended).toBeGreaterThan(MESSAGES / 2000);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);
