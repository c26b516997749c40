import fc from 'fast-check';
import type { Picture } from '../../../../src/core/picture.ts';

export type Colour = readonly [red: number, green: number, blue: number];

/** A picture of what `colour` says for each pixel. */
export function draw(width: number, height: number, colour: (x: number, y: number) => Colour): Picture {
  const data = new Uint8Array(width * height * 4).fill(255);
  for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at += 4) data.set(colour(x, y), at);
  return { width, height, data };
}

/** The same with other colours. */
export function recolour(picture: Picture, change: (colour: Colour) => Colour): Picture {
  return draw(picture.width, picture.height, (x, y) => change(colourAt(picture, x, y)));
}

export function colourAt({ width, data }: Picture, x: number, y: number): Colour {
  const at = (y * width + x) * 4;
  return [data[at]!, data[at + 1]!, data[at + 2]!];
}

/** A generator of bytes that look random. */
export function noise(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 255;
  };
}

/** Pixels unlike each other. */
export function noisePicture(width: number, height: number, seed: number): Picture {
  const next = noise(seed);
  return draw(width, height, () => [next(), next(), next()]);
}

export const noisePictures = fc
  .tuple(fc.integer({ min: 16, max: 80 }), fc.integer({ min: 16, max: 60 }), fc.integer({ min: 1 }))
  .map(([width, height, seed]) => noisePicture(width, height, seed));

/** Small pictures of few colours, as hostile to guesses as pictures get. */
export const plainPictures = plainPicturesOf(24);

/** The same with up to so many rows. */
export function plainPicturesOf(rows: number): fc.Arbitrary<Picture> {
  return fc
    .tuple(
      fc.integer({ min: 1, max: 24 }),
      fc.integer({ min: 1, max: rows }),
      fc.integer({ min: 1 }),
      fc.integer({ min: 1, max: 4 }),
    )
    .map(([width, height, seed, colours]) => {
      const next = noise(seed);
      return draw(width, height, () => [(next() % colours) * 60, (next() % colours) * 60, 7]);
    });
}
