import type { InputSink } from '../../../src/core/input.ts';
import { type WaylandDisplay, type WaylandGlobal, WlSeat, type WlSurface } from '../client/index.ts';
import { type AttachedSurface, AttachedSurfaces, type CursorImage, type SeatTarget } from './attached-surface.ts';
import { type SeatGlobals, bindSeatGlobals, disposeSeatGlobals } from './globals.ts';
import { WaylandSeat } from './seat.ts';
import { MAX_SEATS, SharedInput } from './shared-input.ts';

/** Wheels tell parts of a notch since version 8; what is newer than our tables is not asked for. */
const SEAT_VERSION = 9;

/**
 * All seats of a compositor, at the windows that were attached: what people do there goes to the
 * window's guest, and their pointers there have the guest's cursor.
 *
 *     using seats = new WaylandSeats(display);
 *     seats.attach(surface, { scanout, input, toGuest, grabChanged });
 *     seats.setCursor(surface, image);
 *
 * Dispose it before the display or when that has closed: what is down goes up in the guest.
 */
export class WaylandSeats implements Disposable {
  readonly #display: WaylandDisplay;
  readonly #globals: SeatGlobals;
  readonly #surfaces = new AttachedSurfaces();
  /** One for all windows of a guest. */
  readonly #inputs = new WeakMap<InputSink, SharedInput>();
  /** By name of the global. */
  readonly #seats = new Map<number, WaylandSeat>();
  readonly #stopListening: (() => void)[];

  constructor(display: WaylandDisplay) {
    this.#display = display;
    this.#globals = bindSeatGlobals(display);
    for (const global of display.globals.values()) this.#add(global);
    this.#stopListening = [
      display.onGlobalAdded((global) => this.#add(global)),
      display.onGlobalRemoved(({ name }) => {
        this.#seats.get(name)?.[Symbol.dispose]();
        this.#seats.delete(name);
      }),
    ];
  }

  /** The compositor can hold pointers in a window, or leave its own shortcuts to it. */
  get canGrab(): boolean {
    const { constraints, relativePointers, inhibitors } = this.#globals;
    return (constraints !== null && relativePointers !== null) || inhibitors !== null;
  }

  /** Until `detach`, which must come before the surface's end. Pointers and keyboards that are at the surface already count from now on. */
  attach(surface: WlSurface, target: SeatTarget): void {
    this.detach(surface);
    const input = target.input && this.#share(target.input);
    const at: AttachedSurface = { surface, target, input, cursor: null, isCursorSet: false, cursorX: 0, cursorY: 0 };
    this.#surfaces.set(surface, at);
    for (const seat of this.#seats.values()) seat.attached(at);
  }

  /** What is down at the surface goes up in the guest. */
  detach(surface: WlSurface): void {
    const at = this.#surfaces.find(surface);
    if (!at) return;
    this.#surfaces.delete(surface);
    for (const seat of this.#seats.values()) seat.detached(at);
  }

  /** Null hides it. Until the first call pointers look as the compositor likes. Call it again when the scale changes. */
  setCursor(surface: WlSurface, image: CursorImage | null): void {
    const at = this.#surfaces.get(surface)!;
    at.cursor = image;
    at.isCursorSet = true;
    for (const { pointer } of this.#seats.values()) pointer?.cursorChanged(at);
  }

  /** Where the guest's cursor points, in the surface's units: seen only where a pointer is locked and the guest's is not at its place. */
  moveCursor(surface: WlSurface, x: number, y: number): void {
    const at = this.#surfaces.get(surface)!;
    at.cursorX = x;
    at.cursorY = y;
    for (const { pointer } of this.#seats.values()) pointer?.cursorMoved(at);
  }

  [Symbol.dispose](): void {
    for (const stop of this.#stopListening) stop();
    for (const seat of this.#seats.values()) seat[Symbol.dispose]();
    this.#seats.clear();
    this.#surfaces.clear();
    disposeSeatGlobals(this.#globals);
  }

  #add(global: WaylandGlobal): void {
    if (global.interface !== WlSeat.interface.name) return;
    const index = this.#freeIndex();
    const seat = index < 0 ? null : this.#display.bind(WlSeat, SEAT_VERSION, global);
    if (seat) this.#seats.set(global.name, new WaylandSeat(seat, index, this.#surfaces, this.#globals));
  }

  /** -1 when there are MAX_SEATS: more are not heard. */
  #freeIndex(): number {
    const isUsed = new Array<boolean>(MAX_SEATS).fill(false);
    for (const { index } of this.#seats.values()) isUsed[index] = true;
    return isUsed.indexOf(false);
  }

  #share(sink: InputSink): SharedInput {
    const input = this.#inputs.get(sink) ?? new SharedInput(sink);
    this.#inputs.set(sink, input);
    return input;
  }
}
