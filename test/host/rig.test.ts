import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Picture } from '../../src/core/picture.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { drawnPicture, isWholeText, showModetestPattern, showText, startDrawing } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { expectSamePicture, pictureWhen, pixel } from '../rig/picture.ts';
import { startReferenceBackend, type ReferenceBackend } from '../rig/reference-backend.ts';

const size = [1280, 800] as const;

/** The text console, then modetest's pattern, as QEMU shows them. */
async function textAndPattern(guest: Guest): Promise<{ text: Picture; pattern: Picture }> {
  await showText(guest);
  const text = await pictureWhen(() => guest.screendump(), isWholeText);
  const stop = await showModetestPattern(guest, ...size);
  const pattern = await guest.screendump();
  await stop();
  return { text, pattern };
}

function countColours(picture: Picture): number {
  const colours = new Set<number>();
  for (let y = 0; y < picture.height; y++) for (let x = 0; x < picture.width; x++) colours.add(pixel(picture, x, y));
  return colours.size;
}

describe.skipIf(skipWithoutGuest())('a test guest', () => {
  let guest: Guest;
  let first: { text: Picture; pattern: Picture };

  beforeAll(async () => {
    guest = await bootGuest({ gpu: { kind: 'builtin' }, size });
    console.log(`guest with QEMU's own GPU: ${Math.round(guest.bootMs)} ms to its shell`);
  });
  afterAll(() => guest[Symbol.asyncDispose]());

  test('shows the console and the test pattern in colour', async () => {
    first = await textAndPattern(guest);
    expect(countColours(first.text)).toBe(16);
    expect(countColours(first.pattern)).toBeGreaterThan(10);
  });

  test('has the drawn picture on the device once guest-draw answers', async () => {
    const draw = await startDrawing(guest);
    await draw('mode 1024 768');
    expectSamePicture(await guest.screendump(), drawnPicture(1024, 768, 0), 'rig-mode');
    await draw('pattern 7');
    expectSamePicture(await guest.screendump(), drawnPicture(1024, 768, 7), 'rig-pattern');
    await draw('mode 1001 333');
    expectSamePicture(await guest.screendump(), drawnPicture(1001, 333, 0), 'rig-odd-mode');
    await draw('flip 5 plain');
    expectSamePicture(await guest.screendump(), drawnPicture(1001, 333, 2), 'rig-flip');
    await expect(draw('output 9')).rejects.toThrow('no such output');
    await draw('quit');
  });

  test('reports the exit status and the output of a command that fails', async () => {
    await expect(guest.run('echo why; false')).rejects.toThrow(/exited with status 1:.*\nwhy/);
  });

  test('shows the same pictures after a reboot', async () => {
    await guest.reboot();
    const again = await textAndPattern(guest);
    expectSamePicture(again.text, first.text, 'rig-reboot-text');
    expectSamePicture(again.pattern, first.pattern, 'rig-reboot-pattern');
  });

  test('shows the same pictures on the C reference backend, until it powers off', async () => {
    await using backend: ReferenceBackend = await startReferenceBackend();
    await using other = await bootGuest({ gpu: { kind: 'vhost-user', socket: backend.socket }, size });
    console.log(`guest with the C backend: ${Math.round(other.bootMs)} ms to its shell`);
    const shown = await textAndPattern(other);
    expectSamePicture(shown.text, first.text, 'rig-reference-text');
    expectSamePicture(shown.pattern, first.pattern, 'rig-reference-pattern');
    await other.powerOff();
    expect(await other.exited).toBe(0);
  });

  test("reports QEMU's error message if QEMU does not start", async () => {
    await expect(bootGuest({ gpu: { kind: 'vhost-user', socket: '/nonexistent' } })).rejects.toThrow(
      /No such file or directory/,
    );
  });
});
