import {
  WpCursorShapeManagerV1,
  WpViewporter,
  ZwpKeyboardShortcutsInhibitManagerV1,
  ZwpPointerConstraintsV1,
  ZwpRelativePointerManagerV1,
  type WaylandDisplay,
  type WlCompositor,
} from '../client/index.ts';

/** What seats use of a compositor; null is what it does not offer. */
export interface SeatGlobals {
  /** The caller's. */
  readonly compositor: WlCompositor;
  readonly viewporter: WpViewporter | null;
  readonly cursorShapes: WpCursorShapeManagerV1 | null;
  readonly constraints: ZwpPointerConstraintsV1 | null;
  readonly relativePointers: ZwpRelativePointerManagerV1 | null;
  readonly inhibitors: ZwpKeyboardShortcutsInhibitManagerV1 | null;
}

export function bindSeatGlobals(display: WaylandDisplay, compositor: WlCompositor): SeatGlobals {
  return {
    compositor,
    viewporter: display.bind(WpViewporter, 1),
    cursorShapes: display.bind(WpCursorShapeManagerV1, 1),
    constraints: display.bind(ZwpPointerConstraintsV1, 1),
    relativePointers: display.bind(ZwpRelativePointerManagerV1, 1),
    inhibitors: display.bind(ZwpKeyboardShortcutsInhibitManagerV1, 1),
  };
}

export function disposeSeatGlobals(globals: SeatGlobals): void {
  globals.viewporter?.[Symbol.dispose]();
  globals.cursorShapes?.[Symbol.dispose]();
  globals.constraints?.[Symbol.dispose]();
  globals.relativePointers?.[Symbol.dispose]();
  globals.inhibitors?.[Symbol.dispose]();
}
