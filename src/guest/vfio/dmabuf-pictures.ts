import {
  DRM_FORMAT_MOD_LINEAR,
  formatInfo,
  type Fourcc,
  minPlaneSize,
  type Modifier,
} from '../../../protocols/drm-fourcc.ts';
import { type DmabufBacking, type Framebuffer, type MemoryPlane, newFramebufferId } from '../../core/framebuffer.ts';
import { dmabufSize } from '../../sys/dma-buf.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Mapping } from '../../sys/mapping.ts';
import { type PlaneAnswer, VfioError } from './device.ts';

/** More than guests flip between on a primary plane and a cursor. Each takes a descriptor. */
const CAPACITY = 32;

/** A plane's picture in a dma-buf. Owns the descriptor. */
export class DmabufPicture implements Framebuffer, Disposable {
  readonly id = newFramebufferId();
  /** The device's id. */
  readonly dmabufId: number;
  readonly width: number;
  readonly height: number;
  readonly format: Fourcc;
  readonly modifier: Modifier;
  readonly planes: readonly MemoryPlane[];
  readonly backing: DmabufBacking;
  lastUse = 0;
  readonly #stride: number;
  readonly #modifierLow: number;
  readonly #modifierHigh: number;
  readonly #dmabuf: OwnedFd;
  #pixels: Mapping | null = null;

  /** As `answer` describes it, of at most `maxSide`. Takes ownership of `dmabuf`, also on failure. VfioError `plane`. */
  constructor(answer: PlaneAnswer, dmabuf: OwnedFd, maxSide: number) {
    const { width, height, format, modifier, stride } = answer;
    this.dmabufId = answer.id;
    this.width = width;
    this.height = height;
    this.format = format;
    this.modifier = modifier;
    this.planes = [{ offset: 0, stride }];
    this.#stride = stride;
    this.#modifierLow = answer.modifierLow;
    this.#modifierHigh = answer.modifierHigh;
    this.#dmabuf = dmabuf;
    const isLinear = modifier === DRM_FORMAT_MOD_LINEAR;
    this.backing = { kind: 'dmabuf', dmabuf, ...(isLinear && { pixels: () => this.#map() }) };
    try {
      answer.check(maxSide);
      const size = dmabufSize(dmabuf);
      if (isLinear && this.#length > size)
        throw new VfioError('plane', `${width}x${height} with ${stride} bytes a row in a dma-buf of ${size} bytes`);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether the device means this picture. Allocates nothing. */
  matches(answer: PlaneAnswer): boolean {
    return (
      answer.width === this.width &&
      answer.height === this.height &&
      answer.format === this.format &&
      answer.stride === this.#stride &&
      answer.modifierLow === this.#modifierLow &&
      answer.modifierHigh === this.#modifierHigh
    );
  }

  [Symbol.dispose](): void {
    this.#pixels?.[Symbol.dispose]();
    this.#dmabuf[Symbol.dispose]();
  }

  get #length(): number {
    return minPlaneSize(formatInfo(this.format)!, 0, this.#stride, this.width, this.height);
  }

  #map(): Mapping {
    return (this.#pixels ??= Mapping.file(this.#dmabuf, 0, this.#length, 'read'));
  }
}

/**
 * The dma-bufs of a device that are open, by the device's ids. A guest that flips between buffers gets the same ids
 * again and again, so each is opened once. It has to be: some drivers count no reference for a dma-buf that they hand
 * out a second time.
 */
export class DmabufPictures {
  readonly #byId = new Map<number, DmabufPicture>();
  /** Their ids stand for other pictures now. */
  readonly #outdated: DmabufPicture[] = [];
  #clock = 0;

  get count(): number {
    return this.#byId.size;
  }

  /** The picture that the device describes, if it is open. Allocates nothing. */
  find(answer: PlaneAnswer): DmabufPicture | null {
    const picture = this.#byId.get(answer.id);
    if (!picture?.matches(answer)) return null;
    picture.lastUse = ++this.#clock;
    return picture;
  }

  /** Takes ownership. One with the same id is outdated from now on. */
  add(picture: DmabufPicture): void {
    const old = this.#byId.get(picture.dmabufId);
    if (old) this.#outdated.push(old);
    this.#byId.set(picture.dmabufId, picture);
    picture.lastUse = ++this.#clock;
  }

  /**
   * Gives up outdated pictures, and those above the capacity that were not used for longest; each is passed to
   * `destroyed` before. Keeps `primary` and `cursor`.
   */
  trim(primary: Framebuffer | null, cursor: Framebuffer | null, destroyed: (picture: DmabufPicture) => void): void {
    const isShown = (picture: DmabufPicture): boolean => picture === primary || picture === cursor;
    const kept = this.#outdated.filter(isShown);
    const given = this.#outdated.filter((picture) => !isShown(picture));
    this.#outdated.splice(0, Infinity, ...kept);
    const idle = [...this.#byId.values()].filter((picture) => !isShown(picture));
    const excess = Math.max(0, this.#byId.size - CAPACITY);
    given.push(...idle.toSorted((a, b) => a.lastUse - b.lastUse).slice(0, excess));
    this.#give(given, destroyed);
  }

  /** Gives up all pictures. */
  clear(destroyed: (picture: DmabufPicture) => void): void {
    this.#give([...this.#byId.values(), ...this.#outdated.splice(0)], destroyed);
  }

  #give(pictures: readonly DmabufPicture[], destroyed: (picture: DmabufPicture) => void): void {
    for (const picture of pictures) {
      if (this.#byId.get(picture.dmabufId) === picture) this.#byId.delete(picture.dmabufId);
      destroyed(picture);
      picture[Symbol.dispose]();
    }
  }
}
