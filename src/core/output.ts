import type { Fourcc } from '../../protocols/drm-fourcc.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { BorrowedFd, OwnedFd } from '../sys/fd.ts';
import type { Mapping } from '../sys/mapping.ts';
import type { Damage } from './damage.ts';
import type { FormatSet, Framebuffer } from './framebuffer.ts';
import type { Rect, Size } from './geometry.ts';
import type { InputSink } from './input.ts';
import type { Monitor } from './monitor.ts';
import type { Picture } from './picture.ts';
import type { ScanoutId } from './source.ts';

/**
 * What one output made of one framebuffer: a wl_buffer, a KMS framebuffer id. Disposing a held
 * handle is allowed: the output frees the buffer once the screen no longer reads it.
 */
export interface Handle extends Disposable {
  /**
   * Whether the screen reads the buffer, or may start to. True from the `present` that names it until the
   * hardware or compositor has let go of it: when another frame has replaced it or, where the pixels are
   * copied, as early as its own frame is shown. The output keeps this record, and it is the only one:
   * everything else asks here.
   */
  readonly isHeld: boolean;
}

/**
 * A buffer owned by the output that the CPU may write while it is not held, between `beginWrite`
 * and `endWrite`.
 */
export interface Shadow extends Handle {
  readonly format: Fourcc;
  readonly width: number;
  readonly height: number;
  /** Bytes from one row to the next. */
  readonly stride: number;
  /** Owned by the shadow; the picture starts at byte 0. */
  readonly pixels: Mapping;
  /** Throws SysError if the memory cannot be accessed; `endWrite` must not follow then. */
  beginWrite(): void;
  /** Makes what was written visible to the screen. */
  endWrite(): void;
}

export type RefusalCode = 'format' | 'modifier' | 'size' | 'contiguity' | 'resources' | 'lost';

/**
 * An output cannot show a buffer as it is. Returned, not thrown: the next rung takes over.
 * `format`, `modifier`, `size` and `contiguity` are permanent; `resources` and `lost` may pass.
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
 * Everything one screen shows. The caller of `present` owns it and reuses it: an output copies
 * what it needs after `present` has returned.
 */
export interface Frame {
  /** The size of the guest's picture. The output decides where on the screen it goes. */
  canvas: Size;
  primary: PlaneState;
  /** Premultiplied ARGB; `dst` may reach beyond the canvas. */
  cursor: PlaneState;
  /** The hotspot inside the cursor image, for outputs that hand the image to a pointer. */
  hotspotX: number;
  hotspotY: number;
  /** The cursor image changed since the previous frame, even if the handle is the same one. */
  isCursorNew: boolean;
  /** What changed on the primary plane since the previous frame, in its buffer's pixels. */
  damage: Damage;
  /**
   * A sync_file that signals when the primary plane's pixels may be read; null if they may be
   * read now. Valid during `present` only. Always null for an output without `takesFences`.
   */
  acquire: BorrowedFd | null;
  /**
   * Null if no release fence is wanted. Otherwise an output that supports it calls this at the end
   * of `present` with a sync_file, which the callee owns, that signals when this frame is on
   * screen and the buffers it replaced are no longer read.
   */
  release: ((fence: OwnedFd) => void) | null;
}

export const PresentedFlags = {
  /** The time is that of the vertical blank. */
  VSYNC: 1,
  /** The hardware's clock stamped the time. */
  HW_CLOCK: 2,
  /** The display hardware signalled completion. */
  HW_COMPLETION: 4,
  /** Shown without a copy. */
  ZERO_COPY: 8,
  /** Not visible (window hidden or closed, monitor off): a timer completed it. */
  HIDDEN: 16,
} as const;

/** When a frame came on screen, and how. Only valid during the call that it is given to: the output uses it again. */
export interface Presentation {
  /** CLOCK_MONOTONIC. */
  readonly timeMs: number;
  /** 0 when unknown. */
  readonly refreshMhz: number;
  /** Counts vertical blanks. */
  readonly sequence: number;
  /** Of PresentedFlags. */
  readonly flags: number;
}

/** Filled in for each frame: a time is no small integer, so V8 allocates it for each call with it that is not inlined. */
export class MutablePresentation implements Presentation {
  timeMs = 0;
  refreshMhz = 0;
  sequence = 0;
  flags = 0;

  set(timeMs: number, refreshMhz: number, sequence: number, flags: number): this {
    this.timeMs = timeMs;
    this.refreshMhz = refreshMhz;
    this.sequence = sequence;
    this.flags = flags;
    return this;
  }
}

/**
 * Events of an output. They are emitted after the output's own state is right, never from inside
 * `attach`, `present` or the disposal of an attachment. A listener may detach, or dispose the
 * output, in any of them.
 */
