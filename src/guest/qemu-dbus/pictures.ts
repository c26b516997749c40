/** What a console shows, as framebuffers: in memory of this process, in a memory file of QEMU, and in dma-bufs. */
import { fstatSync } from 'node:fs';
import { PageRuns } from '../../sys/page-runs.ts';
import {
  DRM_FORMAT,
  DRM_FORMAT_MOD_LINEAR,
  formatInfo,
  type Fourcc,
  minPitch,
  minPlaneSize,
  type Modifier,
} from '../../../protocols/drm-fourcc.ts';
import { fourccOfPixman } from '../../../protocols/pixman.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import {
  type DmabufBacking,
  type FileBacking,
  type Framebuffer,
  type MemoryPlane,
  newFramebufferId,
  type PagesBacking,
} from '../../core/framebuffer.ts';
import { copyRect, type Memory } from '../../sys/copy-rect.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { dmabufSize, isDmabuf } from '../../sys/dma-buf.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Mapping } from '../../sys/mapping.ts';
import { getSeals } from '../../sys/memfd.ts';
import { QemuDbusError } from './errors.ts';

const MAX_SIDE = 16384;
const MAX_STRIDE = 8 * MAX_SIDE;
const MAX_CURSOR_SIDE = 512;
const CURSOR_PIXEL = 4;
/** Bytes that are copied at once. */
const PIECE = 2 ** 20;

/** A framebuffer of a console. Dispose it after `destroyed`. */
export interface ConsolePicture extends Framebuffer, Disposable {
  /** How its pixels come here, for people. */
  readonly way: 'copied' | 'mapped' | 'dmabuf';
}

/** Pixels in rows, as QEMU describes them. */
export interface Rows {
  readonly width: number;
  readonly height: number;
  /** In bytes. */
  readonly stride: number;
  /** A pixman_format_code_t. */
  readonly pixman: number;
}

interface Layout {
  readonly format: Fourcc;
  readonly bytesPerPixel: number;
  /** Bytes from the first pixel to the last. */
  readonly length: number;
}

/** Throws QemuDbusError `malformed`. */
function layoutOf({ width, height, stride, pixman }: Rows): Layout {
  const format = fourccOfPixman(pixman);
  const info = format === null ? null : formatInfo(format);
  const isPossible =
    info !== null &&
    width > 0 &&
    height > 0 &&
    width <= MAX_SIDE &&
    height <= MAX_SIDE &&
    stride >= minPitch(info, 0, width) &&
    stride <= MAX_STRIDE;
  if (!isPossible)
    throw new QemuDbusError(
      'malformed',
      `a picture of ${width}x${height}, ${stride} bytes a row, in pixman's format 0x${pixman.toString(16)}`,
    );
  const { bytesPerBlock } = info.planes[0]!;
  return { format: format!, bytesPerPixel: bytesPerBlock, length: minPlaneSize(info, 0, stride, width, height) };
}

/** Memory that is charged to `budget`, and what it is disposed by. Throws QemuDbusError `budget`, SysError ENOMEM. */
function allocate(size: number, budget: MemoryBudget): [Mapping, DisposableStack] {
  using stack = new DisposableStack();
  if (!budget.reserve(size))
    throw new QemuDbusError('budget', `no memory for a picture of ${size} bytes: raise --max-guest-memory`);
  stack.defer(() => budget.release(size));
  return [stack.use(Mapping.anonymous(size)), stack.move()];
}

/** A picture whose pixels QEMU sends. */
export class CopiedPicture implements ConsolePicture {
  readonly way = 'copied';
  readonly id = newFramebufferId();
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier = DRM_FORMAT_MOD_LINEAR;
  readonly planes: readonly MemoryPlane[];
  readonly backing: PagesBacking;
  readonly #pixels: Mapping;
  readonly #rows: Rows;
  readonly #bytesPerPixel: number;
  readonly #stack: DisposableStack;

