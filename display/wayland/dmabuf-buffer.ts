import { formatName } from '../../protocols/drm-fourcc.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import { DmabufImportRefused } from '../../src/core/output.ts';
import { dmabufSize } from '../../src/sys/dma-buf.ts';
import { SysError } from '../../src/sys/errors.ts';
import { dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import type { WlBuffer } from './client/index.ts';
import type { Compositor } from './compositor.ts';
import type { DmabufImports, FormatPair } from './dmabuf-formats.ts';
import { BufferPoints, type ExplicitSync } from './explicit-sync.ts';
import type { Import } from './import-limit.ts';
import { type Surface, SurfaceBuffer } from './surface.ts';

/** Planes of zwp_linux_buffer_params_v1. */
const MAX_PLANES = 4;
const MAX_UINT = 2 ** 32 - 1;
/** wp_viewport.set_source takes sizes as wl_fixed, which have 23 bits before the point. */
const MAX_SIDE = 2 ** 23 - 1;

/**
 * A framebuffer's dma-buf. It is always imported with `create`, which the compositor may refuse,
 * never with `create_immed`: its refusal may end the connection, an earlier import of the same format
 * says nothing about these pages, and it would only save one roundtrip per framebuffer.
 */
export class DmabufBuffer extends SurfaceBuffer implements Import {
  readonly planes: number;
  lastUse = 0;
  paramsId = 0;
  readonly #framebuffer: Framebuffer;
  readonly #imports: DmabufImports;
  readonly #dmabuf: OwnedFd;
  /** On which it counts against the limit. */
  #imported: Compositor | null = null;
  #points: BufferPoints | null = null;

  private constructor(
    imports: DmabufImports,
    framebuffer: Framebuffer,
    dmabuf: OwnedFd,
    onUnlocked: (buffer: SurfaceBuffer) => void,
  ) {
    super(framebuffer.width, framebuffer.height, onUnlocked);
    this.planes = framebuffer.planes.length;
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
    if (imports.isRefused(framebuffer))
      return new DmabufImportRefused('size', `${output}: the compositor has failed to import this buffer before`);
    const violation = violationOf(framebuffer, dmabufSize(backing.dmabuf));
    if (violation !== null)
      return new DmabufImportRefused('size', `${output}: linux-dmabuf cannot describe this buffer: ${violation}`);
    try {
      return new DmabufBuffer(imports, framebuffer, dupFd(backing.dmabuf), onUnlocked);
    } catch (cause) {
      if (!(cause instanceof SysError)) throw cause;
      return new DmabufImportRefused('resources', `${output}: ${cause.message}`, { cause });
    }
  }

  override get isBottomUp(): boolean {
    return this.#framebuffer.isBottomUp === true;
  }

  override points(sync: ExplicitSync): BufferPoints {
    if (this.#points?.sync === sync) return this.#points;
    this.#points?.[Symbol.dispose]();
    this.#points = null;
    return (this.#points = new BufferPoints(sync, () => this.released(true)));
  }

  override wlBuffer(surface: Surface): WlBuffer | null {
    this.lastUse = surface.compositor.importLimit.use();
    return super.wlBuffer(surface);
  }

  evict(): void {
    this.#imported = null;
    this.paramsId = 0;
    this.forget();
    this.#points?.[Symbol.dispose]();
    this.#points = null;
  }

  refused(): void {
    this.#imports.fatal(this.#framebuffer);
  }

  protected override create(compositor: Compositor, isOpaque: boolean): void {
    this.#imported?.importLimit.remove(this);
    this.#imported = null;
    this.#tryNext(compositor, isOpaque, []);
  }

  protected override free(): void {
    this.#imported?.importLimit.remove(this);
    this.#imported = null;
    this.paramsId = 0;
    this.#points?.[Symbol.dispose]();
    this.#dmabuf[Symbol.dispose]();
  }

  /** Asks for an import under the best name that has not failed. False if there is none left. */
  #tryNext(compositor: Compositor, isOpaque: boolean, failed: readonly FormatPair[]): boolean {
    const { width, height, format, modifier, planes } = this.#framebuffer;
    const name = this.#imports.choose(format, modifier, isOpaque, failed);
    if (!name || !compositor.dmabuf) return false;
    const [shown, layout] = name;
    if (this.#imported !== compositor) compositor.importLimit.add(this);
    this.#imported = compositor;
    const params = compositor.dmabuf.createParams();
    planes.forEach(({ offset, stride }, index) =>
      params.add(this.#dmabuf, index, offset, stride, Number(layout >> 32n), Number(layout & 0xffff_ffffn)),
    );
    params.listener = {
      created: (wlBuffer) => {
        params[Symbol.dispose]();
        if (this.paramsId !== params.id) {
          wlBuffer[Symbol.dispose]();
          return;
        }
        this.paramsId = 0;
        this.adopt(compositor, wlBuffer);
        this.ready();
      },
      failed: () => {
        params[Symbol.dispose]();
        if (this.paramsId !== params.id) return;
        this.paramsId = 0;
        if (!this.#tryNext(compositor, isOpaque, [...failed, name])) this.#imports.failed(this.#framebuffer);
      },
    };
    params.create(width, height, shown, 0);
    this.paramsId = params.id;
    return true;
  }
}

/**
 * What of the framebuffer compositors treat as a fatal error, although its pixels may well lie inside the dma-buf of
 * `size` bytes (zwp_linux_buffer_params_v1, errors out_of_bounds and invalid_dimensions); null if there is nothing.
 */
function violationOf({ width, height, planes }: Framebuffer, size: number): string | null {
  if (!(width >= 1 && width <= MAX_SIDE && height >= 1 && height <= MAX_SIDE))
    return `it has ${width}x${height} pixels`;
  if (planes.length < 1 || planes.length > MAX_PLANES) return `it has ${planes.length} planes`;
  for (const [index, { offset, stride }] of planes.entries()) {
    // Later planes may have fewer rows, so compositors ask for one only.
    const end = offset + stride * (index === 0 ? height : 1);
    if (!(offset >= 0 && stride >= 1 && end <= Math.min(size, MAX_UINT)))
      return `plane ${index} reaches from byte ${offset} to ${end} of ${size}, with its rows of ${stride} bytes`;
  }
  return null;
}
