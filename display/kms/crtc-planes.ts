import { type Log, logOnce, type LogOnce } from '../../src/core/log.ts';
import type { Frame } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { DamageClips, isBusy, isRefused, MUST_WAIT, PipeRequest, untilIdle } from './atomic.ts';
import { KmsBuffer } from './buffer.ts';
import { composedFormat, Composer, fillPlain } from './composer.ts';
import type { KmsDevice } from './device.ts';
import { type Assignment, Layout } from './layout.ts';
import { createBlob, destroyBlob, type Mode, type Pipe } from './resources.ts';

const EINVAL = 22;
const NO_CHOICE = -1;

export interface CrtcPlanesOptions {
  readonly pipe: Pipe;
  readonly mode: Mode;
  /** 0xRRGGBB, shown where the guest shows nothing. */
  readonly background: number;
  readonly log: Log;
}

/**
 * One CRTC in one mode, which shows frames on its planes: one ioctl a frame if the layout is known and the
 * planes can do it. Before `enable` and after `invalidate` the kernel's state is unknown, so the next commit sets everything. Results
 * are 0, or -errno with nothing changed.
 */
export class CrtcPlanes implements Disposable {
  /** `card0:HDMI-A-1` */
  readonly #name: string;
  readonly #logOnce: LogOnce;
  readonly #request: PipeRequest;
  readonly #layout: Layout;
  readonly #composer: Composer;
  readonly #clips: DamageClips;
  readonly #stack: DisposableStack;
  /** The kernel has this mode and these planes, so that a flip is enough. */
  #isEnabled = false;
  #isModeset = false;
  /** Planes that the previous frame used; one that is not used any more has to be turned off. */
  #usedBefore = 1;
  #used = 1;
  #sent = 1;
  #isZeroCopy = false;
  #isComposed = false;
  #choiceBefore = NO_CHOICE;
  /** The CPU could not draw for want of memory or descriptors, which may pass. */
  #isShort = false;
  /** The log says that a frame cannot be shown. */
  #isHopeless = false;

