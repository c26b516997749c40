import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DRM_FORMAT, formatInfo } from '../../protocols/drm-fourcc.ts';
import type { Shadow } from '../../src/core/output.ts';
import { expectSamePicture } from '../rig/picture.ts';
import { ScatteredPicture } from '../rig/scattered-picture.ts';
import { skipWithoutVkms, TestScreen, vkmsCard } from './kms-rig.ts';
import { dmabufCount, expectNothingLeft } from './machine.ts';

const isSkipped = skipWithoutVkms();

function copyInto(shadow: Shadow, picture: ScatteredPicture): void {
  const { width, height, format, planes } = picture.framebuffer;
  const rowBytes = width * formatInfo(format)!.planes[0]!.bytesPerBlock;
  const { stride } = planes[0]!;
  shadow.beginWrite();
  for (let y = 0; y < height; y++)
    shadow.pixels.bytes.set(picture.pixels.bytes.subarray(y * stride, y * stride + rowBytes), y * shadow.stride);
  shadow.endWrite();
}

describe.skipIf(isSkipped)('KmsOutput: shadows', () => {
  expectNothingLeft();

  test.each([
    ['XRGB8888', DRM_FORMAT.XRGB8888],
    ['ARGB8888', DRM_FORMAT.ARGB8888],
    ['RGB565', DRM_FORMAT.RGB565],
  ])('of %s begin zeroed and show what was written', async (name, format) => {
    using screen = new TestScreen();
    using picture = new ScatteredPicture(screen.udmabuf, 123, 45, { format }).fillNoise(5);
    const dmabufs = dmabufCount();
    using first = screen.output.createShadow(123, 45, format);
    using second = screen.output.createShadow(123, 45, format);
    expect(dmabufCount()).toBe(dmabufs);
    expect(second.pixels.bytes.every((byte) => byte === 0)).toBe(true);
    copyInto(first, picture);
    screen.setPicture(first, 123, 45);
    await screen.show();
    expectSamePicture(await screen.writeback.take(), picture.onScreen(640, 480), `kms-shadows-${name}`);
    picture.fillNoise(6);
    copyInto(second, picture);
    screen.setPicture(second, 123, 45);
    await screen.show();
    expectSamePicture(await screen.writeback.take(), picture.onScreen(640, 480), `kms-shadows-${name}-second`);
  });

  test('load no graphics driver, which would hold up the event loop for seconds', () => {
    // In a process of its own, because other tests have loaded drivers into this one.
    const built = join(import.meta.dirname, '../../dist');
    const program = `
      import { readFileSync } from 'node:fs';
      import { KmsDisplay } from '${built}/display/kms/index.js';
      import { DRM_FORMAT } from '${built}/protocols/drm-fourcc.js';
      const display = KmsDisplay.open({ card: '${vkmsCard()!}', log: () => undefined });
      display.outputs[0].createShadow(64, 64, DRM_FORMAT.XRGB8888);
      process.stdout.write(readFileSync('/proc/self/maps', 'utf8'));
      display[Symbol.dispose]();
    `;
    const maps = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
    expect(maps).toContain('/dev/dri/');
    expect(maps).not.toMatch(/libgbm|libgallium|_dri\.so/);
  });
});
