import type { Handle } from '../../src/core/output.ts';
import { KmsBuffer } from './buffer.ts';

/** The buffers of the frame on screen and of the one that is to be, each kept alive until another takes its place. */
export class ShownBuffers implements Disposable {
  readonly #onReleased: (handle: Handle) => void;
  #picture: KmsBuffer | null = null;
  #cursor: KmsBuffer | null = null;
  #nextPicture: KmsBuffer | null = null;
  #nextCursor: KmsBuffer | null = null;
  #isWaiting = false;

  /** `onReleased` hears of each that no frame has any more, from inside `turn`; it may dispose us. */
  constructor(onReleased: (handle: Handle) => void) {
    this.#onReleased = onReleased;
  }

  /** A frame waits to be shown. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Of the newest frame. */
  get picture(): KmsBuffer | null {
    return this.#isWaiting ? this.#nextPicture : this.#picture;
  }

  get cursor(): KmsBuffer | null {
    return this.#isWaiting ? this.#nextCursor : this.#cursor;
  }

  /** A frame with these is to be shown; a handle freed already counts as none. */
  wait(picture: Handle | null, cursor: Handle | null): void {
    this.#nextPicture = usable(picture);
    this.#nextCursor = usable(cursor);
    this.#nextPicture?.acquire();
    this.#nextCursor?.acquire();
    this.#isWaiting = true;
  }

  /** The waiting frame is shown now, as far as anybody waits for it. */
  turn(): void {
    const picture = this.#picture;
    const cursor = this.#cursor;
    this.#picture = this.#nextPicture;
    this.#cursor = this.#nextCursor;
    this.#nextPicture = null;
    this.#nextCursor = null;
    this.#isWaiting = false;
    picture?.release();
    cursor?.release();
    if (picture && !picture.isHeld) this.#onReleased(picture);
    if (cursor && cursor !== picture && !cursor.isHeld) this.#onReleased(cursor);
  }

  [Symbol.dispose](): void {
    for (const buffer of [this.#picture, this.#cursor, this.#nextPicture, this.#nextCursor]) buffer?.release();
    this.#picture = this.#cursor = this.#nextPicture = this.#nextCursor = null;
    this.#isWaiting = false;
  }
}

function usable(handle: Handle | null): KmsBuffer | null {
  return handle instanceof KmsBuffer && !handle.isFreed ? handle : null;
}
