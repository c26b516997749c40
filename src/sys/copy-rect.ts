import { EINTR, SysError } from './errors.ts';
import type { BorrowedFd } from './fd.ts';
import { errno, memcpy, pread } from './libc.ts';
import { type Pixman, loadPixman, type Rects } from './lib/pixman.ts';
import type { PageRuns } from './page-runs.ts';

/** Memory at a fixed address: a Mapping, a NativeBuffer, or the bytes of a message. */
export interface Memory {
  readonly address: number;
  readonly length: number;
}

/** Runs of pages that are mapped in several places, as one after another. Owns no mapping. */
export class ScatteredMemory {
  readonly length: number;
  readonly runs: PageRuns;
  readonly #bases: Float64Array;

  /** Byte `offset` of `runs.memfds[i]` is at the address `bases[i] + offset`. */
  constructor(runs: PageRuns, bases: Float64Array) {
    this.runs = runs;
    this.#bases = bases;
    this.length = runs.length;
  }

  /** The address of a run's first byte. */
  address(run: number): number {
    return this.#bases[this.runs.memfdOf(run)]! + this.runs.offset(run);
  }
}

/**
 * Copies `rows` rows of `rowBytes` bytes between runs of memory, which must not overlap. Offsets and
 * strides are in bytes. Allocates nothing. RangeError, before anything is copied, if any byte lies
 * outside either. Only tests pass `pixman`.
 *
 * Not a method of Mapping, so that mapping memory does not load pixman.
 */
export function copyRect(
  dst: Memory,
  dstOffset: number,
  dstStride: number,
  src: Memory | ScatteredMemory,
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
  if (src instanceof ScatteredMemory) {
    gather(dst.address + dstOffset, dstStride, src, srcOffset, srcStride, rowBytes, rows);
    return;
  }
  const to = dst.address + dstOffset;
  const from = src.address + srcOffset;
  if (rows === 1 || (rowBytes === srcStride && rowBytes === dstStride)) {
    copyBytes(to, from, rowBytes * rows);
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

/** From so many rectangles on, one call of pixman for all of them costs less than one for each. */
const MANY = 3;

/**
 * `copyRect` for each of `rects`, which are at the same place on both sides: pixel 0, 0 is at the start of `dst`, and at
 * `srcOffset` of `src`. Pixels have `unit` bytes.
 */
export function copyRects(
  dst: Memory,
  dstStride: number,
  src: Memory | ScatteredMemory,
  srcOffset: number,
  srcStride: number,
  unit: number,
  rects: Rects,
  pixman: Pixman | null = loadPixman(),
): void {
  if (
    rects.count >= MANY &&
    !(src instanceof ScatteredMemory) &&
    pixman?.copyRects(
      src.address,
      src.length,
      srcOffset,
      srcStride,
      dst.address,
      dst.length,
      dstStride,
      unit,
      rects,
    ) === true
  )
    return;
  for (let i = 0; i < rects.count; i++) {
    const x = rects.x(i) * unit;
    const y = rects.y(i);
    copyRect(
      dst,
      y * dstStride + x,
      dstStride,
      src,
      srcOffset + y * srcStride + x,
      srcStride,
      rects.width(i) * unit,
      rects.height(i),
      pixman,
    );
  }
}

function gather(
  to: number,
  toStride: number,
  from: ScatteredMemory,
  offset: number,
  stride: number,
  rowBytes: number,
  rows: number,
): void {
  const { runs } = from;
  // Rows without gaps are one.
  const isWhole = rowBytes === stride && rowBytes === toStride;
  const pieceBytes = isWhole ? rowBytes * rows : rowBytes;
  const pieces = isWhole ? 1 : rows;
  let run = runs.runAt(offset);
  for (let piece = 0; piece < pieces; piece++) {
    let at = offset + piece * stride;
    const end = at + pieceBytes;
    const toAddress = to + piece * toStride - at;
    while (at < end) {
      while (runs.end(run) <= at) run++;
      const next = Math.min(end, runs.end(run));
      copyBytes(toAddress + at, from.address(run) + (at - runs.start(run)), next - at);
      at = next;
    }
  }
}

/**
 * `copyRect` from a file, for one that must not be mapped: in one read where the rows have no gaps, else one for each.
 * Nothing says which of the rows are new if it throws: SysError ENODATA at the end of the file, or pread's.
 */
export function readRect(
  dst: Memory,
  dstOffset: number,
  dstStride: number,
  src: BorrowedFd,
  srcOffset: number,
  srcStride: number,
  rowBytes: number,
  rows: number,
): void {
  if (rowBytes === 0 || rows === 0) return;
  checkInside('destination', dst.length, dstOffset, dstStride, rowBytes, rows);
  const { fd } = src;
  if (rowBytes === srcStride && rowBytes === dstStride) {
    readAll(fd, dst.address + dstOffset, rowBytes * rows, srcOffset);
    return;
  }
  for (let row = 0; row < rows; row++)
    readAll(fd, dst.address + dstOffset + row * dstStride, rowBytes, srcOffset + row * srcStride);
}

/**
 * glibc copies less than about the size of the second cache by `rep movsb`, which does not read the lines of memory that
 * it overwrites, but more by vectors, which do. Measured by `npm run bench -- copy`.
 */
const PIECE = 512 * 1024;

function copyBytes(to: number, from: number, length: number): void {
  for (let at = 0; at < length; at += PIECE) memcpy(to + at, from + at, Math.min(PIECE, length - at));
}

function readAll(fd: number, address: number, length: number, position: number): void {
  for (let done = 0; done < length;) {
    const count = pread(fd, address + done, length - done, position + done);
    if (count > 0) {
      done += count;
      continue;
    }
    if (count === 0) throw new SysError('pread', 'ENODATA', `the file ends before ${position + length}`);
    const failure = errno();
    if (failure !== EINTR) throw SysError.fromErrno('pread', failure);
  }
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
