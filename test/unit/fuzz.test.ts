import { expect, test } from 'vitest';
import { fuzz } from '../rig/fuzz.ts';
import { fuzzInput } from '../rig/fuzz-input.ts';
import { Random } from '../rig/random.ts';
import { hostileSessions } from './guest/replay/hostile-sessions.ts';
import { expectNoLeaks } from './sys/no-leaks.ts';

const COMMANDS = Number(process.env.FUZZ_COMMANDS ?? (process.env.CI === undefined ? 20_000 : 200_000));
const SEED = Number(process.env.FUZZ_SEED ?? 20_211_124);

expectNoLeaks();

test(
  `VirtioGpu: hostile sessions neither break it nor leave anything behind (FUZZ_SEED=${SEED})`,
  { timeout: 600_000 },
  async () => {
    const result = await fuzz({ seed: SEED, commands: COMMANDS, sessions: hostileSessions() });
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
  { timeout: 600_000 },
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
