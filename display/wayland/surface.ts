import { WlOutputTransform } from '../../protocols/wayland/generated/wayland.ts';
import { Bag } from '../../src/core/bag.ts';
import type { Damage } from '../../src/core/damage.ts';
import type { Handle } from '../../src/core/output.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import type { WlBuffer, WlSurface, WpLinuxDrmSyncobjSurfaceV1 } from './client/index.ts';
import type { Compositor } from './compositor.ts';
import { AnswerDeadline } from './deadline.ts';
import type { BufferPoints, ExplicitSync } from './explicit-sync.ts';

/** After the last commit, the compositor has this long, or up to twice that, to release what that replaced. */
const TAKEN_BACK_AFTER_MS = 1000;
/** As a width and height of damage: the whole surface, whatever its size. */
const EVERYWHERE = 2 ** 31 - 1;
/** Version of wl_surface with damage_buffer, which takes buffer coordinates. */
const DAMAGE_BUFFER_SINCE = 4;

export interface SurfaceOptions {
  /** The alpha of its buffers means nothing. */
  readonly isOpaque: boolean;
  /** Synchronises commits of dma-bufs explicitly; null: everything is synchronised implicitly. */
  readonly sync?: ExplicitSync | null;
  /** A wl_buffer that `attach` found missing has been created: attach again. */
  readonly onReady?: () => void;
}

/**
 * A wl_surface with everything that belongs to showing buffers on it: their wl_buffers, their
 * synchronisation, the damage, and which of them the compositor still has.
 *
 *     attach -> (the caller's own state) -> commit -> ... -> the buffer is unlocked
 *
 * A committed buffer is locked until the compositor gives it back, by wl_buffer.release or by the
 * release point of its commit, or until it is taken back: when a surface has committed nothing for
 * a second, while it is not visible (`hidden`), and when it goes.
 */
export class Surface implements Disposable {
  readonly wl: WlSurface;
  readonly compositor: Compositor;
  readonly isOpaque: boolean;
  readonly #sync: ExplicitSync | null;
  readonly #onReady: () => void;
  /** While it exists, the compositor refuses commits without points: it lives only while dma-bufs are shown. */
  #syncSurface: WpLinuxDrmSyncobjSurfaceV1 | null = null;
  #shown: SurfaceBuffer | null = null;
  #isMirrored = false;
  /** Committed and not given back, each once. */
  readonly #held = new Bag<SurfaceBuffer>();
  readonly #takenBack = new Bag<SurfaceBuffer>();
  readonly #releaseDeadline = new AnswerDeadline(TAKEN_BACK_AFTER_MS, () => this.#takeBackReplaced(false));

  constructor(compositor: Compositor, { isOpaque, sync = null, onReady = () => undefined }: SurfaceOptions) {
    this.compositor = compositor;
    this.isOpaque = isOpaque;
    this.wl = compositor.surfaces.createSurface();
    this.#sync = sync;
    this.#onReady = onReady;
  }

  /** `attach` can hand fences to the compositor, for dma-bufs. */
  get takesFences(): boolean {
    return this.#sync !== null && !this.#sync.isOff;
  }

  /**
   * Attaches `buffer`, null for none, for the commit that must follow. `damage` is in the picture's
   * pixels, null for all of it; a surface that showed nothing is damaged everywhere. `acquire`, a
   * sync_file that stays the caller's, signals when the buffer may be read.
   *
   * False, with nothing attached: the buffer's wl_buffer is not there yet (`onReady` follows,
   * unless the compositor refuses it), or the compositor cannot take `acquire`, so the caller must wait for it.
   */
  attach(buffer: SurfaceBuffer | null, damage: Damage | null, acquire: BorrowedFd | null): boolean {
    const wlBuffer = buffer?.wlBuffer(this) ?? null;
    if (buffer && !wlBuffer) return false;
    const hasPoint = this.#sync !== null && buffer !== null && this.#setPoints(this.#sync, buffer, acquire);
    if (acquire && !hasPoint) return false;
    this.wl.attach(wlBuffer, 0, 0);
    if (buffer) {
      this.#mirror(buffer.isBottomUp);
      this.#damage(buffer, this.#shown ? damage : null);
      buffer.committed(this, hasPoint);
      if (!this.#held.has(buffer)) {
        buffer.lock();
        this.#held.add(buffer);
      }
    }
    this.#shown = buffer;
    this.#releaseDeadline.start();
    return true;
  }

  commit(): void {
    this.wl.commit();
  }

  /**
   * The surface is not visible: a compositor may not release what it does not draw, and the guest
   * must not wait for it. Release points signal regardless.
   */
  hidden(): void {
    this.#takeBackReplaced(true);
  }

