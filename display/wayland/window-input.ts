import type { InputSink } from '../../src/core/input.ts';
import type { ScreenListener } from '../../src/core/output.ts';
import type { ScanoutId } from '../../src/core/source.ts';
import { GRAB_SHORTCUT } from './seat/keyboard.ts';
import type { WaylandSeats } from './seat/seats.ts';
import type { Point, SeatTarget } from './seat/target.ts';
import type { Window } from './window.ts';

/** A window's way back to the guest, as long as it exists. Its title says how to grab and release. */
export class WindowInput implements SeatTarget, Disposable {
  readonly scanout: ScanoutId;
  readonly input: InputSink | null;
  readonly #seats: WaylandSeats;
  readonly #window: Window;
  readonly #title: string;

  /** To be disposed before `window`. */
  constructor(seats: WaylandSeats, window: Window, title: string, { scanout, input }: ScreenListener) {
    this.scanout = scanout;
    this.input = input;
    this.#seats = seats;
    this.#window = window;
    this.#title = title;
    seats.attach(window.surface, this);
    if (input && seats.canGrab) this.grabChanged(false);
  }

  toGuest(x: number, y: number, out: Point): void {
    const { placement, canvas } = this.#window;
    out.x = ((x - placement.x) * canvas.width) / placement.width;
    out.y = ((y - placement.y) * canvas.height) / placement.height;
  }

  grabChanged(isGrabbed: boolean): void {
    this.#window.setTitle(`${this.#title} — ${GRAB_SHORTCUT} to ${isGrabbed ? 'release' : 'grab'}`);
  }

  [Symbol.dispose](): void {
    this.#seats.detach(this.#window.surface);
  }
}
