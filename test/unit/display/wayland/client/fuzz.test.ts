import { expect, test } from 'vitest';
import { Random } from '../../../../rig/random.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { type WireFuzzResult, fuzzConnection } from './fuzz.ts';

expectNoLeaks();

const CONNECTIONS = 2000;

test.each([1, 2])(`${CONNECTIONS} mad compositors end in a typed error each, with nothing left open (seed %i)`, { timeout: 60_000 }, async (seed) => {
  const random = new Random(seed);
  const result: WireFuzzResult = { events: 0, heard: 0, ends: new Map(), faults: [] };
  for (let i = 0; i < CONNECTIONS && result.faults.length === 0; i++) await fuzzConnection(random, result);
  expect(result.faults).toEqual([]);
  // It is worth something only if it gets past the front door, and meets all ends.
  expect(result.heard).toBeGreaterThan(CONNECTIONS);
  expect([...result.ends.keys()].sort()).toEqual(['closed', 'gone', 'malformed', 'refused']);
});
