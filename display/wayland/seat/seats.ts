import type { InputSink } from '../../../src/core/input.ts';
import type { WaylandClipboard } from '../clipboard.ts';
import { type WaylandDisplay, type WaylandGlobal, WlSeat, type WlSurface } from '../client/index.ts';
import {
  type AttachedSurface,
  AttachedSurfaces,
  type CursorImage,
  type FrameTarget,
  type SeatTarget,
} from './attached-surface.ts';
import { type SeatGlobals, bindSeatGlobals, disposeSeatGlobals } from './globals.ts';
import { WaylandSeat } from './seat.ts';
import { MAX_SEATS, SharedInput } from './shared-input.ts';

/** Since version 8 wheels send parts of a notch; version 10 is not in the bindings. */
const SEAT_VERSION = 9;

/**
 * All seats of a compositor. What people do at an attached window goes to the window's guest, and
 * their pointers over it have the guest's cursor.
 *
 *     using seats = new WaylandSeats(display);
 *     seats.attach(surface, { scanout, input, toGuest, grabChanged });
 *     seats.setCursor(surface, image);
 *
 * To be disposed before the display, or when that has closed: releases what is held down.
 */
export class WaylandSeats implements Disposable {
  readonly #display: WaylandDisplay;
  readonly #globals: SeatGlobals;
  readonly #surfaces = new AttachedSurfaces();
  /** One for all windows of a guest, by its sink. */
  readonly #inputs = new WeakMap<InputSink, SharedInput>();
  /** By the name of their global. */
  readonly #seats = new Map<number, WaylandSeat>();
  readonly #stopListening: (() => void)[];
  readonly #clipboard: WaylandClipboard | null;

  /** `clipboard` is told about the clipboard of each seat; null: that is left alone. */
  constructor(display: WaylandDisplay, clipboard: WaylandClipboard | null = null) {
    this.#display = display;
    this.#clipboard = clipboard;
    this.#globals = bindSeatGlobals(display, clipboard !== null);
    for (const global of display.globals.values()) this.#add(global);
    this.#stopListening = [
      display.onGlobalAdded((global) => this.#add(global)),
      display.onGlobalRemoved(({ name }) => {
        this.#seats.get(name)?.[Symbol.dispose]();
        this.#seats.delete(name);
      }),
    ];
  }

  /** The compositor can hold pointers in a window, or pass its own shortcuts on to it. */
  get canGrab(): boolean {
    const { constraints, relativePointers, inhibitors } = this.#globals;
    return (constraints !== null && relativePointers !== null) || inhibitors !== null;
  }

  /**
   * Attaches a surface until `detach`, which must come before the surface is destroyed. Pointers
   * and keyboards that are at the surface already count at once.
   */
  attach(surface: WlSurface, target: SeatTarget): void {
    this.detach(surface);
    const input = target.input && this.#share(target.input);
    const at: AttachedSurface = { surface, target, input, cursor: null, isCursorSet: false, cursorX: 0, cursorY: 0 };
    this.#surfaces.set(surface, at);
    for (const seat of this.#seats.values()) seat.attached(at);
  }

  /** Pointers can have images of the compositor's. */
  get hasShapes(): boolean {
    return this.#globals.cursorShapes !== null;
  }

  /** Gives a surface of a window's own to `target`, until `detachFrame`, which must come before it is destroyed. */
  attachFrame(surface: WlSurface, target: FrameTarget): void {
    this.#surfaces.frames.set(surface, target);
  }

  detachFrame(surface: WlSurface): void {
    const target = this.#surfaces.frames.get(surface);
    if (!target) return;
    this.#surfaces.frames.delete(surface);
    for (const seat of this.#seats.values()) seat.frameDetached(target);
  }

  /** Releases what is held down at the surface; what is held down at other surfaces stays. */
  detach(surface: WlSurface): void {
    const at = this.#surfaces.find(surface);
    if (!at) return;
    this.#surfaces.delete(surface);
    for (const seat of this.#seats.values()) seat.detached(at);
  }

  /**
   * Sets the image of pointers over the surface; null hides them. Until the first call they have
   * the compositor's default image.
   */
  setCursor(surface: WlSurface, image: CursorImage | null): void {
    const at = this.#surfaces.get(surface)!;
    at.cursor = image;
    at.isCursorSet = true;
    for (const { pointer } of this.#seats.values()) pointer?.cursorChanged(at);
  }

  /**
   * The position of the guest's cursor, in the surface's units. It matters while a pointer is
   * locked: then its image is there.
   */
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
    this.#surfaces.frames.clear();
    disposeSeatGlobals(this.#globals);
  }

  #add(global: WaylandGlobal): void {
    if (global.interface !== WlSeat.interface.name) return;
    const index = this.#freeIndex();
    const seat = index < 0 ? null : this.#display.bind(WlSeat, SEAT_VERSION, global);
    if (seat)
      this.#seats.set(global.name, new WaylandSeat(seat, index, this.#surfaces, this.#globals, this.#clipboard));
  }

  /** -1 when there are MAX_SEATS: further seats are ignored. */
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