export interface OutputListener {
  /** The frame given to `present` is on screen; the next one may be presented. */
  presented(presentation: Presentation): void;
  /**
   * The handle is no longer held. Comes before the `presented` of the frame that replaced it, or
   * any time later.
   */
  released(handle: Handle): void;
  /** The monitor changed; null means unplugged. */
  resized(monitor: Monitor | null): void;
  /**
   * `imports` or `shadowFormats` changed, or an earlier import stopped working: import every
   * buffer again and present again.
   */
  importsChanged(): void;
  /**
   * The user or the system took the screen away. Every handle is void; nothing follows. `isWanted`: the user did, so
   * there is nothing to warn about.
   */
  closed(reason: string, isWanted?: boolean): void;
}

/** What an output needs to know of the scanout it shows, for outputs that people operate. */
export interface ScreenListener extends OutputListener {
  /** Positions given to `input` are in this scanout's picture. */
  readonly scanout: ScanoutId;
  /** Where keys, pointer and touches go; null if the guest has no input devices. */
  readonly input: InputSink | null;
}

export interface AttachOptions {
  /** What the screen shows after detaching: the last frame, or (the default) nothing. */
  readonly keepLast?: boolean;
}

/** One screen. `scanout-bridge/testing/output-suite` tests an implementation against this contract. */
export interface Output extends Disposable {
  /** For logs and statistics, for example `headless` or `kms:card0:HDMI-A-1`. */
  readonly name: string;
  /**
   * Null while no monitor is plugged in; `resized` reports changes. Until then frames complete by
   * a timer, and the newest is shown on the next monitor.
   */
  readonly monitor: Monitor | null;
  /**
   * There is a monitor, but no frame can be seen for now, as in a minimised window. Frames complete by a timer, which
   * may be slow: other screens of the scanout do not wait for it. Default: false.
   */
  readonly isHidden?: boolean;
  /** The dma-bufs it imports. Empty: only shadows, or guest pages if `readsPages`. */
  readonly imports: FormatSet;
  /** `import` takes framebuffers that are `isBottomUp`, and shows them the right way up. Default: false. */
  readonly mirrors?: boolean;
  /** `present` copies out of guest pages itself, so `import` takes framebuffers backed by pages. */
  readonly readsPages: boolean;
  /**
   * A frame may carry an `acquire` fence now; no buffer is read before it signals. Always false
   * while `monitor` is null.
   */
  readonly takesFences: boolean;
  /** Formats that `createShadow` takes, best first. */
  readonly shadowFormats: readonly Fourcc[];
  /** The largest cursor image it shows; a larger one is cut. */
  readonly maxCursor: Size;
  /**
   * When a frame presented at `nowMs` would be on screen, both of CLOCK_MONOTONIC: the vertical blank after it. 0 while
   * that is not known. Absent if it never is.
   */
  nextBlank?(nowMs: number): number;

  /**
   * Gives the screen to `listener`, which may present from now on. Throws if the screen is taken.
   *
   * Disposing the result detaches: the picture leaves the screen (with `keepLast` the last frame
   * stays until the next listener presents), what is in flight is settled without telling anyone,
   * keys and touches held at this screen are released through `listener.input`, and the listener
   * hears nothing more. The screen may be attached again at once; a frame presented while the
   * hardware still works on an earlier listener's is shown after it.
   */
  attach(listener: ScreenListener, options?: AttachOptions): Disposable;
  /**
   * Makes a handle of a framebuffer backed by a dma-buf (or by pages, if `readsPages`). The caller
   * owns the handle; the output duplicates the descriptors it keeps. Takes effect without `attach`.
   */
  import(framebuffer: Framebuffer): Handle | DmabufImportRefused;
  /** A zeroed shadow, owned by the caller. Throws a ScanoutError if there is no memory for it. */
  createShadow(width: number, height: number, format: Fourcc): Shadow;
  /**
   * Shows a frame. At most one is in flight: the next call comes after `presented`, which follows
   * when the frame is on screen or, if it is not visible, one refresh later from a timer (flag
   * HIDDEN). A handle that has been disposed counts as null. Throws if nothing is attached or a
   * frame of this listener is in flight.
   */
  present(frame: Frame): void;
  /**
   * The picture that is really on screen, as the hardware reads it back. The caller awaits it before the next call. Absent
   * if this kind of screen cannot be read back. Rejects with a ScanoutError that says why this one cannot.
   */
  readBack?(): Promise<Picture>;
}

/** A buffer that a program of the guest exports, whether a scanout shows it or not. */
export interface GuestBuffer {
  /** The guest's number of it, by which its programs name it. */
  readonly resource: number;
  /** All its bytes, as one row of R8. It has a `uuid`. */
  readonly framebuffer: Framebuffer;
  /** The same backed by a dma-buf, until `unshare`; or why there is none, when its pixels have to be copied. */
  share(): Framebuffer | Error;
  /** Undoes one `share` that returned a framebuffer. */
  unshare(): void;
}

/** Takes the buffers that programs of the guest export. */
export interface BufferSink {
  added(buffer: GuestBuffer): void;
  /** Its memory goes when the call returns. */
  removed(buffer: GuestBuffer): void;
}
