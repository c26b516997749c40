import { DRM_FORMAT, formatName, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { Damage } from '../../src/core/damage.ts';
import { contains, EMPTY_RECT, MutableRect, type Rect, sameRect, type Size } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { loadPixman, type Pixman, type PixmanBits, pixmanFormat } from '../../src/sys/lib/pixman.ts';
import { KmsBuffer } from './buffer.ts';
import type { KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import type { Plane } from './resources.ts';

/** Smooth scaling reads the neighbours of each pixel, so damage grows by this much. */
const FILTER_REACH = 1;

/** A buffer as large as the screen. `stale` is what changed since it was last drawn. */
interface Target {
  readonly buffer: KmsBuffer;
  readonly bits: PixmanBits;
  readonly stale: Damage;
}

/** What is drawn: rectangle `from` of a buffer, at rectangle `to` of the screen. */
export interface ComposedPicture {
  readonly buffer: KmsBuffer;
  readonly from: Rect;
  readonly to: Rect;
}

/**
 * Lets the CPU do what the planes cannot: it draws the picture, scaled, and the cursor into one of
 * two buffers that the screen shows in turn. Only what changed since a buffer was last drawn is
 * drawn again.
 */
export class Composer implements Disposable {
  readonly #device: KmsDevice;
  readonly #screen: Rect;
  readonly #format: Fourcc;
  #targets: readonly [Target, Target] | null = null;
  #turn = 0;
  /** The previous frame was drawn here too, so that `stale` is complete. */
  #isContinuous = false;
  readonly #from = new MutableRect();
  readonly #to = new MutableRect();
  readonly #cursor = new MutableRect();
  readonly #area = new MutableRect();
  readonly #changed = new Damage();

  /** `format` has to be one that the primary plane shows and pixman draws. */
  constructor(device: KmsDevice, screen: Size, format: Fourcc) {
    this.#device = device;
    this.#screen = { x: 0, y: 0, width: screen.width, height: screen.height };
    this.#format = format;
  }

  /** The parts of the screen that the last composed frame changed; valid until the next one. */
  get changed(): Damage {
    return this.#changed;
  }

  /** The buffer that the next frame is drawn into; the screen shows the other one. KmsError `no-buffer`. */
  get next(): KmsBuffer {
    return this.#ready()[this.#turn]!.buffer;
  }

  /** A frame was shown that was not drawn here. */
  skip(): void {
    this.#isContinuous = false;
  }

  /**
   * Draws a frame into `next`; the caller calls `turn` once that is committed. `damage` is in pixels
   * of the picture's buffer. KmsError `cannot-compose` if the CPU cannot read a buffer or draw its format.
   */
  compose(picture: ComposedPicture, cursor: ComposedPicture | null, damage: Damage): void {
    const targets = this.#ready();
    const pixman = loadPixman();
    if (!pixman)
      throw new KmsError(
        'cannot-compose',
        'scaling and drawing need libpixman-1.so.0: install the package libpixman-1-0',
      );
    const source = bitsOf(picture.buffer);
    const image = cursor && bitsOf(cursor.buffer);
    this.#collect(picture, cursor, damage);
    for (const { stale } of targets) stale.addAll(this.#changed);
    const target = targets[this.#turn]!;
    target.buffer.beginWrite();
    try {
      this.#draw(pixman, target, picture, source, false);
      if (cursor && image) this.#draw(pixman, target, cursor, image, true);
    } finally {
      target.buffer.endWrite();
    }
    target.stale.clear();
  }

  /** The buffer drawn last belongs to the screen now. */
  turn(): void {
    this.#turn = 1 - this.#turn;
  }

  [Symbol.dispose](): void {
    for (const { buffer } of this.#targets ?? []) buffer[Symbol.dispose]();
    this.#targets = null;
  }

  /** Collects in `#changed` what differs from the previous frame. */
  #collect(picture: ComposedPicture, cursor: ComposedPicture | null, damage: Damage): void {
    const { from, to } = picture;
    const changed = this.#changed;
    changed.clear();
    if (!this.#isContinuous || !sameRect(from, this.#from) || !sameRect(to, this.#to)) {
      changed.addRect(this.#screen);
      this.#from.copy(from);
      this.#to.copy(to);
      this.#isContinuous = true;
    }
    const scaleX = to.width / from.width;
    const scaleY = to.height / from.height;
    const reach = scaleX === 1 && scaleY === 1 ? 0 : FILTER_REACH;
    for (let i = 0; i < damage.count; i++) {
      const x = Math.floor((damage.x(i) - from.x) * scaleX) - reach;
      const y = Math.floor((damage.y(i) - from.y) * scaleY) - reach;
      const right = Math.ceil((damage.x(i) + damage.width(i) - from.x) * scaleX) + reach;
      const bottom = Math.ceil((damage.y(i) + damage.height(i) - from.y) * scaleY) + reach;
      changed.add(to.x + x, to.y + y, right - x, bottom - y);
    }
    changed.addRect(this.#cursor);
    this.#cursor.copy(cursor?.to ?? EMPTY_RECT);
    changed.addRect(this.#cursor);
    changed.clip(this.#screen);
  }

  /** Draws the stale parts of a picture: over what is there, or in its place with black around. */
  #draw(
    pixman: Pixman,
    { stale, bits }: Target,
    { buffer, from, to }: ComposedPicture,
    source: PixmanBits,
    over: boolean,
  ): void {
    const area = this.#area;
    const isBegun = buffer.beginRead();
    try {
      for (let i = 0; i < stale.count; i++) {
        area.set(stale.x(i), stale.y(i), stale.width(i), stale.height(i));
        if (!over && !contains(to, area)) pixman.clear(bits, area);
        pixman.draw(source, from, bits, to, area, over);
      }
    } finally {
      if (isBegun) buffer.endRead();
    }
  }

  #ready(): readonly [Target, Target] {
    return (this.#targets ??= this.#makeTargets());
  }

  #makeTargets(): readonly [Target, Target] {
    using stack = new DisposableStack();
    const make = (): Target => {
      const buffer = stack.use(KmsBuffer.dumb(this.#device, this.#screen.width, this.#screen.height, this.#format));
      return { buffer, bits: bitsOf(buffer), stale: new Damage() };
    };
    const targets = [make(), make()] as const;
    stack.move();
    return targets;
  }
}

function bitsOf(buffer: KmsBuffer): PixmanBits {
  const format = pixmanFormat(buffer.format);
  if (format === null) throw new KmsError('cannot-compose', `pixman does not draw ${formatName(buffer.format)}`);
  return {
    address: buffer.pixels.address + buffer.layout.planes[0]!.offset,
    stride: buffer.stride,
    format,
    width: buffer.width,
    height: buffer.height,
  };
}

/** The format of buffers that fill the screen: one that the CPU draws, and nearly every plane shows. */
export function composedFormat(plane: Plane): Fourcc {
  const offered = [...plane.formats.formats()];
  return (
    [DRM_FORMAT.XRGB8888, DRM_FORMAT.XBGR8888, DRM_FORMAT.ARGB8888, DRM_FORMAT.RGB565].find((format) =>
      offered.includes(format),
    ) ?? DRM_FORMAT.XRGB8888
  );
}

/** Fills a buffer, whose format is one of `composedFormat`, with one colour (0xRRGGBB). Returns it. */
export function fillPlain(buffer: KmsBuffer, colour: number): KmsBuffer {
  const [red, green, blue] = [colour >>> 16, (colour >>> 8) & 0xff, colour & 0xff];
  const { bytes } = buffer.pixels;
  switch (buffer.format) {
    case DRM_FORMAT.RGB565:
      new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 1).fill(
        ((red >>> 3) << 11) | ((green >>> 2) << 5) | (blue >>> 3),
      );
      break;
    case DRM_FORMAT.XBGR8888:
      new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2).fill(
        ((blue << 16) | (green << 8) | red | 0xff000000) >>> 0,
      );
      break;
    default:
      new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2).fill((colour | 0xff000000) >>> 0);
  }
  return buffer;
}
