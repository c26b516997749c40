import { type Guest, bootGuest, type GuestGpu } from '../../rig/guest.ts';
import { type Draw, guestDraw, startDrawing } from '../../rig/guest-pictures.ts';
import type { Picture } from '../../../src/core/picture.ts';

export const FLIPS = 2000;
export const COLOURS = 64;
/** A guest in an emulated machine in an emulated machine takes minutes to boot. */
const PATIENCE_MS = 20 * 60_000;
/** Two, so that the guest draws into the buffer that was on screen before. */
const BUFFERS = 2;

/** The colour that guest-draw fills its frame `number` with, as 0xRRGGBB. */
export function colourOf(number: number): number {
  return Math.imul(number, 0x9e3779b1) >>> 8;
}

/** True if the picture has parts of several frames. */
export function isMixed({ data }: Picture): boolean {
  const pixels = new Uint32Array(data.buffer, data.byteOffset, data.length / 4);
  return pixels.some((pixel) => pixel !== pixels[0]);
}

/** A real guest that fills its screen with one colour after the other, as fast as it can. */
export class FillingGuest implements AsyncDisposable {
  readonly guest: Guest;
  readonly #draw: Draw;

  private constructor(guest: Guest, draw: Draw) {
    this.guest = guest;
    this.#draw = draw;
  }

  /** Resolves when it shows a whole frame. */
  static async boot(gpu: GuestGpu, size: readonly [width: number, height: number]): Promise<FillingGuest> {
    const guest = await bootGuest({ gpu, size, memoryMiB: 192, programs: [guestDraw()], patienceMs: PATIENCE_MS });
    try {
      const draw = await startDrawing(guest);
      await draw(`mode ${size.join(' ')}`);
      await draw(`fill 2 ${BUFFERS}`);
      return new FillingGuest(guest, draw);
    } catch (error) {
      await guest[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Calls `look`, which resolves with false, again and again until the guest has flipped FLIPS times. */
  async fill(look: () => Promise<false>): Promise<void> {
    const filling = this.#draw(`fill ${FLIPS} ${BUFFERS}`).then(() => true);
    while (!(await Promise.race([filling, look()])));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
  }
}
