import { BTN } from '../../../protocols/input-event-codes.ts';
import {
  type WlSeat,
  type WlSurface,
  type WpCursorShapeDeviceV1,
  WpCursorShapeDeviceV1Shape,
  type WpCursorShapeManagerV1,
  type ZwpTabletSeatV2,
  type ZwpTabletToolV2,
  ZwpTabletToolV2ButtonState,
} from '../client/index.ts';
import type { AttachedSurface, AttachedSurfaces, FrameTarget, Point } from './attached-surface.ts';
import type { Holder } from './shared-input.ts';

/** Tools at a time: more than people have pens, erasers and pucks. */
const MAX_TOOLS = 32;
/** What a pen's buttons are to a pointer. Others, as those of a puck, are a pointer's already. */
const BUTTONS = new Map<number, number>([
  [BTN.STYLUS, BTN.RIGHT],
  [BTN.STYLUS2, BTN.MIDDLE],
  [BTN.STYLUS3, BTN.SIDE],
]);

export interface TabletOptions {
  readonly seat: WlSeat;
  /** The seat's pointer, which a pen is to the guest. */
  readonly holder: Holder;
  readonly cursorShapes: WpCursorShapeManagerV1 | null;
  /** As of a keyboard. */
  readonly onSerial: (serial: number) => void;
}

/** The pens of a seat (zwp_tablet_v2). They move the guest's pointer; the tip is its left button. */
export class Tablet implements Disposable {
  readonly #seat: ZwpTabletSeatV2;
  readonly #tools = new Set<Tool>();

  /** Owns `tablets`. */
  constructor(tablets: ZwpTabletSeatV2, surfaces: AttachedSurfaces, options: TabletOptions) {
    this.#seat = tablets;
    // Tablets and their buttons are nothing to a pointer.
    tablets.listener = {
      toolAdded: (tool) => {
        if (this.#tools.size >= MAX_TOOLS) {
          tool[Symbol.dispose]();
          return;
        }
        const added: Tool = new Tool(tool, surfaces, options, () => this.#tools.delete(added));
        this.#tools.add(added);
      },
    };
  }

  detached(at: AttachedSurface): void {
    for (const tool of this.#tools) tool.detached(at);
  }

  frameDetached(frame: FrameTarget): void {
    for (const tool of this.#tools) tool.frameDetached(frame);
  }

  [Symbol.dispose](): void {
    for (const tool of this.#tools) tool[Symbol.dispose]();
    this.#tools.clear();
    this.#seat[Symbol.dispose]();
  }
}

/** A pen, over one window at a time. */
class Tool implements Disposable {
  readonly #tool: ZwpTabletToolV2;
  readonly #surfaces: AttachedSurfaces;
  readonly #options: TabletOptions;
  readonly #shape: WpCursorShapeDeviceV1 | null;
  readonly #point: Point = { x: 0, y: 0 };
  /** The guest's buttons that it holds down. */
  readonly #down = new Set<number>();
  #over: AttachedSurface | null = null;
  #frame: FrameTarget | null = null;
  #serial = 0;
  #x = 0;
  #y = 0;
  /** The tip came down on the frame: told at the end of the group, which brings the time. 0: it did not. */
  #pressSerial = 0;

  constructor(tool: ZwpTabletToolV2, surfaces: AttachedSurfaces, options: TabletOptions, onRemoved: () => void) {
    this.#tool = tool;
    this.#surfaces = surfaces;
    this.#options = options;
    this.#shape = options.cursorShapes?.getTabletToolV2(tool) ?? null;
    tool.listener = {
      removed: () => {
        onRemoved();
        this[Symbol.dispose]();
      },
      proximityIn: (serial, _tablet, surface) => this.#enter(serial, surface),
      proximityOut: () => this.#leave(),
      motion: (x, y) => this.#moved(x, y),
      down: (serial) => {
        options.onSerial(serial);
        if (this.#frame) this.#pressSerial = serial;
        else this.#press(BTN.LEFT, true);
      },
      up: () => {
        if (this.#frame) this.#frame.released(this.#x, this.#y);
        else this.#press(BTN.LEFT, false);
      },
      button: (serial, button, state) => {
        options.onSerial(serial);
        this.#press(BUTTONS.get(button) ?? button, state === ZwpTabletToolV2ButtonState.pressed);
      },
      frame: (timeMs) => this.#end(timeMs),
    };
  }

  detached(at: AttachedSurface): void {
    if (this.#over === at) this.#leave();
  }

  frameDetached(frame: FrameTarget): void {
    if (this.#frame === frame) this.#frame = null;
  }

  [Symbol.dispose](): void {
    this.#leave();
    this.#shape?.[Symbol.dispose]();
    this.#tool[Symbol.dispose]();
  }

  #enter(serial: number, surface: WlSurface | null): void {
    this.#leave();
    this.#serial = serial;
    this.#over = this.#surfaces.find(surface);
    this.#frame = (surface && this.#surfaces.frames.get(surface)) ?? null;
    // The guest's image has the role of a pointer's, which a pen's must not have.
    if (this.#over) this.#shape?.setShape(serial, WpCursorShapeDeviceV1Shape.default);
  }

  #leave(): void {
    const input = this.#over?.input;
    const frame = this.#frame;
    this.#over = null;
    this.#frame = null;
    this.#pressSerial = 0;
    frame?.left();
    for (const button of this.#down) input?.button(this.#options.holder, button, false);
    this.#down.clear();
    input?.frame();
  }

  #moved(x: number, y: number): void {
    this.#x = x;
    this.#y = y;
    if (this.#frame) this.#shape?.setShape(this.#serial, this.#frame.moved(x, y));
    const over = this.#over;
    if (!over?.input) return;
    over.target.toGuest(x, y, this.#point);
    over.input.movedTo(over.target.scanout, this.#point.x, this.#point.y);
  }

  #press(button: number, isDown: boolean): void {
    const input = this.#over?.input;
    if (!input || isDown === this.#down.has(button)) return;
    if (isDown) this.#down.add(button);
    else this.#down.delete(button);
    input.button(this.#options.holder, button, isDown);
  }

  #end(timeMs: number): void {
    const serial = this.#pressSerial;
    this.#pressSerial = 0;
    const { seat } = this.#options;
    if (serial !== 0) this.#frame?.pressed({ seat, serial, timeMs, x: this.#x, y: this.#y, button: BTN.LEFT });
    this.#over?.input?.frame();
  }
}
