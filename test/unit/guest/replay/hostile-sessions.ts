import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type FuzzSession, sessionOf } from '../../../rig/hostile-guest.ts';
import { blobSession, syntheticSession } from './synthetic-guest.ts';

const FIXTURES = new URL('../../../../fixtures', import.meta.url).pathname;
const LOW = { guestAddress: 0x10_0000, size: 16 * 2 ** 20 };
const HIGH = { guestAddress: 5 * 2 ** 30, size: 16 * 2 ** 20 };
/** Commands of a recorded session. */
const LIMIT = 2000;

/** The sessions that hostile guests change: two synthetic ones, and the beginnings of the recorded ones. */
export function hostileSessions(): FuzzSession[] {
  const recorded = existsSync(FIXTURES) ? readdirSync(FIXTURES).filter((name) => name.endsWith('.scanout')) : [];
  return [
    { memory: [LOW, HIGH], steps: syntheticSession(LOW.guestAddress, HIGH.guestAddress, 300) },
    {
      memory: [LOW, HIGH],
      steps: Array.from({ length: 40 }, () => blobSession(LOW.guestAddress, HIGH.guestAddress)).flat(),
    },
    ...recorded.map((name) => sessionOf({ file: join(FIXTURES, name) }, LIMIT)),
  ];
}
