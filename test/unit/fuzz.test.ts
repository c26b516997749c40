import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type FuzzSession, fuzz, sessionOf } from '../rig/fuzz.ts';
import { fuzzInput } from '../rig/fuzz-input.ts';
import { Random } from '../rig/random.ts';
import { blobSession, syntheticSession } from './guest/replay/synthetic-guest.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const COMMANDS = Number(process.env.FUZZ_COMMANDS ?? (process.env.CI === undefined ? 20_000 : 200_000));
const SEED = Number(process.env.FUZZ_SEED ?? 20_211_124);

const FIXTURES = new URL('../../fixtures', import.meta.url).pathname;
const LOW = { guestAddress: 0x10_0000, size: 16 * 2 ** 20 };
const HIGH = { guestAddress: 5 * 2 ** 30, size: 16 * 2 ** 20 };

expectNoLeaks();

function sessions(): FuzzSession[] {
  const recorded = existsSync(FIXTURES) ? readdirSync(FIXTURES).filter((name) => name.endsWith('.scanout')) : [];
  return [
    { memory: [LOW, HIGH], steps: syntheticSession(LOW.guestAddress, HIGH.guestAddress, 300) },
    {
      memory: [LOW, HIGH],
      steps: Array.from({ length: 40 }, () => blobSession(LOW.guestAddress, HIGH.guestAddress)).flat(),
    },
    ...recorded.map((name) => sessionOf({ file: join(FIXTURES, name) }, 2000)),
  ];
}

test(
  `VirtioGpu: hostile sessions neither break it nor leave anything behind (FUZZ_SEED=${SEED})`,
  { timeout: 120_000 },
  async () => {
    const result = await fuzz({ seed: SEED, commands: COMMANDS, sessions: sessions() });
    expect(result.faults).toEqual([]);
    expect(result.sent).toBeGreaterThanOrEqual(COMMANDS);
    // Most commands must reach the device, and some must be refused and some accepted, or this proves nothing.
    expect(result.handled).toBeGreaterThan(result.sent / 2);
    expect(result.refused).toBeGreaterThan(result.handled / 50);
    expect(result.refused).toBeLessThan(result.handled * 0.9);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);

test(
  `InputDevices: hostile drivers neither break them nor leave anything behind (FUZZ_SEED=${SEED})`,
  { timeout: 120_000 },
  async () => {
    const connections = COMMANDS / 2000;
    const result = await fuzzInput(new Random(SEED), connections);
    expect(result.faults).toEqual([]);
    expect(result.events).toBeGreaterThan(connections * 10);
    expect(result.leds).toBeGreaterThan(connections);
    expect(result.broken).toBeGreaterThan(connections / 10);
    console.info(`fuzz: ${JSON.stringify(result)}`);
  },
);
