/**
 * Pixels of few colours, as text consoles have them, packed to 0, 1, 2 or 4 bits each, lowest
 * bits first. Packing is not for size alone, compression does that: it lets many times as many
 * pictures fit into the block that a compressor sees.
 */
export const MAX_COLOURS = 16;

/** Bits of a pixel when there are `count` colours. */
function bitsFor(count: number): number {
  return count === 1 ? 0 : count === 2 ? 1 : count <= 4 ? 2 : 4;
}

/** Bytes of `pixels` packed pixels of `count` colours. */
export function packedLength(pixels: number, count: number): number {
  return Math.ceil((pixels * bitsFor(count)) / 8);
}

/** Indexes pixels by colour; storage is fixed at construction. */
export class Palette {
  readonly colours = new Uint32Array(MAX_COLOURS);
  #count = 0;
  readonly #indices: Uint8Array;

  constructor(maxPixels: number) {
    this.#indices = new Uint8Array(maxPixels);
  }

  /** Colours of the last `index`. */
  get count(): number {
    return this.#count;
  }

  /** Looks at `length` pixels; false if they have too many colours. */
  index(pixels: Uint32Array, length: number): boolean {
    const { colours } = this;
    let count = 0;
    let last = -1;
    let lastIndex = 0;
    for (let i = 0; i < length; i++) {
      const pixel = pixels[i]!;
      if (pixel !== last) {
        lastIndex = 0;
        while (lastIndex < count && colours[lastIndex] !== pixel) lastIndex++;
        if (lastIndex === count) {
          if (count === MAX_COLOURS) return false;
          colours[count++] = pixel;
        }
        last = pixel;
      }
      this.#indices[i] = lastIndex;
    }
    this.#count = count;
    return true;
  }

  /** Packs the `length` pixels of the last `index`, which returned true, into `into[at]`. */
  pack(length: number, into: Uint8Array, at: number): void {
    const bits = bitsFor(this.#count);
    if (bits === 0) return;
    const perByte = 8 / bits;
    for (let i = 0; i < length; i += perByte) {
      let byte = 0;
      for (let j = 0; j < perByte && i + j < length; j++) byte |= this.#indices[i + j]! << (j * bits);
      into[at++] = byte;
    }
  }
}

/** Undoes `pack`; false if an index has no colour. */
export function unpack(packed: Uint8Array, colours: readonly number[], pixels: Uint32Array, length: number): boolean {
  const bits = bitsFor(colours.length);
  if (bits === 0) {
    pixels.fill(colours[0]!, 0, length);
    return true;
  }
  const perByte = 8 / bits;
  const mask = (1 << bits) - 1;
  for (let i = 0; i < length; i++) {
    const colour = colours[(packed[Math.floor(i / perByte)]! >> ((i % perByte) * bits)) & mask];
    if (colour === undefined) return false;
    pixels[i] = colour;
  }
  return true;
}
