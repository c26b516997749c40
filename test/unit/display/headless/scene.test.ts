import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BGRA, copyChanges, Layer, type LayerBuffer } from '../../../../display/headless/scene.ts';
import { Damage } from '../../../../src/core/damage.ts';

/** Pixels that are shown as they are. */
function layerOf(pixels: Uint32Array, width: number, height: number): Layer {
  const memory = new Uint8Array(pixels.buffer);
  const buffer: LayerBuffer = {
    width,
    height,
    offset: 0,
    stride: width * 4,
    isOpaque: true,
    order: BGRA,
    read: (look) => look(memory),
  };
  const layer = new Layer();
  const rect = { x: 0, y: 0, width, height };
  layer.set({ src: rect, dst: rect }, buffer);
  return layer;
}

test('copyChanges: copies and tells every pixel that differs, of the whole picture and of a part of it', () => {
  const spots = fc.array(fc.tuple(fc.nat({ max: 159 }), fc.nat({ max: 59 })), { maxLength: 4 });
  fc.assert(
    fc.property(
      fc.constantFrom(7, 160),
      fc.integer({ min: 1, max: 60 }),
      spots,
      fc.boolean(),
      (width, height, changes, isPart) => {
        const pixels = new Uint32Array(width * height);
        const copy = pixels.slice();
        for (const [x, y] of changes) pixels[(y % height) * width + (x % width)] = 0x10203;
        const region = isPart
          ? { x: 1, y: height >> 1, width: width - 1, height: height - (height >> 1) }
          : { x: 0, y: 0, width, height };
        const changed = new Damage();

        copyChanges(copy, width, { primary: layerOf(pixels, width, height) }, region, changed);

        const told = new Uint8Array(width * height);
        for (let i = 0; i < changed.count; i++)
          for (let y = changed.y(i); y < changed.y(i) + changed.height(i); y++)
            told.fill(1, y * width + changed.x(i), y * width + changed.x(i) + changed.width(i));
        const isInside = (at: number): boolean => at % width >= region.x && at >= region.y * width;
        expect(copy).toEqual(pixels.map((pixel, at) => (isInside(at) ? pixel : 0)));
        expect(pixels.every((pixel, at) => pixel === 0 || !isInside(at) || told[at] === 1)).toBe(true);
      },
    ),
  );
});
