import { MutableRect, type Rect, type Size } from '../../src/core/geometry.ts';
import type { Frame } from '../../src/core/output.ts';
import type { PipeRequest, PlaneSlots } from './atomic.ts';
import type { KmsBuffer } from './buffer.ts';
import type { Pipe, Plane } from './resources.ts';

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
export const DIRECT = 0;
const CURSOR_ON_OVERLAY = 1;
export const PICTURE_ON_OVERLAY = 2;
export const COMPOSED = 3;
export const ALL_COMPOSED = 4;
export const NOTHING_WORKS = 5;

/** Numbers `Layout.describe` gives. */
export const KEY_LENGTH = 17;

/** Where a frame goes on the screen, written into the request of its CRTC. */
export class Layout {
  readonly screen: Rect;
  /** Of the frame placed last. */
  readonly picture = new MutableRect();
  readonly pointer = new MutableRect();
  readonly #request: PipeRequest;
  readonly #pipe: Pipe;
  #used = 1;

  constructor(request: PipeRequest, pipe: Pipe, screen: Rect) {
    this.#request = request;
    this.#pipe = pipe;
    this.screen = screen;
  }

  /** How many planes of the request, from the front, what was laid last needs. */
  get used(): number {
    return this.#used;
  }

  /** The cursor keeps its size when the picture is scaled; its hotspot is where the guest points. False: the cursor is outside the picture. */
  place({ cursor: { dst, src }, canvas, hotspotX, hotspotY }: Frame): boolean {
    const at = this.picture;
    place(canvas, this.screen, at);
    if (dst.x >= canvas.width || dst.y >= canvas.height || dst.x + dst.width <= 0 || dst.y + dst.height <= 0) return false;
    const x = at.x + Math.round(((dst.x + hotspotX) * at.width) / canvas.width) - hotspotX;
    const y = at.y + Math.round(((dst.y + hotspotY) * at.height) / canvas.height) - hotspotY;
    this.pointer.set(x, y, src.width, src.height);
    return true;
  }

  /** The kind of the frame placed last. */
  describe(memory: LayoutMemory, { primary: { src }, cursor }: Frame, picture: KmsBuffer, pointer: KmsBuffer | null): void {
    const at = this.pointer;
    const isInside = at.x >= 0 && at.y >= 0 && at.x + at.width <= this.screen.width && at.y + at.height <= this.screen.height;
    memory.describe(0, picture.format);
    memory.describe(1, picture.modifierHigh);
    memory.describe(2, picture.modifierLow);
    memory.describe(3, picture.stride);
    memory.describe(4, src.x);
    memory.describe(5, src.y);
    memory.describe(6, src.width);
    memory.describe(7, src.height);
    memory.describe(8, this.picture.width);
    memory.describe(9, this.picture.height);
    memory.describe(10, pointer ? pointer.format : 0);
    memory.describe(11, pointer ? pointer.modifierHigh : 0);
    memory.describe(12, pointer ? pointer.modifierLow : 0);
    memory.describe(13, pointer ? pointer.stride : 0);
    memory.describe(14, pointer ? cursor.src.width : 0);
    memory.describe(15, pointer ? cursor.src.height : 0);
    memory.describe(16, pointer && isInside ? 1 : 0);
  }

