import type { BorrowedFd, OwnedFd } from '../sys/fd.ts';
import type { MemoryBudget } from './budget.ts';
import type { Damage } from './damage.ts';
import type { Framebuffer } from './framebuffer.ts';
import type { Rect } from './geometry.ts';
import type { Monitor } from './monitor.ts';

/** One monitor of the guest, counted from 0. */
export type ScanoutId = number;

/**
 * A guest's request to show what it drew, which waits for an answer. The receiver of a Flush calls
 * `done` exactly once; src/bridge/pending-flushes.ts states when.
 */
export interface Flush {
  /**
   * The guest asked to be told when the picture is shown (virtio-gpu: VIRTIO_GPU_FLAG_FENCE).
   * Without it the guest's driver only waits for the answer.
   */
  readonly isFenced: boolean;
  /**
   * `done` is called once the frame is on screen, for a redraw as well. For a source that has no requests of a guest to
   * answer, but looks once a frame at what the guest has drawn.
   */
  readonly isPaced?: boolean;
  /**
   * A sync_file that signals when all of the framebuffer's pixels may be read; the newest flush's
   * counts. Owned by the source and open until `done`. Absent if they may be read now.
   */
  readonly acquire?: BorrowedFd;
  /**
   * For a source that waits on a fence instead of `done`: called at most once, before `done`, by
   * an output that has one, with a sync_file that signals when this frame is on screen and the
   * one before it is not. The callee owns it.
   */
  release?(fence: OwnedFd): void;
  done(): void;
}

/** A guest: it describes pixels. Calls its sink synchronously, while it handles a guest's command. */
export interface Source extends Disposable {
  /** How many monitors the guest can have; constant. */
  readonly scanouts: number;
  /** Bounds the host memory that the guest can cause, the bridge's shadows included. */
  readonly budget: MemoryBudget;
  /** Sets the one sink and reports the current state: scanouts and cursors that are on. */
  connect(sink: SourceSink): void;
  /** The monitor to advertise on a scanout, with mode and EDID; null means unplugged. */
  setMonitor(id: ScanoutId, monitor: Monitor | null): void;
}

/**
 * What a source reports. A framebuffer stays valid until `destroyed`; Rect and Damage arguments
 * belong to the source and are valid during the call only.
 */
export interface SourceSink {
  /** From the next flush on, `rect` of `framebuffer` is the picture; null turns the scanout off now. */
  scanout(id: ScanoutId, framebuffer: Framebuffer | null, rect: Rect): void;
  /**
   * Show `damage`, which is in framebuffer pixels and inside the scanout's rect. `flush` is null
   * if the guest waits for no answer.
   */
  flush(id: ScanoutId, damage: Damage, flush: Flush | null): void;
  /**
   * A new cursor image, with the framebuffer's pixels as they are now; null hides the cursor.
   * x, y is the image's top left corner in scanout pixels and may be outside; the hotspot is
   * inside the image.
   */
  cursor(
    id: ScanoutId,
    framebuffer: Framebuffer | null,
    hotspotX: number,
    hotspotY: number,
    x: number,
    y: number,
  ): void;
  cursorMoved(id: ScanoutId, x: number, y: number): void;
  /**
   * The guest's driver has stopped: paused or reset, which may be told apart only when it resumes.
   * The picture stays, but until the next flush its memory may change and mean nothing (firmware
   * reuses it after a reset).
   */
  halted(): void;
  /**
   * A program of the guest exports a buffer, which need not be on a scanout: `buffer` is all its bytes as one row of
   * R8, with a `uuid`, until `destroyed`. `resource` is the guest's number of it. Absent: the sink has no use for it.
   */
  exported?(resource: number, buffer: Framebuffer): void;
  /**
   * The framebuffer is on no scanout and is no cursor, or the source has halted; its memory goes when the call returns.
   * Dispose every handle made of it. A still picture of a halted source stays.
   */
  destroyed(framebuffer: Framebuffer): void;
}
