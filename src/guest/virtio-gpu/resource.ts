import { DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import { newFramebufferId, type Framebuffer, type PixelLayout } from '../../core/framebuffer.ts';
import type { GuestPages, MappedPages } from './guest-pages.ts';
import type { Store } from './store.ts';

/** All eight virtio-gpu formats have four bytes a pixel in one plane. */
export const BYTES_PER_PIXEL = 4;

/** One plane of linear pixels that can be described again without allocating. */
export class LinearLayout implements PixelLayout {
  width = 0;
  height = 0;
  format = 0 as Fourcc;
  readonly modifier = DRM_FORMAT_MOD_LINEAR;
  readonly planes: readonly [{ offset: number; stride: number }] = [{ offset: 0, stride: 0 }];

  set(width: number, height: number, format: Fourcc, offset: number, stride: number): this {
    this.width = width;
    this.height = height;
    this.format = format;
    this.planes[0].offset = offset;
    this.planes[0].stride = stride;
    return this;
  }

  copy(layout: PixelLayout): this {
    const { offset, stride } = layout.planes[0]!;
    return this.set(layout.width, layout.height, layout.format, offset, stride);
  }
}

export function sameLayout(a: PixelLayout, b: PixelLayout): boolean {
  return (
    a.width === b.width &&
    a.height === b.height &&
    a.format === b.format &&
    a.planes[0]!.offset === b.planes[0]!.offset &&
    a.planes[0]!.stride === b.planes[0]!.stride
  );
}

/** A 2D resource (it has a layout) or a guest blob (SET_SCANOUT_BLOB brings one each time). */
export class Resource {
  readonly id: number;
  readonly layout: PixelLayout | null;
  /** Bytes its pixels take, from the start of the backing. */
  readonly byteLength: number;
  /** What the guest attached; null when nothing is. */
  guest: GuestPages | null = null;
  /** Where the pixels are: in `guest`, or saved from there; null when there are none. */
  pixels: MappedPages | Store | null = null;
  /** Over `pixels`, oldest first. */
  framebuffers: Framebuffer[] = [];
  /** Something was transferred: the pixels must outlive their backing. */
  isWritten = false;
  uuid: Uint8Array | null = null;

  constructor(id: number, byteLength: number, layout: PixelLayout | null) {
    this.id = id;
    this.byteLength = byteLength;
    this.layout = layout;
  }

  get isBlob(): boolean {
    return this.layout === null;
  }

  /** The framebuffer of this layout, the same one each time; null when there are no pixels. */
  framebuffer(layout: PixelLayout): Framebuffer | null {
    if (!this.pixels) return null;
    for (const known of this.framebuffers) if (sameLayout(known, layout)) return known;
    const { width, height, format, modifier, planes } = layout;
    const framebuffer: Framebuffer = { id: newFramebufferId(), width, height, format, modifier, planes: [{ ...planes[0]! }], backing: this.pixels };
    this.framebuffers.push(framebuffer);
    return framebuffer;
  }
}
