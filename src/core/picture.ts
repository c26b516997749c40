/** What a screen showed, as plain pixels that belong to whoever holds it. */
export interface Picture {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  /** Bytes R, G, B, A of each pixel, rows from the top without padding; A is 255 everywhere. */
  readonly data: Uint8Array;
}
