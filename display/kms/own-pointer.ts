import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import type { Damage } from '../../src/core/damage.ts';
import { MutableRect, type Size } from '../../src/core/geometry.ts';
import type { Frame, PlaneState } from '../../src/core/output.ts';
import type { BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { KmsBuffer } from './buffer.ts';
import type { KmsDevice } from './device.ts';

/** An arrow with its point at the upper left: `#` black, `.` white. */
export const ARROW = [
  '#',
  '##',
  '#.#',
  '#..#',
  '#...#',
  '#....#',
  '#.....#',
  '#......#',
  '#.......#',
  '#........#',
  '#.....####',
  '#..#..#',
  '#.# #..#',
  '##  #..#',
  '#    #..#',
  '     #..#',
  '      ##',
];
const BLACK = 0xff000000;
const WHITE = 0xffffffff;

/** A pointer that the bridge draws, for a guest that draws none: the image, and where it is on one screen. */
export class OwnPointer implements Disposable {
  readonly image: KmsBuffer;
  readonly #frame: FrameWithCursor;
  readonly #src = new MutableRect();
  readonly #dst = new MutableRect();
  #isOn = false;
  #isGuestDrawing = false;

  /** `size` is that of the image, which the cursor plane has to take. KmsError `no-buffer`. */
  constructor(device: KmsDevice, { width, height }: Size) {
    this.image = KmsBuffer.dumb(device, width, height, DRM_FORMAT.ARGB8888);
    // So that it is never released to a listener, who does not know it.
    this.image.hold();
    const { view } = this.image.pixels;
    ARROW.forEach((row, y) => {
      for (let x = 0; x < row.length; x++)
        if (row[x] !== ' ') view.setUint32(y * this.image.stride + x * 4, row[x] === '#' ? BLACK : WHITE, true);
    });
    this.#src.set(0, 0, width, height);
    this.#frame = new FrameWithCursor({ handle: this.image, src: this.#src, dst: this.#dst });
  }

  /** In pixels of the guest's picture. */
  moveTo(x: number, y: number): void {
    this.#isOn = true;
    this.#dst.set(Math.floor(x), Math.floor(y), this.#src.width, this.#src.height);
  }

  /** It is on another screen. */
  leave(): void {
    this.#isOn = false;
  }

  /** Another guest may be shown next. */
  forgetGuest(): void {
    this.#isOn = false;
    this.#isGuestDrawing = false;
  }

  /** The guest has shown a cursor of its own, and may have hidden it since. */
  get isGuestDrawing(): boolean {
    return this.#isGuestDrawing;
  }

  /** The frame as it is to be shown: with this pointer if that is on the screen and the guest never showed one. Valid until the next call. */
  over(frame: Frame): Frame {
    this.#isGuestDrawing ||= frame.cursor.handle !== null;
    if (this.#isGuestDrawing || !this.#isOn) return frame;
    return this.#frame.of(frame);
  }

  [Symbol.dispose](): void {
    this.image.unhold();
    this.image[Symbol.dispose]();
  }
}

/** Another frame, but for its cursor. */
class FrameWithCursor implements Frame {
  readonly cursor: PlaneState;
  readonly hotspotX = 0;
  readonly hotspotY = 0;
  readonly isCursorNew = false;
  #frame!: Frame;

  constructor(cursor: PlaneState) {
    this.cursor = cursor;
  }

  of(frame: Frame): this {
    this.#frame = frame;
    return this;
  }

  get canvas(): Size {
    return this.#frame.canvas;
  }

  get primary(): PlaneState {
    return this.#frame.primary;
  }

  get damage(): Damage {
    return this.#frame.damage;
  }

  get acquire(): BorrowedFd | null {
    return this.#frame.acquire;
  }

  get release(): ((fence: OwnedFd) => void) | null {
    return this.#frame.release;
  }
}