  private constructor(device: KmsDevice, { pipe, mode, background, log }: CrtcPlanesOptions, stack: DisposableStack) {
    const { width, height } = mode;
    const plain = (colour: number): KmsBuffer =>
      fillPlain(stack.use(KmsBuffer.dumb(device, width, height, composedFormat(pipe.primary))), colour);
    const whole = plain(background);
    this.#name = `${device.name}:${pipe.connector.name}`;
    this.#logOnce = logOnce(log);
    const blob = createBlob(device, mode.info);
    stack.defer(() => destroyBlob(device, blob));
    this.#request = stack.use(new PipeRequest(device, pipe, blob));
    this.#composer = stack.use(new Composer(device, mode, whole.format));
    this.#layout = new Layout({
      request: this.#request,
      pipe,
      screen: { x: 0, y: 0, width, height },
      background: whole,
      black: background === 0 || !pipe.overlay ? whole : plain(0),
      composed: () => this.#nextComposed(),
    });
    this.#clips = stack.use(new DamageClips(device));
    this.#stack = stack.move();
  }

  /** Changes nothing on screen. KmsError `no-buffer`. */
  static open(device: KmsDevice, options: CrtcPlanesOptions): CrtcPlanes {
    using stack = new DisposableStack();
    return new CrtcPlanes(device, options, stack);
  }

  /** The last frame committed is scanned out from the guest's own memory. */
  get isZeroCopy(): boolean {
    return this.#isZeroCopy;
  }

  /** A frame may carry an acquire fence. */
  get takesFences(): boolean {
    return this.#request.primary.takesFences && (this.#request.overlay?.takesFences ?? true);
  }

  /** The sync_file that signals with the event of the last commit, for a frame that wanted one. The caller owns it. */
  takeFence(): OwnedFd | null {
    return this.#request.takeFence();
  }

  /** The last commit set the mode, which may take the hardware seconds. */
  get isModeset(): boolean {
    return this.#isModeset;
  }

  /** The serial that the event of the last commit carries. */
  get serial(): number {
    return this.#request.serial;
  }

  /**
   * Sets the mode and a frame in one commit, with an event. Shows the background if the planes cannot show
   * the frame.
   */
  enable(frame: Frame, picture: KmsBuffer | null, cursor: KmsBuffer | null): number {
    this.invalidate();
    this.#layout.blank();
    const tested = this.#request.test(false);
    if (tested < 0) return tested;
    const result = this.commit(frame, picture, cursor);
    if (isBusy(result)) return untilIdle(() => this.retry());
    return isRefused(result) ? this.#blank() : result;
  }

  /** Another program may have changed the kernel's state: the next commit sets everything. */
  invalidate(): void {
    this.#isEnabled = false;
    this.#choiceBefore = NO_CHOICE;
    this.#composer.skip();
  }

  /** Turns the CRTC off. The caller disposes this next. */
  disable(): void {
    this.#request.disable();
  }

  /**
   * Commits a frame, with an event when it is on screen. MUST_WAIT: only after its `acquire` has signalled, because the
   * CPU will read the pixels or a mode will be set.
   */
  commit(frame: Frame, picture: KmsBuffer | null, cursor: KmsBuffer | null): number {
    if (!picture) return this.#blank(frame.release !== null);
    const layout = this.#layout;
    let assignment = layout.lay(frame, picture, cursor, this.#isEnabled);
    for (; assignment; assignment = layout.refused(frame, picture, cursor, this.#isEnabled)) {
      if (frame.acquire && (assignment.isComposed || !this.#isEnabled)) return MUST_WAIT;
      if (assignment.isComposed && !this.#compose(frame, picture, assignment.composedCursor)) continue;
      const result = this.#send(assignment, frame, picture);
      if (isRefused(result)) continue;
      if (layout.accepted() && assignment.isComposed)
        this.#logOnce('info', `${this.#name}: the planes cannot show this picture as it is, so it is drawn by the CPU`);
      return result;
    }
    if (!this.#isHopeless)
      this.#logOnce('warn', `${this.#name} cannot show this picture in any way and keeps what it shows`);
    this.#isHopeless = true;
    if (this.#isShort) layout.forget();
    this.#isShort = false;
    return -EINVAL;
  }

  /** Commits the last frame again, after EBUSY, without fences. */
  retry(): number {
    this.#isModeset = !this.#isEnabled;
    return this.#settle(this.#isEnabled ? this.#request.flip(this.#sent) : this.#request.enable());
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #blank(isFenced = false): number {
    const assignment = this.#layout.blank();
    this.#composer.skip();
    this.#isComposed = false;
    this.#isZeroCopy = false;
    this.#choiceBefore = NO_CHOICE;
    return this.#commitPlanes(assignment.planes, isFenced);
  }

  #nextComposed(): KmsBuffer | null {
    try {
      return this.#composer.next;
    } catch (error) {
      return this.#cannotCompose(error);
    }
  }

  #compose(frame: Frame, picture: KmsBuffer, pointer: KmsBuffer | null): boolean {
    const cursor = pointer && { buffer: pointer, from: this.#layout.cursorSrc, to: this.#layout.cursor };
    try {
      this.#composer.compose(
        { buffer: picture, from: frame.primary.src, to: this.#layout.picture },
        cursor,
        frame.damage,
      );
      return true;
    } catch (error) {
      this.#cannotCompose(error);
      return false;
    }
  }

  #cannotCompose(error: unknown): null {
    if (!(error instanceof Error)) throw error;
    const cause = error instanceof SysError ? error : error.cause;
    this.#isShort ||= cause instanceof SysError && cause.mayPass;
    this.#composer.skip();
    this.#logOnce('warn', `${this.#name}: ${error.message}`);
    return null;
  }

  #send(
    { choice, isComposed, slots, planes }: Assignment,
    { damage, primary, acquire, release }: Frame,
    picture: KmsBuffer,
  ): number {
    this.#isComposed = isComposed;
    this.#isZeroCopy = picture.isImport && !isComposed;
    if (!isComposed) this.#composer.skip();
    const changed = isComposed ? this.#composer.changed : damage;
    const shown = isComposed ? this.#layout.screen : primary.src;
    // The damage is relative to the same buffer on the same plane; otherwise everything is new.
    const blob = slots.hasDamage && choice === this.#choiceBefore ? this.#clips.make(changed, shown) : 0;
    if (blob !== 0) slots.damage(blob);
    if (acquire) slots.waitFor(acquire);
    const result = this.#commitPlanes(planes, release !== null);
    if (acquire) slots.waitFor(null);
    this.#choiceBefore = result === 0 ? choice : NO_CHOICE;
    if (blob === 0) return result;
    // The kernel's state holds the blob now. A retry goes without it.
    slots.damage(0);
    this.#clips.drop(blob);
    return result;
  }

  /** Commits the planes in use, and those of the previous frame, which have to be turned off. */
  #commitPlanes(used: number, isFenced: boolean): number {
    this.#used = used;
    this.#sent = Math.max(used, this.#usedBefore);
    if (!isFenced || !this.#isEnabled) return this.retry();
    this.#isModeset = false;
    return this.#settle(this.#request.flipFenced());
  }

  #settle(result: number): number {
    if (result < 0) return result;
    this.#isEnabled = true;
    this.#usedBefore = this.#used;
    if (this.#isComposed) this.#composer.turn();
    return 0;
  }
}
