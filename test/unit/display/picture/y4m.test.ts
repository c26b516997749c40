import { expect, test } from 'vitest';
import { y4mFrame, y4mHeader } from '../../../../display/picture/y4m.ts';

/** The standard conversion of BT.601 in limited range, from 12 bits to 8. */
function rgbOf(bytes: Uint8Array, pixels: number): number[][] {
  const samples = new Uint16Array(bytes.slice('FRAME\n'.length).buffer);
  return Array.from({ length: pixels }, (_, i) => {
    const luma = (samples[i]! - 256) / 3504;
    const cb = (samples[pixels + i]! - 2048) / 3584;
    const cr = (samples[2 * pixels + i]! - 2048) / 3584;
    const red = luma + 1.402 * cr;
    const blue = luma + 1.772 * cb;
    const green = (luma - 0.299 * red - 0.114 * blue) / 0.587;
    return [red, green, blue].map((value) => Math.round(value * 255));
  });
}

test('y4mFrame: every colour comes back as it was', () => {
  const levels = Array.from({ length: 32 }, (_, i) => Math.min(255, i * 8 + (i % 3)));
  const colours = levels.flatMap((red) => levels.flatMap((green) => levels.map((blue) => [red, green, blue])));
  const data = Uint8Array.from(colours.flatMap((colour) => [...colour, 255]));
  const frame = y4mFrame({ width: colours.length, height: 1, data });

  expect(rgbOf(frame, colours.length).flat().join()).toBe(colours.flat().join());
});

test('y4mFrame: has black and white where limited range has them', () => {
  const frame = y4mFrame({ width: 2, height: 1, data: Uint8Array.of(0, 0, 0, 255, 255, 255, 255, 255) });

  expect(Buffer.from(frame.subarray(0, 6)).toString()).toBe('FRAME\n');
  expect([...new Uint16Array(frame.slice(6).buffer)]).toEqual([256, 3760, 2048, 2048, 2048, 2048]);
});

test('y4mHeader: names size, rate and format', () => {
  expect(y4mHeader(64, 48, 30)).toBe('YUV4MPEG2 W64 H48 F30:1 Ip A1:1 C444p12 XYSCSS=444P12 XCOLORRANGE=LIMITED\n');
});
