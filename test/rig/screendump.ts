import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { LaunchedGuest } from '../../src/testing/index.ts';
import { eventually } from './eventually.ts';
import { readPpm } from './picture.ts';

/** Stops a guest and compares every pixel with QEMU's screendump, once its last picture is here. Writes to `directory`. */
export async function expectScreendump(guest: LaunchedGuest, directory: string): Promise<void> {
  const filename = join(directory, 'screen.ppm');
  await guest.qmp('stop');
  await guest.qmp('screendump', { filename });
  const wanted = readPpm(readFileSync(filename));
  await eventually(() => {
    const shown = guest.output.capture({ cursor: false })!;
    expect([shown.width, shown.height]).toEqual([wanted.width, wanted.height]);
    expect(Buffer.compare(shown.data, wanted.data)).toBe(0);
  });
  await guest.qmp('cont');
}