  /** The same while the next commit must wait: the buffer that is shown is unlocked too. */
  hiddenWhileWaiting(): void {
    this.#takeBackAll(true);
  }

  /** From the buffer: the compositor has given it back. */
  released(buffer: SurfaceBuffer): void {
    if (this.#held.remove(buffer)) buffer.unlock();
  }

  /** From the buffer that `attach` asked for its wl_buffer. */
  ready(): void {
    this.#onReady();
  }

  /** Its role object must have been destroyed before. */
  [Symbol.dispose](): void {
    this.#syncSurface?.[Symbol.dispose]();
    this.#syncSurface = null;
    this.#releaseDeadline[Symbol.dispose]();
    this.wl[Symbol.dispose]();
    this.#takeBackAll(false);
  }

  /** False: this commit is synchronised implicitly. */
  #setPoints(sync: ExplicitSync, buffer: SurfaceBuffer, acquire: BorrowedFd | null): boolean {
    const points = sync.isOff ? null : beginPoints(sync, buffer, acquire);
    if (!points) {
      this.#syncSurface?.[Symbol.dispose]();
      this.#syncSurface = null;
      return false;
    }
    this.#syncSurface ??= sync.manager.getSurface(this.wl);
    points.set(this.#syncSurface, acquire !== null);
    return true;
  }

  #mirror(isMirrored: boolean): void {
    if (isMirrored === this.#isMirrored) return;
    this.#isMirrored = isMirrored;
    this.wl.setBufferTransform(isMirrored ? WlOutputTransform.flipped_180 : WlOutputTransform.normal);
  }

  #damage({ isBottomUp, height }: SurfaceBuffer, damage: Damage | null): void {
    const { wl } = this;
    if (wl.version < DAMAGE_BUFFER_SINCE) {
      wl.damage(0, 0, EVERYWHERE, EVERYWHERE);
    } else if (!damage) {
      wl.damageBuffer(0, 0, EVERYWHERE, EVERYWHERE);
    } else {
      for (let i = 0; i < damage.count; i++)
        wl.damageBuffer(
          damage.x(i),
          isBottomUp ? height - damage.y(i) - damage.height(i) : damage.y(i),
          damage.width(i),
          damage.height(i),
        );
    }
  }

  /** All but the one that is shown and, of a hidden surface, those that wait for a release point. */
  #takeBackReplaced(isHidden: boolean): void {
    for (let i = this.#held.count - 1; i >= 0; i--) {
      const buffer = this.#held.at(i);
      if (buffer !== this.#shown && !(buffer.hasPoint && isHidden)) this.#takeBack(buffer, isHidden);
    }
    this.#unlockTakenBack();
  }

  #takeBackAll(isHidden: boolean): void {
    this.#shown = null;
    for (let i = this.#held.count - 1; i >= 0; i--) this.#takeBack(this.#held.at(i), isHidden);
    this.#unlockTakenBack();
  }

  #takeBack(buffer: SurfaceBuffer, isHidden: boolean): void {
    buffer.takenBack(isHidden);
    this.#held.remove(buffer);
    this.#takenBack.add(buffer);
  }

  /** What is called from here may attach, or dispose the surface. */
  #unlockTakenBack(): void {
    for (let buffer = this.#takenBack.pop(); buffer; buffer = this.#takenBack.pop()) buffer.unlock();
  }
}

/** Null: the buffer has no points, or there is no memory for them, which ends explicit synchronisation. */
function beginPoints(sync: ExplicitSync, buffer: SurfaceBuffer, acquire: BorrowedFd | null): BufferPoints | null {
  try {
    const points = buffer.points(sync);
    points?.begin(acquire);
    return points;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    sync.turnOff(error);
    return null;
  }
}

/**
 * What a `Surface` can show. Its wl_buffer is created when a surface first needs it, and again for
 * the next compositor. Its memory lives until the buffer is disposed and no lock is left.
 */
export abstract class SurfaceBuffer implements Disposable {
  readonly width: number;
  readonly height: number;
  readonly #onUnlocked: (buffer: SurfaceBuffer) => void;
  #locks = 0;
  #isDisposed = false;
  #compositor: Compositor | null = null;
  #wlBuffer: WlBuffer | null = null;
  /** That committed it last, or waits for its wl_buffer. */
  #surface: Surface | null = null;
  /** Committed, and neither released nor taken back since. */
  #isCommitted = false;
  #hasPoint = false;
  /*
   * wl_buffer.release names no commit: one for a commit whose buffer was taken back could pass for
   * the next commit's. So a buffer that was taken back before its release gets another wl_buffer
   * when it is needed again. Except on a hidden surface, where that might be for every frame: there
   * the wl_buffer stays, and as many releases as it owes are ignored.
   */
  #isReleaseDue = false;
  #ignoredReleases = 0;
  #isStale = false;