  /** Its memory is charged to `budget`. QemuDbusError `malformed` or `budget`. */
  constructor(rows: Rows, budget: MemoryBudget) {
    const { format, bytesPerPixel } = layoutOf(rows);
    const { width, height, stride } = rows;
    [this.#pixels, this.#stack] = allocate(stride * height, budget);
    this.#rows = rows;
    this.#bytesPerPixel = bytesPerPixel;
    this.width = width;
    this.height = height;
    this.format = format;
    this.planes = [{ offset: 0, stride }];
    this.backing = { kind: 'pages', isBlob: false, ranges: PageRuns.none, pixels: () => this.#pixels };
  }

  matches({ width, height, stride, pixman }: Rows): boolean {
    const mine = this.#rows;
    return width === mine.width && height === mine.height && stride === mine.stride && pixman === mine.pixman;
  }

  /**
   * Takes over pixels for the rectangle at x, y: a piece of them, from row `from` on. Returns the row after the piece.
   * Throws QemuDbusError `malformed`.
   */
  write(x: number, y: number, rows: Rows, pixels: Memory, from = 0): number {
    const { bytesPerPixel, length } = layoutOf(rows);
    const { width, height, stride, pixman } = rows;
    const fits =
      pixman === this.#rows.pixman && x >= 0 && y >= 0 && x + width <= this.width && y + height <= this.height;
    if (!fits || pixels.length < length)
      throw new QemuDbusError(
        'malformed',
        `${pixels.length} bytes for ${width}x${height} at ${x},${y} of a picture of ${this.width}x${this.height}`,
      );
    const rowBytes = width * bytesPerPixel;
    const count = Math.min(height - from, Math.max(1, Math.floor(PIECE / rowBytes)));
    const at = (y + from) * this.#rows.stride + x * this.#bytesPerPixel;
    copyRect(this.#pixels, at, this.#rows.stride, pixels, from * stride, stride, rowBytes, count);
    return from + count;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** A picture in memory of QEMU, which is read. */
export class MappedPicture implements ConsolePicture {
  readonly way = 'mapped';
  readonly id = newFramebufferId();
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier = DRM_FORMAT_MOD_LINEAR;
  readonly planes: readonly MemoryPlane[];
  readonly backing: FileBacking;
  readonly #file: OwnedFd;

  /** Takes ownership of `file`, also on failure. QemuDbusError `malformed`; SysError for a file that is no memory file. */
  constructor(file: OwnedFd, offset: number, rows: Rows) {
    using owned = new DisposableStack();
    owned.use(file);
    const { format, length } = layoutOf(rows);
    // Before anything else: no other call on a file of a peer is known not to wait.
    getSeals(file);
    const { size } = fstatSync(file.fd);
    if (offset + length > size)
      throw new QemuDbusError('malformed', `${length} bytes at ${offset} of a file that has ${size}`);
    this.width = rows.width;
    this.height = rows.height;
    this.format = format;
    this.planes = [{ offset, stride: rows.stride }];
    this.backing = { kind: 'file', file };
    this.#file = file;
    owned.move();
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** A dma-buf, as QEMU describes it. */
export interface DmabufLayout {
  readonly width: number;
  readonly height: number;
  readonly fourcc: number;
  readonly modifier: bigint;
  readonly planes: readonly MemoryPlane[];
  readonly isBottomUp: boolean;
}

/** A picture in a dma-buf of the guest's GPU, or of QEMU's. */
export class DmabufPicture implements ConsolePicture {
  readonly way = 'dmabuf';
  readonly id = newFramebufferId();
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier: Modifier;
  readonly planes: readonly MemoryPlane[];
  readonly backing: DmabufBacking;
  readonly isBottomUp: boolean;
  readonly #dmabuf: OwnedFd;
  readonly #length: number;
  #pixels: Mapping | null = null;

  /** Takes ownership of `dmabuf`, also on failure. QemuDbusError `malformed`. */
  constructor(dmabuf: OwnedFd, { width, height, fourcc, modifier, planes, isBottomUp }: DmabufLayout) {
    using owned = new DisposableStack();
    owned.use(dmabuf);
    const info = formatInfo(fourcc);
    const isPossible =
      info !== null &&
      width > 0 &&
      height > 0 &&
      width <= MAX_SIDE &&
      height <= MAX_SIDE &&
      planes.length >= 1 &&
      planes.length <= 4 &&
      planes.every(({ stride }) => stride > 0 && stride <= MAX_STRIDE);
    if (!isPossible)
      throw new QemuDbusError('malformed', `a dma-buf of ${width}x${height} in format 0x${fourcc.toString(16)}`);
    const isLinear = modifier === DRM_FORMAT_MOD_LINEAR && info.planes.length === 1;
    const { offset, stride } = planes[0]!;
    if (isLinear && stride < minPitch(info, 0, width))
      throw new QemuDbusError('malformed', `a dma-buf of ${width} pixels and ${stride} bytes a row`);
    this.#length = offset + (isLinear ? minPlaneSize(info, 0, stride, width, height) : 0);
    checkDmabuf(dmabuf);
    const size = dmabufSize(dmabuf);
    if (this.#length > size)
      throw new QemuDbusError('malformed', `${this.#length} bytes of a dma-buf that has ${size}`);
    this.width = width;
    this.height = height;
    this.format = fourcc as Fourcc;
    this.modifier = modifier as Modifier;
    this.planes = planes;
    this.isBottomUp = isBottomUp;
    this.backing = { kind: 'dmabuf', dmabuf, ...(isLinear && { pixels: () => this.#map() }) };
    this.#dmabuf = dmabuf;
    owned.move();
  }

  /** As the constructor; of planes that are all in one dma-buf. Takes ownership of the descriptors, also on failure. */
  static ofPlanes(dmabufs: readonly OwnedFd[], layout: DmabufLayout): DmabufPicture {
    using rest = new DisposableStack();
    for (const other of dmabufs.slice(1)) rest.use(other);
    const [dmabuf] = dmabufs;
    if (!dmabuf) throw new QemuDbusError('malformed', 'a picture without a plane');
    using first = new DisposableStack();
    first.use(dmabuf);
    for (const each of dmabufs) checkDmabuf(each);
    const inodes = dmabufs.map(({ fd }) => fstatSync(fd, { bigint: true }).ino);
    if (new Set(inodes).size > 1)
      throw new QemuDbusError('malformed', `a picture in ${dmabufs.length} different dma-bufs`);
    first.move();
    return new DmabufPicture(dmabuf, layout);
  }

  [Symbol.dispose](): void {
    this.#pixels?.[Symbol.dispose]();
    this.#dmabuf[Symbol.dispose]();
  }

  #map(): Mapping {
    return (this.#pixels ??= Mapping.file(this.#dmabuf, 0, this.#length, 'read'));
  }
}

/** Throws QemuDbusError `malformed`, before any call that might wait for the file. */
function checkDmabuf(dmabuf: OwnedFd): void {
  if (!isDmabuf(dmabuf)) throw new QemuDbusError('malformed', 'a descriptor that is no dma-buf');
}

/** A cursor's image, whose pixels QEMU sends. */
export class CursorPicture implements Framebuffer, Disposable {
  readonly id = newFramebufferId();
  readonly width: number;
  readonly height: number;
  readonly format = DRM_FORMAT.ARGB8888;
  readonly modifier = DRM_FORMAT_MOD_LINEAR;
  readonly planes: readonly MemoryPlane[];
  readonly backing: PagesBacking;
  readonly #pixels: Mapping;
  readonly #stack: DisposableStack;

  /** Its memory is charged to `budget`. QemuDbusError `malformed` or `budget`. */
  constructor(width: number, height: number, pixels: Memory, budget: MemoryBudget) {
    const isPossible = width > 0 && height > 0 && width <= MAX_CURSOR_SIDE && height <= MAX_CURSOR_SIDE;
    const stride = width * CURSOR_PIXEL;
    if (!isPossible || pixels.length < stride * height)
      throw new QemuDbusError('malformed', `a cursor of ${width}x${height} in ${pixels.length} bytes`);
    [this.#pixels, this.#stack] = allocate(stride * height, budget);
    copyRect(this.#pixels, 0, stride, pixels, 0, stride, stride, height);
    this.width = width;
    this.height = height;
    this.planes = [{ offset: 0, stride }];
    this.backing = { kind: 'pages', isBlob: false, ranges: PageRuns.none, pixels: () => this.#pixels };
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}
