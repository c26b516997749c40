/**
 * Tests of a guest's screen. The golden pictures are in __screenshots__; vitest -u writes them.
 *
 *     npx vitest run
 *     DISK=guest.qcow2 npx vitest run
 */
import { launchGuest, openDisplay } from 'scanout-bridge/testing';
import 'scanout-bridge/vitest';
import { expect, test } from 'vitest';

const recording = 'node_modules/scanout-bridge/fixtures/console-boot.scanout';
const disk = process.env['DISK'];

test('the recorded guest boots to its console', async () => {
  using display = openDisplay({ guest: recording });

  await expect(display).toMatchScreenshot('console.png');
});

test('the cursor waits at the prompt of the recorded guest', async () => {
  using display = openDisplay({ guest: recording });

  const { data, width } = await display.waitForStable();

  const pixel = (776 * width + 60) * 4;
  expect([...data.subarray(pixel, pixel + 4)]).toEqual([170, 170, 170, 255]);
});

test.runIf(disk)('a real guest shows something after it has booted', { timeout: 300_000 }, async () => {
  await using guest = await launchGuest({ disk: disk! });
  using display = openDisplay({ guest });

  const picture = await display.waitForStable({ quietMs: 5000, timeoutMs: 240_000 });

  expect(picture.data.some((byte, index) => index % 4 < 3 && byte > 0)).toBe(true);
});
