import type { BorrowedFd, OwnedFd } from '../sys/fd.ts';
import type { Damage } from './damage.ts';
import type { Framebuffer } from './framebuffer.ts';
import type { Rect } from './geometry.ts';
import type { Monitor } from './monitor.ts';

/** One monitor of the guest, counted from 0. */
export type ScanoutId = number & { readonly __brand: 'ScanoutId' };

export function scanoutId(index: number): ScanoutId {
  return index as ScanoutId;
}

/**
 * The guest waits for this. Whoever is given a Flush calls `done()` exactly once, when the frame
 * is on screen and the buffer it replaced is free, or at once if it cannot be shown.
 */
export interface Flush {
  /**
   * A sync_file that signals when the framebuffer's pixels may be read, all of them: only the newest flush's counts.
   * The source's, open until `done`. Absent: they may be read now.
   */
  readonly acquire?: BorrowedFd;
  /**
   * For a source that would rather wait by itself: called at most once, before `done`, where there is a fence, with
   * a sync_file that signals when this frame is on screen and no longer the one before it.
   */
  release?(fence: OwnedFd): void;
  done(): void;
}

/** Who describes pixels. Calls its sink synchronously, while handling a guest's command. */
export interface Source extends Disposable {
  readonly scanouts: number;
  /** Sets the one sink and tells it the present state (scanouts and cursors that are on). */
  connect(sink: SourceSink): void;
  /** The monitor to advertise on a scanout, mode and EDID; null is unplugged. */
  setMonitor(id: ScanoutId, monitor: Monitor | null): void;
}

/**
 * What a source tells the bridge. Framebuffers stay valid until `destroyed`; Rect and Damage
 * arguments are the source's and valid during the call only.
 */
export interface SourceSink {
  /** `rect` of `framebuffer` is this scanout's picture from the next flush on; null turns it off at once. */
  scanout(id: ScanoutId, framebuffer: Framebuffer | null, rect: Rect): void;
  /** `damage`, in framebuffer pixels and inside the scanout's rect, is to be shown. A null flush: nobody waits. */
  flush(id: ScanoutId, damage: Damage, flush: Flush | null): void;
  /**
   * New cursor image (or null: hidden). The framebuffer's pixels count as of this call. x, y is
   * where the image's top left corner is, in scanout pixels, and may be outside; the hotspot
   * is inside the image.
   */
  cursor(id: ScanoutId, framebuffer: Framebuffer | null, hotspotX: number, hotspotY: number, x: number, y: number): void;
  cursorMoved(id: ScanoutId, x: number, y: number): void;
  /**
   * The guest's driver stands still: it is paused or was reset, and which of the two may be known
   * only when it goes on. What is shown stays, but until the next flush its memory may change
   * (firmware reuses it after a reset) and mean nothing.
   */
  halted(): void;
  /** No longer on any scanout or cursor, its memory goes when the call returns. Drop every handle made of it. */
  destroyed(framebuffer: Framebuffer): void;
}
