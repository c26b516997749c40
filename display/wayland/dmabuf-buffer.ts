import { formatName } from '../../protocols/drm-fourcc.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused } from '../../src/core/output.ts';
import { SysError } from '../../src/sys/errors.ts';
import { dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { BufferPoints } from './buffer-points.ts';
import { type BufferOwner, SurfaceBuffer } from './buffer.ts';
import type { Compositor } from './compositor.ts';
import type { FormatPair } from './dmabuf-formats.ts';
import type { DmabufImports } from './dmabuf-imports.ts';
import type { ExplicitSync } from './explicit-sync.ts';

/** An owner that knows what the compositor imports, and learns what it refuses. */
export interface DmabufOwner extends BufferOwner {
  readonly name: string;
  readonly dmabufs: DmabufImports;
  /** The compositor takes no buffers of this name after all. */
  importFailed(name: FormatPair): void;
}

/**
 * A framebuffer's dma-buf. The compositor is always asked by `create`, which it may refuse: that
 * it took one buffer of a format says nothing about the pages of the next, a refusal of
 * `create_immed` may end the connection, and all that would save is a roundtrip per framebuffer.
 */
export class DmabufBuffer extends SurfaceBuffer {
  readonly framebuffer: Framebuffer;
  readonly #dmabufOwner: DmabufOwner;
  readonly #dmabuf: OwnedFd;
  #points: BufferPoints | null = null;

  private constructor(owner: DmabufOwner, framebuffer: Framebuffer, dmabuf: OwnedFd) {
    super(owner, framebuffer.width, framebuffer.height);
    this.framebuffer = framebuffer;
    this.#dmabufOwner = owner;
    this.#dmabuf = dmabuf;
  }

  static import(owner: DmabufOwner, framebuffer: Framebuffer): DmabufBuffer | DmabufImportRefused {
    const { backing, format, modifier } = framebuffer;
    if (backing.kind !== 'dmabuf') return new DmabufImportRefused('format', `${owner.name} imports dma-bufs, not guest pages`);
    if (!owner.dmabufs.formats.has(format, modifier)) return new DmabufImportRefused('modifier', `${owner.name}: the compositor imports no ${formatName(format)} with this modifier`);
    try {
      return new DmabufBuffer(owner, framebuffer, dupFd(backing.dmabuf));
    } catch (cause) {
      if (!(cause instanceof SysError)) throw cause;
      return new DmabufImportRefused('resources', `${owner.name}: ${cause.message}`, { cause });
    }
  }

  override get isImport(): boolean {
    return true;
  }

  /** For commits on the compositor that has `sync`. SysError EMFILE, ENOMEM. */
  points(sync: ExplicitSync): BufferPoints {
    if (this.#points?.sync === sync) return this.#points;
    this.#points?.[Symbol.dispose]();
    this.#points = null;
    return (this.#points = new BufferPoints(sync, () => this.released(true)));
  }

  protected override create(compositor: Compositor, isOpaque: boolean): void {
    if (!compositor.dmabuf) return;
    const { width, height, format, modifier, planes } = this.framebuffer;
    const name = this.#dmabufOwner.dmabufs.choose(format, modifier, isOpaque);
    if (!name) return;
    const [shown, layout] = name;
    const params = compositor.dmabuf.createParams();
    planes.forEach(({ offset, stride }, index) => params.add(this.#dmabuf, index, offset, stride, Number(layout >> 32n), Number(layout & 0xffff_ffffn)));
    params.listener = {
      created: (wlBuffer) => {
        params[Symbol.dispose]();
        this.adopt(compositor, wlBuffer);
        this.owner.bufferReady(this);
      },
      failed: () => {
        params[Symbol.dispose]();
        this.#dmabufOwner.importFailed(name);
      },
    };
    params.create(width, height, shown, 0);
  }

  protected override free(): void {
    this.#points?.[Symbol.dispose]();
    this.#dmabuf[Symbol.dispose]();
  }
}
