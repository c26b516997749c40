import { type Fourcc, type Modifier, opaqueOf } from '../../protocols/drm-fourcc.ts';
import type { FormatSet } from '../../src/core/format-set.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { type BorrowedFd, dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { type BufferOwner, SurfaceBuffer } from './buffer.ts';
import type { Compositor } from './compositor.ts';

/** An owner that knows what the compositor imports, and learns what it refuses. */
export interface DmabufOwner extends BufferOwner {
  readonly imports: FormatSet;
  /** What to call this modifier: INVALID for a compositor that knows the format without any. */
  nameOf(format: Fourcc, modifier: Modifier): Modifier;
  /** The compositor takes no such buffers after all. */
  importFailed(format: Fourcc, modifier: Modifier): void;
}

/**
 * A framebuffer's dma-buf. The compositor is always asked by the request it may refuse: a refusal
 * of `create_immed` may end the connection, and an answer costs one roundtrip per framebuffer, not
 * per frame.
 */
export class DmabufBuffer extends SurfaceBuffer {
  readonly framebuffer: Framebuffer;
  readonly #dmabufOwner: DmabufOwner;
  readonly #dmabuf: OwnedFd;

  /** `dmabuf` stays the caller's. SysError EMFILE. */
  constructor(owner: DmabufOwner, framebuffer: Framebuffer, dmabuf: BorrowedFd) {
    super(owner, framebuffer.width, framebuffer.height);
    this.framebuffer = framebuffer;
    this.#dmabufOwner = owner;
    this.#dmabuf = dupFd(dmabuf);
  }

  override get isImport(): boolean {
    return true;
  }

  protected override create(compositor: Compositor, isOpaque: boolean): void {
    if (!compositor.dmabuf) return;
    const { width, height, format, modifier, planes } = this.framebuffer;
    const { imports } = this.#dmabufOwner;
    const opaque = isOpaque ? opaqueOf(format) : null;
    const shown = opaque !== null && imports.has(opaque, modifier) ? opaque : format;
    const named = this.#dmabufOwner.nameOf(shown, modifier);
    const params = compositor.dmabuf.createParams();
    planes.forEach(({ offset, stride }, index) => params.add(this.#dmabuf, index, offset, stride, Number(named >> 32n), Number(named & 0xffff_ffffn)));
    params.listener = {
      created: (wlBuffer) => {
        params[Symbol.dispose]();
        this.adopt(compositor, wlBuffer);
        this.owner.bufferReady(this);
      },
      failed: () => {
        params[Symbol.dispose]();
        this.#dmabufOwner.importFailed(shown, modifier);
      },
    };
    params.create(width, height, shown, 0);
  }

  protected override free(): void {
    this.#dmabuf[Symbol.dispose]();
  }
}