  /** `onUnlocked` is called when the last lock is gone: nothing reads the buffer any more. */
  constructor(width: number, height: number, onUnlocked: (buffer: SurfaceBuffer) => void = () => undefined) {
    this.width = width;
    this.height = height;
    this.#onUnlocked = onUnlocked;
  }

  /** Its first row is the lowest of the picture; damage counts from the top nevertheless. */
  get isBottomUp(): boolean {
    return false;
  }

  /** Asks the compositor for a wl_buffer, to be given to `adopt` now or later. SysError. */
  protected abstract create(compositor: Compositor, isOpaque: boolean): void;

  /** Frees the memory: it is disposed, and nothing reads it. */
  protected abstract free(): void;

  /**
   * The points of its commits on the compositor that has `sync`; null: it is synchronised
   * implicitly. SysError EMFILE, ENOMEM.
   */
  abstract points(sync: ExplicitSync): BufferPoints | null;

  /** Something shows it, or is about to. */
  get isHeld(): boolean {
    return this.#locks > 0;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** Its memory was freed. */
  get isGone(): boolean {
    return this.#isDisposed && this.#locks === 0;
  }

  /** A release point says when its last commit has been read, whether it was seen or not. */
  get hasPoint(): boolean {
    return this.#hasPoint;
  }

  lock(): void {
    this.#locks++;
  }

  unlock(): void {
    if (--this.#locks > 0) return;
    if (this.#isDisposed) this.#end();
    this.#onUnlocked(this);
  }

  /**
   * For `Surface.attach`. Null: not yet (`surface.ready` follows), or never. A buffer is used
   * either on opaque surfaces or on others.
   */
  wlBuffer(surface: Surface): WlBuffer | null {
    const { compositor } = surface;
    this.#surface = surface;
    if (this.#compositor !== compositor || this.#isStale) {
      this.forget();
      this.#compositor = compositor;
      try {
        this.create(compositor, surface.isOpaque);
      } catch (error) {
        if (!(error instanceof SysError)) throw error;
        compositor.failed(error);
      }
    }
    return this.#wlBuffer;
  }

  /** From `Surface.attach`: it is in the surface's next commit. */
  committed(surface: Surface, hasPoint: boolean): void {
    if (this.#isReleaseDue && !this.#isCommitted) this.#ignoredReleases++;
    this.#isReleaseDue = !hasPoint;
    this.#surface = surface;
    this.#isCommitted = true;
    this.#hasPoint = hasPoint;
  }

  /** From its surface, which waits for the compositor no longer. */
  takenBack(isHidden: boolean): void {
    this.#isCommitted = false;
    if (this.#isReleaseDue && !isHidden) this.#isStale = true;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#locks === 0) this.#end();
  }

  /** From `create`: the wl_buffer it asked this compositor for. */
  protected adopt(compositor: Compositor, wlBuffer: WlBuffer): void {
    if (compositor !== this.#compositor || this.#wlBuffer || this.isGone) {
      wlBuffer[Symbol.dispose]();
      return;
    }
    this.#wlBuffer = wlBuffer;
    wlBuffer.listener = { release: () => this.released(false) };
  }

  /** Destroys the wl_buffer of a buffer that is not held. The next use creates another one. */
  protected forget(): void {
    this.#isReleaseDue = false;
    this.#ignoredReleases = 0;
    this.#isStale = false;
    this.#wlBuffer?.[Symbol.dispose]();
    this.#wlBuffer = null;
    this.#compositor = null;
  }

  /** A wl_buffer given to `adopt` after `create` had returned can be attached. */
  protected ready(): void {
    this.#surface?.ready();
  }

  /** The compositor says so, `byPoint` or by wl_buffer.release. Only the way its commit was synchronised counts. */
  protected released(byPoint: boolean): void {
    if (!byPoint && this.#ignoredReleases > 0) {
      this.#ignoredReleases--;
      return;
    }
    if (!byPoint) this.#isReleaseDue = this.#isStale = false;
    if (!this.#isCommitted || byPoint !== this.#hasPoint) return;
    this.#isCommitted = false;
    this.#surface?.released(this);
  }

  #end(): void {
    this.#wlBuffer?.[Symbol.dispose]();
    this.#wlBuffer = null;
    this.free();
  }
}

/** Null for a handle that is disposed. */
export function usableBuffer(handle: Handle | null): SurfaceBuffer | null {
  return handle instanceof SurfaceBuffer && !handle.isDisposed ? handle : null;
}
