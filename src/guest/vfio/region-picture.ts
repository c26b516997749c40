import { DRM_FORMAT_MOD_LINEAR, formatInfo, type Fourcc, minPlaneSize } from '../../../protocols/drm-fourcc.ts';
import { VFIO_REGION_INFO_FLAG_MMAP } from '../../../protocols/vfio.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import { Damage } from '../../core/damage.ts';
import { type Framebuffer, type MemoryPlane, newFramebufferId, type PagesBacking } from '../../core/framebuffer.ts';
import { copyRect } from '../../sys/copy-rect.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { Mapping, PAGE_SIZE } from '../../sys/mapping.ts';
import { createMemfd } from '../../sys/memfd.ts';
import { PageRuns } from '../../sys/page-runs.ts';
import { sameBytes } from '../../sys/same-bytes.ts';
import { type PlaneAnswer, type VfioDevice, VfioError } from './device.ts';

/** Rows that are compared in one call, and pixels of a tile's row. */
const BAND = 16;
const TILE = 64;

/**
 * A plane's picture in a region of the device, which says nothing about what changes in it. It is compared with a copy,
 * and the tiles that differ are copied: outputs are shown the copy, which they may share.
 *
 *     step() true ... step() false: `damage` has what changed since it was cleared
 */
export class RegionPicture implements Framebuffer, Disposable {
  readonly id = newFramebufferId();
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier = DRM_FORMAT_MOD_LINEAR;
  readonly planes: readonly MemoryPlane[];
  readonly backing: PagesBacking;
  readonly damage = new Damage();
  readonly #region: number;
  readonly #stride: number;
  readonly #bytesPerPixel: number;
  readonly #live: Mapping;
  readonly #copy: Mapping;
  readonly #stack: DisposableStack;
  #row = 0;
  /** The copy has nothing yet. */
  #isNew = true;
  #copiedBytes = 0;

  /** As the device's answer describes it, of at most `maxSide`; the copy is charged to `budget`. VfioError `plane`, SysError. */
  constructor(device: VfioDevice, budget: MemoryBudget, maxSide: number) {
    const { answer } = device;
    answer.check(maxSide);
    const { width, height, format, stride } = answer;
    const info = formatInfo(format)!;
    const { bytesPerBlock, blockWidth, blockHeight } = info.planes[0]!;
    if (answer.modifier !== DRM_FORMAT_MOD_LINEAR || blockWidth * blockHeight > 1)
      throw new VfioError('plane', 'a plane in a region whose pixels are not bytes in rows');
    const length = minPlaneSize(info, 0, stride, width, height);
    const region = device.region(answer.id);
    if (!region || (region.flags & VFIO_REGION_INFO_FLAG_MMAP) === 0 || region.size < length)
      throw new VfioError('plane', `${length} bytes of region ${answer.id}, which has fewer or cannot be mapped`);
    using stack = new DisposableStack();
    const size = Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
    if (!budget.reserve(size))
      throw new VfioError('plane', `no memory for a copy of ${size} bytes: raise --max-guest-memory`);
    stack.defer(() => budget.release(size));
    const memfd = stack.use(createMemfd('scanout-vfio', size));
    this.#copy = stack.use(Mapping.file(memfd, 0, size, 'read-write'));
    this.#live = stack.use(device.file.map(region.offset, length));
    this.#region = answer.id;
    this.width = width;
    this.height = height;
    this.format = format;
    this.planes = [{ offset: 0, stride }];
    this.#stride = stride;
    this.#bytesPerPixel = bytesPerBlock;
    const ranges = PageRuns.of([{ memfd, offset: 0, length: size }]);
    this.backing = { kind: 'pages', isBlob: true, ranges, pixels: () => this.#copy };
    this.#stack = stack.move();
  }

  /** Whether the device means this picture. Allocates nothing. */
  matches(answer: PlaneAnswer): boolean {
    return (
      answer.id === this.#region &&
      answer.width === this.width &&
      answer.height === this.height &&
      answer.format === this.format &&
      answer.stride === this.#stride &&
      answer.modifierLow === 0 &&
      answer.modifierHigh === 0
    );
  }

  get copiedBytes(): number {
    return this.#copiedBytes;
  }

  /** `damage` is all of it. */
  damageWhole(): void {
    this.damage.add(0, 0, this.width, this.height);
  }

  /** Brings the next band of the copy up to date. False: it was the last, and the next call starts at the top. */
  step(): boolean {
    const y = this.#row;
    const rows = Math.min(BAND, this.height - y);
    const start = y * this.#stride;
    const length = this.#stride * (rows - 1) + this.width * this.#bytesPerPixel;
    if (this.#isNew || !sameBytes(this.#live, start, this.#copy, start, length)) this.#update(y, rows);
    this.#row = y + rows;
    if (this.#row < this.height) return true;
    this.#row = 0;
    this.#isNew = false;
    return false;
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #update(y: number, rows: number): void {
    let from = -1;
    for (let x = 0; x < this.width; x += TILE) {
      const hasChanged = this.#isNew || this.#differs(x, y, rows);
      if (hasChanged && from < 0) from = x;
      if (hasChanged || from < 0) continue;
      this.#take(from, y, x - from, rows);
      from = -1;
    }
    if (from >= 0) this.#take(from, y, this.width - from, rows);
  }

  #differs(x: number, y: number, rows: number): boolean {
    const length = Math.min(TILE, this.width - x) * this.#bytesPerPixel;
    for (let row = y; row < y + rows; row++) {
      const at = row * this.#stride + x * this.#bytesPerPixel;
      if (!sameBytes(this.#live, at, this.#copy, at, length)) return true;
    }
    return false;
  }

  #take(x: number, y: number, width: number, rows: number): void {
    const at = y * this.#stride + x * this.#bytesPerPixel;
    const bytes = width * this.#bytesPerPixel;
    copyRect(this.#copy, at, this.#stride, this.#live, at, this.#stride, bytes, rows);
    this.#copiedBytes += bytes * rows;
    this.damage.add(x, y, width, rows);
  }
}
