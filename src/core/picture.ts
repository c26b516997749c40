/** A captured screen as plain pixels, shared with nothing. */
export interface Picture {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  /** Bytes R, G, B, A of each pixel, rows from the top without padding; A is 255 everywhere. */
  readonly data: Uint8Array;
}
