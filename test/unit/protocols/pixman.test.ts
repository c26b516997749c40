import { expect, test } from 'vitest';
import { DRM_FORMAT, formatInfo } from '../../../protocols/drm-fourcc.ts';
import { fourccOfPixman, PIXMAN_FORMAT, pixmanOfFourcc } from '../../../protocols/pixman.ts';

test.each(Object.entries(PIXMAN_FORMAT))(
  'fourccOfPixman: %s has a DRM format with as many bytes, and back',
  (name, code) => {
    const fourcc = fourccOfPixman(code)!;
    expect(pixmanOfFourcc(fourcc)).toBe(code);
    expect(formatInfo(fourcc)!.planes[0]!.bytesPerBlock).toBe((code >>> 24) / 8);
    // Both name the components of a little-endian word from the highest bit down.
    const drm = Object.entries(DRM_FORMAT).find(([, value]) => value === fourcc)![0];
    const letters = name.toUpperCase().match(/[A-Z]/g)!.join('');
    const digits = name.match(/\d+/g)!;
    const packed = digits.every((digit) => digit === '8') && digits.length === 3 ? '888' : digits.join('');
    expect(drm).toBe(`${letters}${packed}`);
  },
);

test('fourccOfPixman: has nothing for codes that pixman does not have', () => {
  expect(fourccOfPixman(0)).toBeNull();
  expect(pixmanOfFourcc(DRM_FORMAT.NV12)).toBeNull();
});