  /**
   * Writes a choice for the frame placed last into the request; false where a plane or a framebuffer for it is
   * missing. `whole` fills the screen: what was composed, or black where the picture is on the overlay.
   */
  lay(choice: number, frame: Frame, picture: KmsBuffer, pointer: KmsBuffer | null, whole: KmsBuffer): boolean {
    const request = this.#request;
    if (!this.#layPicture(choice, frame, picture, whole)) return false;
    request.cursor?.hide();
    if (choice !== PICTURE_ON_OVERLAY) request.overlay?.hide();
    this.#used = choice === PICTURE_ON_OVERLAY || choice === CURSOR_ON_OVERLAY ? request.planes : 1;
    if (choice === CURSOR_ON_OVERLAY) return pointer !== null && this.#layCursor(request.overlay, this.#pipe.overlay, frame, pointer);
    if (choice === ALL_COMPOSED || !pointer) return choice !== ALL_COMPOSED || pointer !== null;
    this.#used = Math.max(this.#used, 2);
    return this.#layCursor(request.cursor, this.#pipe.cursor, frame, pointer);
  }

  /** Nothing but a buffer that fills the screen. */
  layOnly(whole: KmsBuffer): void {
    this.#layWhole(whole);
    this.#request.cursor?.hide();
    this.#request.overlay?.hide();
    this.#used = 1;
  }

  #layPicture(choice: number, { primary: { src } }: Frame, picture: KmsBuffer, whole: KmsBuffer): boolean {
    const { x, y, width, height } = this.picture;
    if (choice >= PICTURE_ON_OVERLAY) this.#layWhole(whole);
    if (choice >= COMPOSED) return true;
    const plane = choice === PICTURE_ON_OVERLAY ? this.#pipe.overlay : this.#pipe.primary;
    const slots = choice === PICTURE_ON_OVERLAY ? this.#request.overlay : this.#request.primary;
    if (!plane || !slots) return false;
    const fb = picture.opaqueFb(plane.formats);
    slots.show(fb, src, x, y, width, height);
    return fb !== 0;
  }

  #layWhole(buffer: KmsBuffer): void {
    const { width, height } = this.screen;
    this.#request.primary.show(buffer.fbAs(buffer.format), this.screen, 0, 0, width, height);
  }

  #layCursor(slots: PlaneSlots | null, plane: Plane | null, { cursor: { src } }: Frame, pointer: KmsBuffer): boolean {
    const fb = plane?.formats.has(pointer.format, pointer.layout.modifier) ? pointer.fbAs(pointer.format) : 0;
    if (!slots || !fb) return false;
    const { x, y, width, height } = this.pointer;
    slots.show(fb, src, x, y, width, height);
    return true;
  }
}

/** Puts `canvas` into the middle of `screen`: pixel for pixel if it fits, else as large as fits with its aspect kept. */
export function place(canvas: Size, screen: Size, into: MutableRect): void {
  const shrink = Math.min(1, screen.width / canvas.width, screen.height / canvas.height);
  const width = Math.max(1, Math.round(canvas.width * shrink));
  const height = Math.max(1, Math.round(canvas.height * shrink));
  into.set(Math.floor((screen.width - width) / 2), Math.floor((screen.height - height) / 2), width, height);
}

/** Kinds of frames a guest alternates between: a few sizes, with and without cursor. */
const REMEMBERED = 16;

/**
 * Which way of using the planes the driver accepted for a kind of frame, so that it is asked once.
 * The key's numbers are given one by one; nothing is allocated.
 */
export class LayoutMemory {
  readonly #keyLength: number;
  readonly #keys: Float64Array;
  readonly #choices = new Int8Array(REMEMBERED);
  readonly #key: Float64Array;
  #filled = 0;
  #next = 0;

  constructor(keyLength: number) {
    this.#keyLength = keyLength;
    this.#keys = new Float64Array(REMEMBERED * keyLength);
    this.#key = new Float64Array(keyLength);
  }

  /** One number of the kind of frame `find` and `remember` are about. */
  describe(index: number, value: number): void {
    this.#key[index] = value;
  }

  /** -1: not tried yet. */
  find(): number {
    for (let slot = 0; slot < this.#filled; slot++) if (this.#isAt(slot)) return this.#choices[slot]!;
    return -1;
  }

  remember(choice: number): void {
    this.#keys.set(this.#key, this.#next * this.#keyLength);
    this.#choices[this.#next] = choice;
    this.#filled = Math.max(this.#filled, this.#next + 1);
    this.#next = (this.#next + 1) % REMEMBERED;
  }

  #isAt(slot: number): boolean {
    for (let i = 0; i < this.#keyLength; i++) if (this.#keys[slot * this.#keyLength + i] !== this.#key[i]) return false;
    return true;
  }
}
