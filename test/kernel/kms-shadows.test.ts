import { describe, expect, test } from 'vitest';
import { type KmsBuffer, ShadowMemory } from '../../display/kms/buffer.ts';
import { DRM_FORMAT, formatInfo, type Fourcc } from '../../protocols/drm-fourcc.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { type GbmLibrary, loadGbm } from '../../src/sys/lib/gbm-library.ts';
import { GbmDevice, GbmError } from '../../src/sys/lib/gbm.ts';
import { expectSamePicture } from '../rig/picture.ts';
import { ScatteredPicture } from '../rig/scattered-picture.ts';
import { skipWithoutVkms, TestScreen } from './kms-rig.ts';
import { dmabufCount, expectNothingLeft } from './machine.ts';

const isSkipped = skipWithoutVkms();

/** libgbm with some of its functions replaced. */
function changed(change: Partial<GbmLibrary>): (card: BorrowedFd) => GbmDevice | GbmError {
  return (card) => GbmDevice.open(card, { ...(loadGbm() as GbmLibrary), ...change });
}

function copyInto(shadow: KmsBuffer, picture: ScatteredPicture): void {
  const { width, height, format, planes } = picture.framebuffer;
  const rowBytes = width * formatInfo(format)!.planes[0]!.bytesPerBlock;
  const { stride } = planes[0]!;
  shadow.beginWrite();
  for (let y = 0; y < height; y++)
    shadow.pixels.bytes.set(picture.pixels.bytes.subarray(y * stride, y * stride + rowBytes), y * shadow.stride);
  shadow.endWrite();
}

describe.skipIf(isSkipped)('ShadowMemory: shadows', () => {
  expectNothingLeft();

  test.each<[string, Fourcc, ((card: BorrowedFd) => GbmDevice | GbmError) | undefined, RegExp, number]>([
    ['from GBM', DRM_FORMAT.XRGB8888, undefined, /shadows are GBM buffers \(drm\)/, 1],
    ['with alpha from GBM', DRM_FORMAT.ARGB8888, undefined, /shadows are GBM buffers \(drm\)/, 1],
    [
      'in a format GBM does not let the CPU write',
      DRM_FORMAT.RGB565,
      undefined,
      /RGB565 shadows are dumb buffers: .*EINVAL/,
      0,
    ],
    [
      'without libgbm',
      DRM_FORMAT.XRGB8888,
      (card) => GbmDevice.open(card, new Error('not found')),
      /shadows are dumb buffers: .*install the package libgbm1/,
      0,
    ],
    [
      'that GBM cannot export',
      DRM_FORMAT.XRGB8888,
      changed({ handle: () => 4242 }),
      /XRGB8888 shadows are dumb buffers: .*ENOENT/,
      0,
    ],
  ])('%s show what was written, and their kind is logged once', async (name, format, open, line, dmabufs) => {
    using screen = new TestScreen();
    using memory = new ShadowMemory(screen.device, open);
    using picture = new ScatteredPicture(screen.udmabuf, 123, 45, { format }).fillNoise(5);
    const log: string[] = [];
    const create = (): KmsBuffer => memory.create(123, 45, format, (_level, message) => void log.push(message));
    using first = create();
    // After the first: llvmpipe has a dma-buf of its own.
    const before = dmabufCount();
    using second = create();
    expect(dmabufCount() - before).toBe(dmabufs);
    expect(second.pixels.bytes.every((byte) => byte === 0)).toBe(true);
    copyInto(first, picture);
    screen.setPicture(first, 123, 45);
    await screen.show();
    expectSamePicture(
      await screen.writeback.take(),
      picture.onScreen(640, 480),
      `kms-shadows-${name.replaceAll(/\W/g, '-')}`,
    );
    picture.fillNoise(6);
    copyInto(second, picture);
    screen.setPicture(second, 123, 45);
    await screen.show();
    expectSamePicture(
      await screen.writeback.take(),
      picture.onScreen(640, 480),
      `kms-shadows-${name.replaceAll(/\W/g, '-')}-second`,
    );
    expect(log).toEqual([expect.stringMatching(line)]);
  });

  test('open libgbm once, when the first is needed', () => {
    using screen = new TestScreen();
    let opened = 0;
    using memory = new ShadowMemory(screen.device, () => {
      opened++;
      return new GbmError('device-refused', 'told to refuse');
    });
    expect(opened).toBe(0);
    for (let i = 0; i < 3; i++) memory.create(64, 64, DRM_FORMAT.XRGB8888, () => undefined)[Symbol.dispose]();
    expect(opened).toBe(1);
  });

  test('of a KmsOutput are GBM buffers', () => {
    using screen = new TestScreen();
    using shadow = screen.output.createShadow(64, 64, DRM_FORMAT.XRGB8888);
    expect(shadow.stride).toBeGreaterThanOrEqual(256);
    expect(screen.log.filter((line) => line.includes('shadows are'))).toEqual([expect.stringContaining('GBM buffers')]);
  });
});
