import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { comparePictures } from '../../../display/screenshot/compare.ts';
import { decodePng } from '../../../display/screenshot/png.ts';
import { openDisplay } from '../../../src/testing/open-display.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';

const FIXTURES = join(import.meta.dirname, '../../../fixtures');
const console = decodePng(readFileSync(join(FIXTURES, 'console.png')));

expectNoLeaks();

test('a recording stands still with its last picture', async () => {
  using display = openDisplay({ guest: join(FIXTURES, 'console-boot.scanout') });

  const picture = await display.waitForStable();

  expect(comparePictures(console, picture).explanation).toBe('');
});
