import { memcpy } from './libc.ts';
import type { Mapping } from './mapping.ts';
import { type Pixman, loadPixman } from './lib/pixman.ts';

/**
 * Copies `rows` rows of `rowBytes` bytes between mappings, which must not overlap. Offsets and
 * strides are in bytes. Allocates nothing. RangeError, before anything is copied, if any byte lies
 * outside either mapping. Only tests pass `pixman`.
 *
 * Not a method of Mapping, so that mapping memory does not load pixman.
 */
export function copyRect(
  dst: Mapping,
  dstOffset: number,
  dstStride: number,
  src: Mapping,
  srcOffset: number,
  srcStride: number,
  rowBytes: number,
  rows: number,
  pixman: Pixman | null = loadPixman(),
): void {
  if (!(rowBytes >= 0 && rows >= 0)) throw new RangeError(`rectangle of ${rows} rows of ${rowBytes} bytes`);
  if (rowBytes === 0 || rows === 0) return;
  checkInside('destination', dst.length, dstOffset, dstStride, rowBytes, rows);
  checkInside('source', src.length, srcOffset, srcStride, rowBytes, rows);
  const to = dst.address + dstOffset;
  const from = src.address + srcOffset;
  if (rows === 1 || (rowBytes === srcStride && rowBytes === dstStride)) {
    memcpy(to, from, rowBytes * rows);
    return;
  }
  if (
    pixman?.copyRows(
      src.address,
      src.length,
      srcOffset,
      srcStride,
      dst.address,
      dst.length,
      dstOffset,
      dstStride,
      rowBytes,
      rows,
    ) === true
  )
    return;
  for (let row = 0; row < rows; row++) memcpy(to + row * dstStride, from + row * srcStride, rowBytes);
}

function checkInside(
  side: string,
  length: number,
  offset: number,
  stride: number,
  rowBytes: number,
  rows: number,
): void {
  const end = offset + stride * (rows - 1) + rowBytes;
  // Written so that NaN is refused.
  if (!(offset >= 0 && (rows === 1 || stride >= rowBytes) && end <= length)) {
    throw new RangeError(
      `${side} rectangle (offset ${offset}, stride ${stride}, ${rows} rows of ${rowBytes} bytes) does not fit in ${length} bytes`,
    );
  }
}
