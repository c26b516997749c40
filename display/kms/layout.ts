import { MutableRect, type Rect, type Size } from '../../src/core/geometry.ts';
import type { Frame } from '../../src/core/output.ts';
import { isRefused, type PipeRequest, type PlaneSlots } from './atomic.ts';
import type { KmsBuffer } from './buffer.ts';
import type { Pipe, Plane } from './resources.ts';

/*
 * How a frame is laid onto the planes of a CRTC.
 *
 * A frame has a picture and perhaps a cursor. Five choices place them, best first; what the hardware cannot do moves
 * one row down:
 *
 *                        primary    overlay    cursor plane   needed when
 *   DIRECT               picture               cursor
 *   CURSOR_ON_OVERLAY    picture    cursor                    the cursor plane refuses this cursor
 *   PICTURE_ON_OVERLAY   black      picture    cursor         the primary plane must fill the screen
 *   COMPOSED             composed              cursor         no plane scales, or takes this format
 *   ALL_COMPOSED         composed                             no plane takes this cursor either
 *
 * "composed" is a buffer as large as the screen that the CPU draws the picture into, scaled and centred.
 *
 *                  lay(frame)                            refused(frame)
 *                      |                                        |
 *       place picture and cursor on screen              forget the choice
 *                      |                                        |
 *         key of the frame in memory? --- no ---> search: write a choice into the
 *                      | yes                      request, ask by TEST_ONLY; the
 *                      |                          first one accepted is taken
 *         write the known choice                          |
 *                      `------------> Assignment <--------'
 *                                         |
 *                    the caller commits the request: accepted() or refused()
 *
 * What a driver accepts can only be found by asking, so the answer is remembered for each kind of frame: formats,
 * tilings, strides and sizes, and whether the cursor is inside the screen. A kind seen before costs one ioctl a
 * frame. The place of the cursor is not part of the key, because it seldom matters to hardware. Where it does, the
 * commit of a known choice is refused; from then on the choice of that kind holds only for the place of the cursor
 * that it was found with, and the driver is asked again when the cursor moves.
 */
const DIRECT = 0;
const CURSOR_ON_OVERLAY = 1;
const PICTURE_ON_OVERLAY = 2;
const COMPOSED = 3;
const ALL_COMPOSED = 4;
const NOTHING_WORKS = 5;
const UNKNOWN = -1;

/** Kinds of frames remembered: guests alternate between a few sizes, with and without a cursor. */
const KINDS = 16;
/** Numbers that describe a kind of frame. */
const KEY_LENGTH = 17;

/** What `Layout` wrote into the request for a frame. Valid until its next call. */
export interface Assignment {
  /** Identifies the choice; the same planes show the same things in two frames of equal choice. */
  readonly choice: number;
  /** The CPU has to draw the picture into the composed buffer before the commit. */
  readonly isComposed: boolean;
  /** The cursor it has to draw on top of it; null if a plane shows the cursor, or there is none. */
  readonly composedCursor: KmsBuffer | null;
  /** The slots of the plane that shows the picture, or the composed buffer. */
  readonly slots: PlaneSlots;
  /** How many planes, counted from the front of the request, are in use. */
  readonly planes: number;
}

export interface LayoutOptions {
  readonly request: PipeRequest;
  readonly pipe: Pipe;
  /** The screen, at 0, 0. */
  readonly screen: Rect;
  /** Fills the screen where there is no picture. */
  readonly background: KmsBuffer;
  /** Fills the screen behind a picture on the overlay. */
  readonly black: KmsBuffer;
  /** The buffer that the next composed frame is drawn into; null if it cannot be made. */
  readonly composed: () => KmsBuffer | null;
}

