import { type WlSeat, WlSeatCapability, type ZwpKeyboardShortcutsInhibitorV1 } from '../client/index.ts';
import type { AttachedSurface, AttachedSurfaces } from './attached-surface.ts';
import type { SeatGlobals } from './globals.ts';
import { Keyboard } from './keyboard.ts';
import { Pointer } from './pointer.ts';
import { keyboardOf, pointerOf } from './shared-input.ts';
import { Touch } from './touch.ts';

/** A wl_seat: its devices as they come and go, and the grab, which holds pointer and keyboard in one window. */
export class WaylandSeat implements Disposable {
  /** Below MAX_SEATS, and unique among the seats. */
  readonly index: number;
  readonly #seat: WlSeat;
  readonly #surfaces: AttachedSurfaces;
  readonly #globals: SeatGlobals;
  #pointer: Pointer | null = null;
  #keyboard: Keyboard | null = null;
  #touch: Touch | null = null;
  #grabbed: AttachedSurface | null = null;
  #inhibitor: ZwpKeyboardShortcutsInhibitorV1 | null = null;

  /** Owns `seat`. */
  constructor(seat: WlSeat, index: number, surfaces: AttachedSurfaces, globals: SeatGlobals) {
    this.#seat = seat;
    this.index = index;
    this.#surfaces = surfaces;
    this.#globals = globals;
    seat.listener = { capabilities: (capabilities) => this.#setCapabilities(capabilities) };
  }

  get pointer(): Pointer | null {
    return this.#pointer;
  }

  /** Releases the keys that are down, because the events of their release may go elsewhere. */
  #toggleGrab(at: AttachedSurface): boolean {
    if (this.#grabbed) {
      this.#keyboard!.releaseAll();
      this.#endGrab();
      return true;
    }
    const isLocking = this.#pointer?.lock(at) ?? false;
    this.#inhibitor = this.#globals.inhibitors?.inhibitShortcuts(at.surface, this.#seat) ?? null;
    if (!isLocking && !this.#inhibitor) return false;
    // The user has asked the compositor for its shortcuts back.
    if (this.#inhibitor) this.#inhibitor.listener = { inactive: () => this.#endGrab() };
    this.#keyboard!.releaseAll();
    this.#grabbed = at;
    at.target.grabChanged(true);
    return true;
  }

  attached(at: AttachedSurface): void {
    this.#pointer?.attached(at);
    this.#keyboard?.attached(at);
  }

  detached(at: AttachedSurface): void {
    // Ends the grab too, which is where the keyboard is.
    this.#keyboard?.detached(at);
    this.#pointer?.detached(at);
    this.#touch?.detached(at);
  }

  [Symbol.dispose](): void {
    this.#setCapabilities(0);
    this.#seat[Symbol.dispose]();
  }

  #endGrab(): void {
    const grabbed = this.#grabbed;
    if (!grabbed) return;
    this.#grabbed = null;
    this.#pointer?.unlock();
    this.#inhibitor?.[Symbol.dispose]();
    this.#inhibitor = null;
    grabbed.target.grabChanged(false);
  }

  #setCapabilities(capabilities: number): void {
    const hasPointer = (capabilities & WlSeatCapability.pointer) !== 0;
    const hasKeyboard = (capabilities & WlSeatCapability.keyboard) !== 0;
    const hasTouch = (capabilities & WlSeatCapability.touch) !== 0;
    const endGrab = (): void => this.#endGrab();
    this.#pointer = this.#follow(hasPointer, this.#pointer, () => {
      return new Pointer(this.#seat.getPointer(), this.#surfaces, this.#globals, {
        holder: pointerOf(this.index),
        onUnlocked: endGrab,
      });
    });
    if (!hasPointer) this.#endGrab();
    const onShortcut = (at: AttachedSurface): boolean => this.#toggleGrab(at);
    this.#keyboard = this.#follow(hasKeyboard, this.#keyboard, () => {
      return new Keyboard(this.#seat.getKeyboard(), this.#surfaces, {
        holder: keyboardOf(this.index),
        onShortcut,
        onLeft: endGrab,
      });
    });
    this.#touch = this.#follow(hasTouch, this.#touch, () => new Touch(this.#seat.getTouch(), this.#surfaces));
  }

  #follow<T extends Disposable>(isThere: boolean, device: T | null, open: () => T): T | null {
    if (isThere) return device ?? open();
    device?.[Symbol.dispose]();
    return null;
  }
}
