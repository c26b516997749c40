import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { decodePng } from '../../../../display/picture/png.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { Replay, type ReplaySummary } from '../../../../src/guest/replay/replay.ts';
import { mappingCount, openFds } from '../../../rig/process-resources.ts';
import { drawnPicture, withDrawnCursor } from '../../../rig/guest-pictures.ts';
import { expectSamePicture } from '../../../rig/picture.ts';

const FIXTURES = join(import.meta.dirname, '../../../../fixtures');

interface Played extends ReplaySummary {
  readonly picture: Picture;
  readonly withoutCursor: Picture;
  /** Sizes the screen had, in order. */
  readonly sizes: readonly string[];
}

async function play(name: string): Promise<Played> {
  using replay = Replay.open({ file: join(FIXTURES, `${name}.scanout`), speed: 'fast' });
  using output = HeadlessOutput.open({ width: 1280, height: 800, refreshMhz: 1_000_000 });
  using bridge = new Bridge(replay, { zeroCopy: 'off' });
  const sizes: string[] = [];
  output.onFrame(() => {
    const picture = output.capture();
    if (picture && sizes.at(-1) !== `${picture.width}x${picture.height}`)
      sizes.push(`${picture.width}x${picture.height}`);
  });
  bridge.show(0, output);
  const summary = await replay.finished;
  await output.settled();
  return { ...summary, picture: output.capture()!, withoutCursor: output.capture({ cursor: false })!, sizes };
}

describe('Replay of a real guest', () => {
  let before: number[];

  beforeEach(() => {
    before = [openFds().size, mappingCount()];
  });

  afterEach(() => {
    expect([openFds().size, mappingCount()]).toEqual(before);
  });

  test('with a console ends with the screen that the guest had', async () => {
    const { picture, errors } = await play('console-boot');
    expect(errors).toBe(0);
    expectSamePicture(picture, decodePng(readFileSync(join(FIXTURES, 'console.png'))), 'fixture-console');
  });

  test('with page flips refuses no command', async () => {
    const { errors, flushes, picture } = await play('page-flips');
    expect(errors).toBe(0);
    expect(flushes).toBeGreaterThan(24);
    expect([picture.width, picture.height]).toEqual([640, 480]);
  });

  test('with a moving cursor ends with the picture and the cursor that were drawn', async () => {
    const { picture, withoutCursor, errors } = await play('cursor');
    const drawn = drawnPicture(800, 600, 3);
    expect(errors).toBe(0);
    expectSamePicture(withoutCursor, drawn, 'fixture-without-cursor');
    expectSamePicture(picture, withDrawnCursor(drawn, 6, 300, 200), 'fixture-cursor');
  });

  test('with mode changes shows every size, and the last picture', async () => {
    const { picture, sizes, errors } = await play('mode-change');
    expect(errors).toBe(0);
    expect(sizes.slice(-3)).toEqual(['1024x768', '800x600', '640x480']);
    expect([picture.width, picture.height]).toEqual([640, 480]);
    expect(picture.data.slice(0, 4)).toEqual(drawnPicture(640, 480, 3).data.slice(0, 4));
  });

  test('with blobs flips them, and ends with what was drawn into the last one', async () => {
    const { picture, errors, flushes } = await play('blobs');
    const expected = drawnPicture(160, 120, 4);
    const part = drawnPicture(160, 120, 9).data;
    for (let y = 50; y < 50 + 33; y++)
      expected.data.set(part.subarray((y * 160 + 40) * 4, (y * 160 + 40 + 81) * 4), (y * 160 + 40) * 4);
    expect(errors).toBe(0);
    expect(flushes).toBeGreaterThan(12);
    expectSamePicture(picture, expected, 'fixture-blobs');
  });
});
