import { formatName } from '../../protocols/drm-fourcc.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused } from '../../src/core/output.ts';
import { SysError } from '../../src/sys/errors.ts';
import { dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import type { Compositor } from './compositor.ts';
import type { DmabufImports } from './dmabuf-formats.ts';
import { BufferPoints, type ExplicitSync } from './explicit-sync.ts';
import { SurfaceBuffer } from './surface.ts';

/**
 * A framebuffer's dma-buf. It is always imported with `create`, which the compositor may refuse,
 * never with `create_immed`: its refusal may end the connection, an earlier import of the same format
 * says nothing about these pages, and it would only save one roundtrip per framebuffer.
 */
export class DmabufBuffer extends SurfaceBuffer {
  readonly #framebuffer: Framebuffer;
  readonly #imports: DmabufImports;
  readonly #dmabuf: OwnedFd;
  #points: BufferPoints | null = null;

  private constructor(
    imports: DmabufImports,
    framebuffer: Framebuffer,
    dmabuf: OwnedFd,
    onUnlocked: (buffer: SurfaceBuffer) => void,
  ) {
    super(framebuffer.width, framebuffer.height, onUnlocked);
    this.#framebuffer = framebuffer;
    this.#imports = imports;
    this.#dmabuf = dmabuf;
  }

  /**
   * Duplicates the framebuffer's descriptor. `output` names the output in messages. `onUnlocked` as
   * for SurfaceBuffer.
   */
  static import(
    output: string,
    imports: DmabufImports,
    framebuffer: Framebuffer,
    onUnlocked: (buffer: SurfaceBuffer) => void,
  ): DmabufBuffer | DmabufImportRefused {
    const { backing, format, modifier } = framebuffer;
    if (backing.kind !== 'dmabuf')
      return new DmabufImportRefused('format', `${output} imports dma-bufs, not guest pages`);
    if (!imports.formats.has(format, modifier))
      return new DmabufImportRefused(
        'modifier',
        `${output}: the compositor does not import ${formatName(format)} with this modifier`,
      );
    try {
      return new DmabufBuffer(imports, framebuffer, dupFd(backing.dmabuf), onUnlocked);
    } catch (cause) {
      if (!(cause instanceof SysError)) throw cause;
      return new DmabufImportRefused('resources', `${output}: ${cause.message}`, { cause });
    }
  }

  override points(sync: ExplicitSync): BufferPoints {
    if (this.#points?.sync === sync) return this.#points;
    this.#points?.[Symbol.dispose]();
    this.#points = null;
    return (this.#points = new BufferPoints(sync, () => this.released(true)));
  }

  protected override create(compositor: Compositor, isOpaque: boolean): void {
    if (!compositor.dmabuf) return;
    const { width, height, format, modifier, planes } = this.#framebuffer;
    const name = this.#imports.choose(format, modifier, isOpaque);
    if (!name) return;
    const [shown, layout] = name;
    const params = compositor.dmabuf.createParams();
    planes.forEach(({ offset, stride }, index) =>
      params.add(this.#dmabuf, index, offset, stride, Number(layout >> 32n), Number(layout & 0xffff_ffffn)),
    );
    params.listener = {
      created: (wlBuffer) => {
        params[Symbol.dispose]();
        this.adopt(compositor, wlBuffer);
        this.ready();
      },
      failed: () => {
        params[Symbol.dispose]();
        this.#imports.failed(name);
      },
    };
    params.create(width, height, shown, 0);
  }

  protected override free(): void {
    this.#points?.[Symbol.dispose]();
    this.#dmabuf[Symbol.dispose]();
  }
}