/** Lays frames onto the planes of one CRTC and remembers what its driver accepts. See the drawing above. */
export class Layout {
  readonly screen: Rect;
  /** Where the frame laid last has its picture and cursor on screen. */
  readonly picture = new MutableRect();
  readonly cursor = new MutableRect();
  /** The part of the cursor's buffer that it shows. */
  readonly cursorSrc = new MutableRect();
  readonly #request: PipeRequest;
  readonly #pipe: Pipe;
  readonly #background: KmsBuffer;
  readonly #black: KmsBuffer;
  readonly #composed: () => KmsBuffer | null;
  readonly #assignment: { -readonly [K in keyof Assignment]: Assignment[K] };
  /** Choices tried for this frame, one bit each. */
  #tried = 0;
  /** The choice came from memory. */
  #isKnown = false;

  /* Memory: one entry a kind, overwritten in turn. */
  readonly #key = new Float64Array(KEY_LENGTH);
  readonly #keys = new Float64Array(KINDS * KEY_LENGTH);
  readonly #choices = new Int8Array(KINDS);
  /** Entries whose choice holds for one place of the cursor only, and that place. */
  readonly #isPlaceBound = new Uint8Array(KINDS);
  readonly #places = new Int32Array(KINDS * 2);
  #filled = 0;
  #oldest = 0;
  /** The entry of this frame's kind; -1: it has none. */
  #entry = -1;

