import { expect, test } from 'vitest';
import { Random } from '../../../../rig/random.ts';
import { expectNoLeaks } from '../../../sys/no-leaks.ts';
import { type WireFuzzResult, fuzzConnection } from './fuzz.ts';

expectNoLeaks();

const CONNECTIONS = 2000;

test.each([1, 2])(
  `Wayland client: each of ${CONNECTIONS} hostile compositors ends in a typed error and leaves nothing open (seed %i)`,
  { timeout: 180_000 },
  async (seed) => {
    const random = new Random(seed);
    const result: WireFuzzResult = { events: 0, heard: 0, ends: new Map(), faults: [] };
    for (let i = 0; i < CONNECTIONS && result.faults.length === 0; i++) await fuzzConnection(random, result);
    expect(result.faults).toEqual([]);
    // The test is only worth something if events reach listeners and all close reasons occur.
    expect(result.heard).toBeGreaterThan(CONNECTIONS);
    expect([...result.ends.keys()].sort()).toEqual(['closed', 'gone', 'malformed', 'refused']);
  },
);
