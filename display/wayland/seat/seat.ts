import { KEY } from '../../../protocols/input-event-codes.ts';
import { type WlSeat, WlSeatCapability, type ZwpKeyboardShortcutsInhibitorV1 } from '../client/index.ts';
import type { WaylandClipboard } from '../clipboard.ts';
import type { AttachedSurface, AttachedSurfaces, FrameTarget } from './attached-surface.ts';
import type { SeatGlobals } from './globals.ts';
import { Keyboard, type ShortcutKey } from './keyboard.ts';
import { Pointer } from './pointer.ts';
import { Selection } from './selection.ts';
import { keyboardOf, pointerOf } from './shared-input.ts';
import { Tablet } from './tablet.ts';
import { Touch } from './touch.ts';

/** Pointer and keyboard held in one window, or the request for it. */
interface Grab {
  readonly at: AttachedSurface;
  /** Null if the compositor does not pass on its shortcuts. */
  readonly inhibitor: ZwpKeyboardShortcutsInhibitorV1 | null;
  /** The compositor has said whether it passes on its shortcuts, or was not asked. */
  isAnswered: boolean;
  isInhibiting: boolean;
  /** The window shows that it is held. */
  isShown: boolean;
}

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
  #grab: Grab | null = null;
  readonly #clipboard: WaylandClipboard | null;
  readonly #selection: Selection | null;
  readonly #tablet: Tablet | null;

  /** Owns `seat`. */
  constructor(
    seat: WlSeat,
    index: number,
    surfaces: AttachedSurfaces,
    globals: SeatGlobals,
    clipboard: WaylandClipboard | null,
  ) {
    this.#seat = seat;
    this.index = index;
    this.#surfaces = surfaces;
    this.#globals = globals;
    this.#clipboard = clipboard;
    const { dataDevices } = globals;
    this.#selection =
      clipboard && dataDevices && new Selection(dataDevices, dataDevices.getDataDevice(seat), clipboard);
    const { tablets, cursorShapes } = globals;
    this.#tablet =
      tablets &&
      new Tablet(tablets.getTabletSeat(seat), surfaces, {
        ...{ seat, holder: pointerOf(index), cursorShapes },
        onSerial: (serial) => this.#noteSerial(serial),
      });
    seat.listener = { capabilities: (capabilities) => this.#setCapabilities(capabilities) };
  }

  get pointer(): Pointer | null {
    return this.#pointer;
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
    this.#tablet?.detached(at);
  }

  frameDetached(frame: FrameTarget): void {
    this.#pointer?.frameDetached(frame);
    this.#tablet?.frameDetached(frame);
  }

  [Symbol.dispose](): void {
    this.#setCapabilities(0);
    this.#tablet?.[Symbol.dispose]();
    if (this.#selection) this.#clipboard?.closed(this.#selection);
    this.#selection?.[Symbol.dispose]();
    this.#seat[Symbol.dispose]();
  }

  #shortcut(key: ShortcutKey, at: AttachedSurface): boolean {
    if (!this.#obey(key, at)) return false;
    // The events of their release may go elsewhere.
    this.#keyboard!.releaseAll();
    return true;
  }

  /** False if the compositor cannot do it. */
  #obey(key: ShortcutKey, at: AttachedSurface): boolean {
    switch (key) {
      case KEY.C:
        return this.#selection !== null && at.target.copyPicture();
      case KEY.F:
        return at.target.toggleFullscreen();
      case KEY.G:
        return at.input !== null && this.#toggleGrab(at);
    }
  }

  /** Ends the grab or, if the compositor holds nothing, asks for one. False if it can hold nothing. */
  #toggleGrab(at: AttachedSurface): boolean {
    const isEnd = this.#grab?.isShown === true;
    this.#endGrab();
    if (isEnd) return true;
    const isLocking = this.#pointer?.lock(at) ?? false;
    const inhibitor = this.#globals.inhibitors?.inhibitShortcuts(at.surface, this.#seat) ?? null;
    if (!isLocking && !inhibitor) return false;
    const grab: Grab = { at, inhibitor, isAnswered: inhibitor === null, isInhibiting: false, isShown: false };
    this.#grab = grab;
    if (inhibitor)
      inhibitor.listener = {
        active: () => {
          grab.isAnswered = true;
          grab.isInhibiting = true;
          this.#showGrab();
        },
        // The user has refused, or has asked the compositor for its shortcuts back.
        inactive: () => this.#endGrab(),
      };
    return true;
  }

  /**
   * GNOME asks the user in a dialog, which takes the focus and with it the lock. It sends `active` before the focus
   * comes back if the user agrees, and nothing if not.
   */
  #keyboardLeft(): void {
    if (this.#selection) this.#clipboard?.left(this.#selection);
    if (this.#grab?.isAnswered === false) this.#pointerUnlocked();
    else this.#endGrab();
  }

  #keyboardEntered(at: AttachedSurface): void {
    if (this.#selection) this.#clipboard?.entered(this.#selection);
    const grab = this.#grab;
    if (!grab) return;
    if (!grab.isAnswered || grab.at !== at) {
      this.#endGrab();
    } else if (!this.#pointer?.isLocked) {
      this.#pointer?.unlock();
      this.#pointer?.lock(at);
    }
  }

  #noteSerial(serial: number): void {
    if (this.#selection) this.#selection.serial = serial;
  }

  #pointerUnlocked(): void {
    if (this.#grab?.isAnswered) {
      this.#endGrab();
      return;
    }
    this.#pointer?.unlock();
    this.#showGrab();
  }

  /** Tells the window whether the compositor holds anything there. */
  #showGrab(): void {
    const grab = this.#grab;
    const isShown = grab !== null && (grab.isInhibiting || this.#pointer?.isLocked === true);
    if (!grab || isShown === grab.isShown) return;
    grab.isShown = isShown;
    grab.at.target.grabChanged(isShown);
  }

  #endGrab(): void {
    const grab = this.#grab;
    if (!grab) return;
    this.#grab = null;
    this.#pointer?.unlock();
    grab.inhibitor?.[Symbol.dispose]();
    if (grab.isShown) grab.at.target.grabChanged(false);
  }

  #setCapabilities(capabilities: number): void {
    const hasPointer = (capabilities & WlSeatCapability.pointer) !== 0;
    const hasKeyboard = (capabilities & WlSeatCapability.keyboard) !== 0;
    const hasTouch = (capabilities & WlSeatCapability.touch) !== 0;
    this.#pointer = this.#follow(hasPointer, this.#pointer, () => {
      return new Pointer(this.#seat.getPointer(), this.#surfaces, this.#globals, {
        seat: this.#seat,
        holder: pointerOf(this.index),
        onLocked: () => this.#showGrab(),
        onUnlocked: () => this.#pointerUnlocked(),
        onSerial: (serial) => this.#noteSerial(serial),
      });
    });
    if (!hasPointer) this.#endGrab();
    this.#keyboard = this.#follow(hasKeyboard, this.#keyboard, () => {
      return new Keyboard(this.#seat.getKeyboard(), this.#surfaces, {
        holder: keyboardOf(this.index),
        onShortcut: (key, at) => this.#shortcut(key, at),
        onEntered: (at) => this.#keyboardEntered(at),
        onLeft: () => this.#keyboardLeft(),
        onSerial: (serial) => this.#noteSerial(serial),
      });
    });
    this.#touch = this.#follow(
      hasTouch,
      this.#touch,
      () => new Touch(this.#seat.getTouch(), this.#seat, this.#surfaces),
    );
  }

  #follow<T extends Disposable>(isThere: boolean, device: T | null, open: () => T): T | null {
    if (isThere) return device ?? open();
    device?.[Symbol.dispose]();
    return null;
  }
}
