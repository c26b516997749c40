import type { Fourcc } from '../../protocols/drm-fourcc.ts';
import type { BorrowedFd, OwnedFd } from '../sys/fd.ts';
import type { Mapping } from '../sys/mapping.ts';
import type { Damage } from './damage.ts';
import { ScanoutError } from './errors.ts';
import type { FormatSet, Framebuffer } from './framebuffer.ts';
import type { Rect, Size } from './geometry.ts';
import type { InputSink } from './input.ts';
import type { Monitor } from './monitor.ts';
import type { ScanoutId } from './source.ts';

/**
 * What one output made of one framebuffer (a wl_buffer, an FB id). Disposing while on screen is
 * allowed: the output keeps what the hardware still reads until it does not.
 */
export type Handle = Disposable;

/** An output-owned buffer the CPU may write between `released` and the next `present`, inside `beginWrite` and `endWrite`. */
export interface Shadow extends Handle {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  /** Owned by the shadow; the picture starts at byte 0. */
  readonly pixels: Mapping;
  /** SysError if the memory cannot be had; then there is nothing to end. */
  beginWrite(): void;
  /** The output sees what was written. */
  endWrite(): void;
}

export type RefusalCode = 'format' | 'modifier' | 'size' | 'contiguity' | 'resources' | 'lost';

/**
 * An output cannot show a buffer as it is. Returned, not thrown: the next rung takes over.
 * `format`, `modifier`, `size` and `contiguity` are lasting; `resources` and `lost` may pass.
 */
export class DmabufImportRefused extends ScanoutError<RefusalCode> {
  get isLasting(): boolean {
    return this.code !== 'resources' && this.code !== 'lost';
  }
}

/** One plane of a frame. `src` is in the buffer's pixels, `dst` in the frame's canvas. */
export interface PlaneState {
  handle: Handle | null;
  src: Rect;
  dst: Rect;
}

/**
 * Everything one screen shows. The bridge owns and reuses it: an output that needs a value after
 * `present` returns copies it.
 */
export interface Frame {
  /** The guest's picture size; how it is placed on the screen is the output's decision. */
  canvas: Size;
  primary: PlaneState;
  /** Premultiplied ARGB; dst may reach beyond the canvas. */
  cursor: PlaneState;
  /** The point inside the cursor image that points, for outputs that hand the image to a pointer. */
  hotspotX: number;
  hotspotY: number;
  /** The cursor's image is another than in the frame before, even if the handle is the same: guests may draw into what they show. */
  isCursorNew: boolean;
  /** What changed on the primary since the frame before, in its buffer's pixels. */
  damage: Damage;
  /** A sync_file that signals when the primary's pixels may be read; null: they may be now. Valid during `present`; null for an output without `takesFences`. */
  acquire: BorrowedFd | null;
  /**
   * Null: nobody asks. An output that can gives it, as the last thing in `present`, a sync_file that signals when this
   * frame is on screen and the buffers it replaced are free.
   */
  release: ((fence: OwnedFd) => void) | null;
}

export const PresentedFlags = {
  /** The time is that of the vertical blank. */
  VSYNC: 1,
  /** The time was stamped by the hardware's clock. */
  HW_CLOCK: 2,
  /** The display hardware signalled completion. */
  HW_COMPLETION: 4,
  /** Shown without a copy. */
  ZERO_COPY: 8,
  /** Nobody could see it (hidden, closed): completed by a timer. */
  HIDDEN: 16,
} as const;

/** What an output tells the bridge. Called after the output's own state is right, never from inside `present`. */
export interface OutputListener {
  /**
   * The frame given to `present` is on screen; the next one may be presented.
   * `timeMs` is CLOCK_MONOTONIC; `refreshMhz` 0 when unknown; `sequence` counts vertical blanks.
   */
  presented(timeMs: number, refreshMhz: number, sequence: number, flags: number): void;
  /** The output will not read this buffer again until it is presented anew. Comes before the `presented` of the frame that replaced it, or later. */
  released(handle: Handle): void;
  /** The monitor changed; null is unplugged. */
  resized(monitor: Monitor | null): void;
  /** `imports` and `shadowFormats` are others, or imports failed after `import`: everything is imported anew and shown again. */
  importsChanged(): void;
  /** The user or the system took the screen away; every handle is void. */
  closed(reason: string): void;
}

/** The same with a way back to the guest, for outputs that people do something at. The others listen to less. */
export interface ScreenListener extends OutputListener {
  /** What the output shows: positions are those on its canvas, this scanout's picture. */
  readonly scanout: ScanoutId;
  /** Null if the guest has no input devices of ours. */
  readonly input: InputSink | null;
}

/** One screen. */
export interface Output extends Disposable {
  /** For logs and stats: `headless`, `kms:card0:HDMI-A-1`. */
  readonly name: string;
  /** Null while unplugged: `resized` tells when that changes. The newest frame is kept, and shown again with the next monitor. */
  readonly monitor: Monitor | null;
  /** dma-bufs it can import. Empty: only shadows (or guest pages, see `readsPages`). */
  readonly imports: FormatSet;
  /** It copies out of guest pages itself while `present` runs, so `import` takes pages as they are. */
  readonly readsPages: boolean;
  /** Frames may carry an `acquire` fence now, and no buffer is read before it signals. Never while `monitor` is null. */
  readonly takesFences: boolean;
  /** Formats of `createShadow`, best first. */
  readonly shadowFormats: readonly Fourcc[];
  /** The largest cursor image it shows; a larger one is cut. */
  readonly maxCursor: Size;

  listen(listener: ScreenListener): void;
  /** Makes a handle of a framebuffer with a dma-buf (or with pages if `readsPages`). Duplicates fds it keeps. */
  import(framebuffer: Framebuffer): Handle | DmabufImportRefused;
  /** Zeroed. Throws KmsError, SysError... when there is no memory for it. */
  createShadow(width: number, height: number, format: Fourcc): Shadow;
  /**
   * Shows a frame. At most one is in flight: not called again before `presented`, which follows
   * when the frame is on screen or, if nobody can see it, after one refresh by a timer (flag HIDDEN).
   */
  present(frame: Frame): void;
}