  constructor({ request, pipe, screen, background, black, composed }: LayoutOptions) {
    this.#request = request;
    this.#pipe = pipe;
    this.screen = screen;
    this.#background = background;
    this.#black = black;
    this.#composed = composed;
    this.#assignment = {
      choice: NOTHING_WORKS,
      isComposed: false,
      composedCursor: null,
      slots: request.primary,
      planes: 1,
    };
  }

  /**
   * Writes the best way to show a frame into the request, as far as the driver was asked. Null if there is none.
   * `isEnabled`: the CRTC is on in its mode, so that a flip is what will be committed. Allocates nothing.
   */
  lay(frame: Frame, picture: KmsBuffer, cursor: KmsBuffer | null, isEnabled: boolean): Assignment | null {
    const pointer = this.#place(frame, cursor);
    this.#describe(frame, picture, pointer);
    this.#tried = 0;
    const choice = this.#find();
    this.#isKnown = choice !== UNKNOWN;
    if (choice === NOTHING_WORKS) return null;
    if (choice !== UNKNOWN && this.#write(choice, frame, picture, pointer)) return this.#assign(choice, pointer);
    return this.#search(frame, picture, pointer, isEnabled);
  }

  /**
   * The frame laid last cannot be shown as it was laid: the next best way, null if there is none. Arguments
   * as of `lay`.
   */
  refused(frame: Frame, picture: KmsBuffer, cursor: KmsBuffer | null, isEnabled: boolean): Assignment | null {
    if (this.#isKnown) this.#isPlaceBound[this.#entry] = 1;
    return this.#search(frame, picture, this.#place(frame, cursor), isEnabled);
  }

  /** The frame laid last was committed: its kind is laid like this from now on. True if that is new. */
  accepted(): boolean {
    const { choice } = this.#assignment;
    if (this.#isKnown && this.#choices[this.#entry] === choice) return false;
    this.#remember(choice);
    return true;
  }

  /** The frame laid last could not be shown for a reason that may pass: the driver is asked again for its kind. */
  forget(): void {
    this.#remember(UNKNOWN);
  }

  /** Writes the background, and nothing else, into the request. */
  blank(): Assignment {
    this.#writeWhole(this.#background);
    this.#request.cursor?.hide();
    this.#request.overlay?.hide();
    return this.#assign(NOTHING_WORKS, null);
  }

  /** Tries what was not tried for this frame yet, best first. */
  #search(frame: Frame, picture: KmsBuffer, pointer: KmsBuffer | null, isEnabled: boolean): Assignment | null {
    for (let choice = DIRECT; choice < NOTHING_WORKS; choice++) {
      if ((this.#tried & (1 << choice)) !== 0) continue;
      if (!this.#write(choice, frame, picture, pointer) || isRefused(this.#request.test(isEnabled))) continue;
      return this.#assign(choice, pointer);
    }
    // What worked once may work again, so only a kind that never did is given up.
    this.#remember(this.#isKnown ? UNKNOWN : NOTHING_WORKS);
    return null;
  }

  #assign(choice: number, pointer: KmsBuffer | null): Assignment {
    const { primary, overlay, planes } = this.#request;
    const assignment = this.#assignment;
    assignment.choice = choice;
    assignment.isComposed = choice === COMPOSED || choice === ALL_COMPOSED;
    assignment.composedCursor = choice === ALL_COMPOSED ? pointer : null;
    assignment.slots = choice === PICTURE_ON_OVERLAY ? overlay! : primary;
    const usesOverlay = choice === CURSOR_ON_OVERLAY || choice === PICTURE_ON_OVERLAY;
    const usesCursor = pointer !== null && choice !== ALL_COMPOSED && choice !== NOTHING_WORKS;
    assignment.planes = usesOverlay ? planes : usesCursor ? 2 : 1;
    return assignment;
  }

  /** Fills `picture` and `cursor`. Returns the cursor; null if there is none, or it is outside the picture. */
  #place({ cursor: { dst, src }, canvas, hotspotX, hotspotY }: Frame, cursor: KmsBuffer | null): KmsBuffer | null {
    const at = this.picture;
    place(canvas, this.screen, at);
    const isOutside =
      dst.x >= canvas.width || dst.y >= canvas.height || dst.x + dst.width <= 0 || dst.y + dst.height <= 0;
    if (!cursor || isOutside) {
      this.cursor.set(0, 0, 0, 0);
      return null;
    }
    // The cursor keeps its size when the picture is scaled; its hotspot stays where the guest points.
    const x = at.x + Math.round(((dst.x + hotspotX) * at.width) / canvas.width) - hotspotX;
    const y = at.y + Math.round(((dst.y + hotspotY) * at.height) / canvas.height) - hotspotY;
    if (cursor.isPadded) this.cursorSrc.set(0, 0, cursor.width, cursor.height);
    else this.cursorSrc.copy(src);
    this.cursor.set(x, y, this.cursorSrc.width, this.cursorSrc.height);
    return cursor;
  }

  /** Writes a choice into the request; false if a plane or a framebuffer for it is missing. */
  #write(choice: number, frame: Frame, picture: KmsBuffer, pointer: KmsBuffer | null): boolean {
    const { cursor, overlay } = this.#request;
    this.#tried |= 1 << choice;
    if (!this.#writePicture(choice, frame, picture)) return false;
    cursor?.hide();
    if (choice !== PICTURE_ON_OVERLAY) overlay?.hide();
    if (choice === ALL_COMPOSED) return pointer !== null;
    if (choice === CURSOR_ON_OVERLAY)
      return pointer !== null && this.#writeCursor(overlay, this.#pipe.overlay, frame, pointer);
    return pointer === null || this.#writeCursor(cursor, this.#pipe.cursor, frame, pointer);
  }

  #writePicture(choice: number, { primary: { src } }: Frame, picture: KmsBuffer): boolean {
    if (choice >= PICTURE_ON_OVERLAY) {
      const whole = choice === PICTURE_ON_OVERLAY ? this.#black : this.#composed();
      if (!whole) return false;
      this.#writeWhole(whole);
      if (choice !== PICTURE_ON_OVERLAY) return true;
    }
    const plane = choice === PICTURE_ON_OVERLAY ? this.#pipe.overlay : this.#pipe.primary;
    const slots = choice === PICTURE_ON_OVERLAY ? this.#request.overlay : this.#request.primary;
    if (!plane || !slots) return false;
    const fb = picture.opaqueFb(plane.formats);
    const { x, y, width, height } = this.picture;
    slots.show(fb, src, x, y, width, height);
    return fb !== 0;
  }

  #writeWhole(buffer: KmsBuffer): void {
    const { width, height } = this.screen;
    this.#request.primary.show(buffer.fbAs(buffer.format), this.screen, 0, 0, width, height);
  }

  #writeCursor(slots: PlaneSlots | null, plane: Plane | null, frame: Frame, pointer: KmsBuffer): boolean {
    const fb = plane?.formats.has(pointer.format, pointer.layout.modifier) ? pointer.fbAs(pointer.format) : 0;
    if (!slots || !fb) return false;
    const { x, y, width, height } = this.cursor;
    slots.show(fb, this.cursorSrc, x, y, width, height);
    slots.hotspot(frame.hotspotX, frame.hotspotY);
    return true;
  }

  /** The key of the frame just placed. */
  #describe({ primary: { src } }: Frame, picture: KmsBuffer, pointer: KmsBuffer | null): void {
    const at = this.cursor;
    const isInside =
      at.x >= 0 && at.y >= 0 && at.x + at.width <= this.screen.width && at.y + at.height <= this.screen.height;
    const key = this.#key;
    key[0] = picture.format;
    key[1] = picture.modifierHigh;
    key[2] = picture.modifierLow;
    key[3] = picture.stride;
    key[4] = src.x;
    key[5] = src.y;
    key[6] = src.width;
    key[7] = src.height;
    key[8] = this.picture.width;
    key[9] = this.picture.height;
    key[10] = pointer ? pointer.format : 0;
    key[11] = pointer ? pointer.modifierHigh : 0;
    key[12] = pointer ? pointer.modifierLow : 0;
    key[13] = pointer ? pointer.stride : 0;
    key[14] = pointer ? this.cursorSrc.width : 0;
    key[15] = pointer ? this.cursorSrc.height : 0;
    key[16] = pointer && isInside ? 1 : 0;
  }

  /** The choice for the key, which may be NOTHING_WORKS; UNKNOWN if the driver has to be asked. */
  #find(): number {
    for (let entry = 0; entry < this.#filled; entry++) {
      if (!this.#isKeyOf(entry)) continue;
      this.#entry = entry;
      const isElsewhere = this.#places[entry * 2] !== this.cursor.x || this.#places[entry * 2 + 1] !== this.cursor.y;
      return this.#isPlaceBound[entry] === 1 && isElsewhere ? UNKNOWN : this.#choices[entry]!;
    }
    this.#entry = -1;
    return UNKNOWN;
  }

  #isKeyOf(entry: number): boolean {
    for (let i = 0; i < KEY_LENGTH; i++) if (this.#keys[entry * KEY_LENGTH + i] !== this.#key[i]) return false;
    return true;
  }

  #remember(choice: number): void {
    if (this.#entry < 0) {
      this.#entry = this.#oldest;
      this.#oldest = (this.#oldest + 1) % KINDS;
      this.#filled = Math.max(this.#filled, this.#entry + 1);
      this.#keys.set(this.#key, this.#entry * KEY_LENGTH);
      this.#isPlaceBound[this.#entry] = 0;
    }
    this.#choices[this.#entry] = choice;
    this.#places[this.#entry * 2] = this.cursor.x;
    this.#places[this.#entry * 2 + 1] = this.cursor.y;
  }
}

/**
 * Puts `canvas` into the middle of `screen`: pixel for pixel if it fits, else as large as fits with its
 * aspect kept.
 */
export function place(canvas: Size, screen: Size, into: MutableRect): void {
  const shrink = Math.min(1, screen.width / canvas.width, screen.height / canvas.height);
  const width = Math.max(1, Math.round(canvas.width * shrink));
  const height = Math.max(1, Math.round(canvas.height * shrink));
  into.set(Math.floor((screen.width - width) / 2), Math.floor((screen.height - height) / 2), width, height);
}
