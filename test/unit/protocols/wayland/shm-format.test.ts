import { describe, expect, test } from 'vitest';
import { DRM_FORMAT, type Fourcc } from '../../../../protocols/drm-fourcc.ts';
import { fromShmFormat, toShmFormat } from '../../../../protocols/wayland/shm-format.ts';
import { WlShmFormat } from '../../../../protocols/wayland/generated/wayland.ts';

describe('wl_shm formats', () => {
  test.each([
    ['ARGB8888', 0, DRM_FORMAT.ARGB8888],
    ['XRGB8888', 1, DRM_FORMAT.XRGB8888],
    ['RGB565, which wl_shm numbers as DRM does', WlShmFormat.rgb565, DRM_FORMAT.RGB565],
    ['a format DRM does not know', 0x1234_5678, 0x1234_5678 as Fourcc],
  ])('convert to DRM formats and back: %s', (_, shm, drm) => {
    expect(fromShmFormat(shm)).toBe(drm);
    expect(toShmFormat(drm)).toBe(shm);
  });
});
