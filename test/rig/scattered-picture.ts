import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, formatInfo, type Fourcc, minPitch } from '../../protocols/drm-fourcc.ts';
import { UdmabufDriver, UdmabufError } from '../../src/sys/udmabuf.ts';
import { type Framebuffer, newFramebufferId } from '../../src/core/framebuffer.ts';
import type { Picture } from '../../src/core/picture.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../src/sys/mapping.ts';
import { createMemfd, F_SEAL_SHRINK } from '../../src/sys/memfd.ts';
import { PageRuns } from '../../src/sys/page-runs.ts';
import { centred } from './picture.ts';

export type PageOrder = 'ascending' | 'reversed' | 'scattered';

export interface ScatteredOptions {
  readonly format?: Fourcc;
  /** Bytes before the first row. */
  readonly offset?: number;
  /** Bytes after each row. */
  readonly padding?: number;
  readonly order?: PageOrder;
}

/** A guest's picture in the pages of a memfd, in the given order, and a dma-buf of these pages. */
export class ScatteredPicture implements Disposable {
  readonly framebuffer: Framebuffer;
  readonly ranges: PageRuns;
  readonly pixels: Mapping;
  readonly #memfd: OwnedFd;
  readonly #dmabuf: OwnedFd;

  constructor(driver: UdmabufDriver, width: number, height: number, options: ScatteredOptions = {}) {
    const { format = DRM_FORMAT.XRGB8888, offset = 0, padding = 0, order = 'scattered' } = options;
    const stride = minPitch(formatInfo(format)!, 0, width) + padding;
    const pages = Math.ceil((offset + stride * height) / PAGE_SIZE);
    const memfd = createMemfd('guest', pages * PAGE_SIZE, F_SEAL_SHRINK);
    this.#memfd = memfd;
    this.ranges = PageRuns.of(
      pageOrder(pages, order).map((page) => ({ memfd, offset: page * PAGE_SIZE, length: PAGE_SIZE })),
    );
    this.pixels = Mapping.linear(
      Array.from(this.ranges, ({ offset, length }) => ({ fd: memfd, offset, length })),
      'read-write',
    );
    this.#dmabuf = driver.create(this.ranges);
    const planes = [{ offset, stride }];
    this.framebuffer = {
      id: newFramebufferId(),
      width,
      height,
      format,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes,
      backing: { kind: 'dmabuf', dmabuf: this.#dmabuf },
    };
  }

  /** The framebuffer with pages instead of the dma-buf, for a bridge that is to create the dma-buf itself. */
  get asPages(): Framebuffer {
    return {
      ...this.framebuffer,
      backing: { kind: 'pages', isBlob: true, ranges: this.ranges, pixels: () => this.pixels },
    };
  }

  /** Fills it with noise that differs from pixel to pixel, so that a single misplaced pixel is detected. */
  fillNoise(seed: number): this {
    let state = seed * 2654435761 + 1;
    const { bytes } = this.pixels;
    for (let i = 0; i < bytes.length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      bytes[i] = state >>> 24;
    }
    return this;
  }

  /** Fills it with 32-bit pixel values, stored in little-endian order. */
  fill(value: (x: number, y: number) => number): this {
    const { width, height, planes } = this.framebuffer;
    const { offset, stride } = planes[0]!;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) this.pixels.view.setUint32(offset + y * stride + x * 4, value(x, y), true);
    return this;
  }

  /** What a screen of that size shows: the picture in the middle, black around it. */
  onScreen(width: number, height: number): Picture {
    const { width: ownWidth, height: ownHeight } = this.framebuffer;
    const data = new Uint8Array(ownWidth * ownHeight * 4);
    const out = new DataView(data.buffer);
    for (let y = 0; y < ownHeight; y++) {
      for (let x = 0; x < ownWidth; x++) out.setUint32((y * ownWidth + x) * 4, ((this.#rgb(x, y) << 8) | 255) >>> 0);
    }
    return centred({ width: ownWidth, height: ownHeight, data }, width, height);
  }

  [Symbol.dispose](): void {
    this.#dmabuf[Symbol.dispose]();
    this.pixels[Symbol.dispose]();
    this.#memfd[Symbol.dispose]();
  }

  /** Colour of one pixel as 0xRRGGBB. */
  #rgb(x: number, y: number): number {
    const { format, planes } = this.framebuffer;
    const { offset, stride } = planes[0]!;
    const { view } = this.pixels;
    if (format === DRM_FORMAT.RGB565) {
      const value = view.getUint16(offset + y * stride + x * 2, true);
      return (widen(value >> 11, 5) << 16) | (widen((value >> 5) & 63, 6) << 8) | widen(value & 31, 5);
    }
    const value = view.getUint32(offset + y * stride + x * 4, true);
    const isBgr = format === DRM_FORMAT.XBGR8888 || format === DRM_FORMAT.ABGR8888;
    return isBgr ? ((value & 255) << 16) | (value & 0xff00) | ((value >> 16) & 255) : value & 0xffffff;
  }
}

function widen(value: number, bits: number): number {
  return Math.round((value * 255) / ((1 << bits) - 1));
}

function pageOrder(pages: number, order: PageOrder): number[] {
  const ascending = Array.from({ length: pages }, (_, i) => i);
  if (order === 'ascending') return ascending;
  if (order === 'reversed') return ascending.toReversed();
  // Odd pages first, so that no page follows its neighbour.
  return [...ascending.filter((page) => page % 2 === 1), ...ascending.filter((page) => page % 2 === 0)];
}

/** Opens the machine's udmabuf driver. Throws the UdmabufError with the reason if that fails. */
export function openUdmabuf(): UdmabufDriver {
  const driver = UdmabufDriver.open();
  if (driver instanceof UdmabufError) throw driver;
  return driver;
}
