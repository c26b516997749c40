import { DRM_MODE_ATOMIC_NONBLOCK, DRM_MODE_ATOMIC_TEST_ONLY, DRM_MODE_PAGE_FLIP_EVENT } from '../../protocols/drm-mode.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import type { Log } from '../../src/core/log.ts';
import type { Frame } from '../../src/core/output.ts';
import { EAGAIN, EINTR } from '../../src/sys/errors.ts';
import { AtomicRequest } from './atomic-request.ts';
import type { KmsBuffer } from './buffer.ts';
import { Composer } from './composer.ts';
import { DamageClips } from './damage-clips.ts';
import type { KmsDevice } from './device.ts';
import { LayoutMemory } from './layout-memory.ts';
import type { Pipe } from './pipes.ts';
import { place, type Place } from './placement.ts';
import { planeObject, PlaneSlots } from './plane-slots.ts';
import type { Plane } from './resources.ts';

/*
 * Ways to use the planes, best first. What the hardware does not do is done one way further down:
 *
 *                      primary    overlay    cursor plane
 *   DIRECT             picture               cursor
 *   CURSOR_ON_OVERLAY  picture    cursor
 *   PICTURE_ON_OVERLAY black      picture    cursor          primary must fill the screen
 *   COMPOSED           composed              cursor          no scaling, or not these formats
 *   ALL_COMPOSED       composed                              no such cursor either
 */
const DIRECT = 0;
const CURSOR_ON_OVERLAY = 1;
const PICTURE_ON_OVERLAY = 2;
const COMPOSED = 3;
const ALL_COMPOSED = 4;
const NOTHING_WORKS = 5;

const KEY_LENGTH = 14;
const FLIP = DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_NONBLOCK;

const EPERM = 1;
const ENOMEM = 12;
const EACCES = 13;
export const EBUSY = 16;
export const ENODEV = 19;
const EINVAL = 22;

/** Says nothing about the layout: the same commit may work later. */
const passing = new Set([EPERM, EINTR, EAGAIN, ENOMEM, EACCES, EBUSY, ENODEV].map((errno) => -errno));

/** Lays frames onto the planes of one CRTC: one ioctl a frame where the layout is known and the planes can do it. */
export class CrtcPlanes implements Disposable {
  readonly #device: KmsDevice;
  readonly #pipe: Pipe;
  readonly #screen: Rect;
  readonly #black: KmsBuffer;
  readonly #log: Log;
  readonly #request: AtomicRequest;
  readonly #primary: PlaneSlots;
  readonly #cursor: PlaneSlots | null = null;
  readonly #overlay: PlaneSlots | null = null;
  readonly #composer: Composer;
  readonly #clips: DamageClips;
  readonly #memory = new LayoutMemory(KEY_LENGTH);
  readonly #logged = new Set<string>();
  readonly #at: Place = { x: 0, y: 0, width: 0, height: 0 };
  readonly #cursorAt: Place = { x: 0, y: 0, width: 0, height: 0 };
  /** Objects of the request that this frame, and the one before it, used; a plane left has to be turned off. */
  #used = 1;
  #usedBefore = 1;
  #sent = 1;
  #isZeroCopy = false;
  #isComposed = false;
  #choiceBefore = NOTHING_WORKS;

  /** `black` fills the screen and stays the caller's. */
  constructor(device: KmsDevice, pipe: Pipe, screen: Size, black: KmsBuffer, log: Log) {
    this.#device = device;
    this.#pipe = pipe;
    this.#screen = { x: 0, y: 0, width: screen.width, height: screen.height };
    this.#black = black;
    this.#log = log;
    const objects = [pipe.primary, pipe.cursor, pipe.overlay].filter((plane) => plane !== null).map(planeObject);
    this.#request = new AtomicRequest(objects);
    let first = 0;
    const slots = objects.map(({ properties }) => {
      const each = new PlaneSlots(this.#request, first, pipe.crtc.id, properties);
      first += properties.length;
      return each;
    });
    this.#primary = slots[0]!;
    if (pipe.cursor) this.#cursor = slots[1]!;
    if (pipe.overlay) this.#overlay = slots.at(-1)!;
    this.#composer = new Composer(device, screen, black.format, log);
    this.#clips = new DamageClips(device);
  }

  /** The picture of the last frame committed is read from where its owner put it. */
  get isZeroCopy(): boolean {
    return this.#isZeroCopy;
  }

  /** Commits a frame, with an event when it is on screen: 0, or -errno with nothing changed. */
  commit(frame: Frame, picture: KmsBuffer | null, cursor: KmsBuffer | null): number {
    if (!picture) return this.#blank();
    place(frame.canvas, this.#screen, this.#at);
    const pointer = cursor && this.#placeCursor(frame) ? cursor : null;
    const known = this.#recall(frame, picture, pointer);
    for (let choice = known < 0 ? DIRECT : known; choice < NOTHING_WORKS; choice++) {
      if (!this.#lay(choice, frame, picture, pointer)) continue;
      if (known < 0 && this.#isRefused(this.#request.commit(this.#device, DRM_MODE_ATOMIC_TEST_ONLY))) continue;
      if (choice >= COMPOSED && !this.#compose(frame, picture, choice === ALL_COMPOSED ? pointer : null)) continue;
      const result = this.#send(choice, frame, picture);
      if (this.#isRefused(result)) continue;
      if (known < 0) this.#learn(choice);
      return result;
    }
    if (known < 0) this.#learn(NOTHING_WORKS);
    return -EINVAL;
  }

  /** The last frame again, after EBUSY. */
  retry(): number {
    return this.#finish(this.#request.commit(this.#device, FLIP, this.#sent));
  }

  [Symbol.dispose](): void {
    this.#request[Symbol.dispose]();
    this.#composer[Symbol.dispose]();
    this.#clips[Symbol.dispose]();
  }

  #blank(): number {
    const { width, height } = this.#screen;
    this.#primary.show(this.#black.fbAs(this.#black.format), this.#screen, 0, 0, width, height);
    this.#cursor?.hide();
    this.#overlay?.hide();
    this.#used = 1;
    this.#composer.skip();
    this.#isComposed = false;
    this.#isZeroCopy = false;
    this.#choiceBefore = NOTHING_WORKS;
    return this.#commitUsed();
  }

  /** The cursor keeps its size when the picture is scaled; its hotspot is where the guest points. False: outside the picture. */
  #placeCursor({ cursor: { dst, src }, canvas, hotspotX, hotspotY }: Frame): boolean {
    if (dst.x >= canvas.width || dst.y >= canvas.height || dst.x + dst.width <= 0 || dst.y + dst.height <= 0) return false;
    const at = this.#at;
    this.#cursorAt.x = at.x + Math.round(((dst.x + hotspotX) * at.width) / canvas.width) - hotspotX;
    this.#cursorAt.y = at.y + Math.round(((dst.y + hotspotY) * at.height) / canvas.height) - hotspotY;
    this.#cursorAt.width = src.width;
    this.#cursorAt.height = src.height;
    return true;
  }

  /** The choice that worked for a frame of this kind; -1: not seen yet. */
  #recall({ primary: { src }, cursor }: Frame, picture: KmsBuffer, pointer: KmsBuffer | null): number {
    const memory = this.#memory;
    const at = this.#cursorAt;
    const isInside = at.x >= 0 && at.y >= 0 && at.x + at.width <= this.#screen.width && at.y + at.height <= this.#screen.height;
    memory.describe(0, picture.format);
    memory.describe(1, Number(picture.layout.modifier));
    memory.describe(2, picture.stride);
    memory.describe(3, src.x);
    memory.describe(4, src.y);
    memory.describe(5, src.width);
    memory.describe(6, src.height);
    memory.describe(7, this.#at.width);
    memory.describe(8, this.#at.height);
    memory.describe(9, pointer ? pointer.format : 0);
    memory.describe(10, pointer ? pointer.stride : 0);
    memory.describe(11, pointer ? cursor.src.width : 0);
    memory.describe(12, pointer ? cursor.src.height : 0);
    memory.describe(13, pointer && isInside ? 1 : 0);
    return memory.find();
  }

  #learn(choice: number): void {
    this.#memory.remember(choice);
    const connector = `${this.#device.name}:${this.#pipe.connector.name}`;
    if (choice === NOTHING_WORKS) this.#logOnce('warn', `${connector} cannot show this picture in any way; it keeps what it shows`);
    else if (choice >= COMPOSED) this.#logOnce('info', `${connector}: the planes cannot show this as it is, so it is drawn by the CPU`);
  }

  /** Writes a choice into the request; false where a plane or a framebuffer for it is missing. */
  #lay(choice: number, frame: Frame, picture: KmsBuffer, pointer: KmsBuffer | null): boolean {
    const pictureFits = this.#layPicture(choice, frame, picture);
    if (!pictureFits) return false;
    this.#cursor?.hide();
    if (choice !== PICTURE_ON_OVERLAY) this.#overlay?.hide();
    this.#used = choice === PICTURE_ON_OVERLAY || choice === CURSOR_ON_OVERLAY ? this.#objects : 1;
    if (choice === CURSOR_ON_OVERLAY) return pointer !== null && this.#layCursor(this.#overlay, this.#pipe.overlay, frame, pointer);
    if (choice === ALL_COMPOSED || !pointer) return choice !== ALL_COMPOSED || pointer !== null;
    this.#used = Math.max(this.#used, 2);
    return this.#layCursor(this.#cursor, this.#pipe.cursor, frame, pointer);
  }

  #layPicture(choice: number, { primary: { src } }: Frame, picture: KmsBuffer): boolean {
    const { x, y, width, height } = this.#at;
    const { width: screenWidth, height: screenHeight } = this.#screen;
    if (choice <= CURSOR_ON_OVERLAY) {
      const fb = picture.opaqueFb(this.#pipe.primary.formats);
      this.#primary.show(fb, src, x, y, width, height);
      return fb !== 0;
    }
    if (choice === PICTURE_ON_OVERLAY) {
      const { overlay } = this.#pipe;
      if (!overlay || !this.#overlay) return false;
      const fb = picture.opaqueFb(overlay.formats);
      this.#primary.show(this.#black.fbAs(this.#black.format), this.#screen, 0, 0, screenWidth, screenHeight);
      this.#overlay.show(fb, src, x, y, width, height);
      return fb !== 0;
    }
    const next = this.#nextComposed();
    if (next) this.#primary.show(next.fbAs(next.format), this.#screen, 0, 0, screenWidth, screenHeight);
    return next !== null;
  }

  #layCursor(slots: PlaneSlots | null, plane: Plane | null, { cursor: { src } }: Frame, pointer: KmsBuffer): boolean {
    const fb = plane?.formats.has(pointer.format, pointer.layout.modifier) ? pointer.fbAs(pointer.format) : 0;
    if (!slots || !fb) return false;
    const { x, y, width, height } = this.#cursorAt;
    slots.show(fb, src, x, y, width, height);
    return true;
  }

  get #objects(): number {
    return 1 + Number(this.#cursor !== null) + Number(this.#overlay !== null);
  }

  #nextComposed(): KmsBuffer | null {
    try {
      return this.#composer.next;
    } catch (error) {
      return this.#cannotCompose(error);
    }
  }

  #compose(frame: Frame, picture: KmsBuffer, pointer: KmsBuffer | null): boolean {
    const cursor = pointer && { buffer: pointer, from: frame.cursor.src, to: this.#cursorAt };
    try {
      this.#composer.compose({ buffer: picture, from: frame.primary.src, to: this.#at }, cursor, frame.damage);
      return true;
    } catch (error) {
      this.#cannotCompose(error);
      return false;
    }
  }

  #cannotCompose(error: unknown): null {
    if (!(error instanceof Error)) throw error;
    this.#composer.skip();
    this.#logOnce('warn', `${this.#device.name}:${this.#pipe.connector.name}: ${error.message}`);
    return null;
  }

  #send(choice: number, { damage, primary }: Frame, picture: KmsBuffer): number {
    const isComposed = choice >= COMPOSED;
    this.#isComposed = isComposed;
    this.#isZeroCopy = picture.isImport && !isComposed;
    if (!isComposed) this.#composer.skip();
    const slots = choice === PICTURE_ON_OVERLAY ? this.#overlay! : this.#primary;
    const [changed, shown] = isComposed ? [this.#composer.changed, this.#screen] : [damage, primary.src];
    // To whoever sees another buffer in this place, all of it is new.
    const blob = slots.hasDamage && choice === this.#choiceBefore ? this.#clips.make(changed, shown) : 0;
    if (blob !== 0) slots.damage(blob);
    const result = this.#commitUsed();
    this.#choiceBefore = result === 0 ? choice : NOTHING_WORKS;
    if (blob === 0) return result;
    // The kernel's state has it now; a retry goes without.
    slots.damage(0);
    this.#clips.drop(blob);
    return result;
  }

  #commitUsed(): number {
    this.#sent = Math.max(this.#used, this.#usedBefore);
    return this.#finish(this.#request.commit(this.#device, FLIP, this.#sent));
  }

  #finish(result: number): number {
    if (result < 0) return result;
    this.#usedBefore = this.#used;
    if (this.#isComposed) this.#composer.turn();
    return 0;
  }

  #isRefused(result: number): boolean {
    return result < 0 && !passing.has(result);
  }

  #logOnce(level: 'info' | 'warn', message: string): void {
    if (this.#logged.has(message)) return;
    this.#logged.add(message);
    this.#log(level, message);
  }
}
