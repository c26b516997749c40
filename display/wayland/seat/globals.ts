import {
  WlDataDeviceManager,
  WpCursorShapeManagerV1,
  ZwpKeyboardShortcutsInhibitManagerV1,
  ZwpPointerConstraintsV1,
  ZwpRelativePointerManagerV1,
  ZwpTabletManagerV2,
  type WaylandDisplay,
} from '../client/index.ts';

/** The globals that seats use; null if the compositor does not offer them. */
export interface SeatGlobals {
  readonly cursorShapes: WpCursorShapeManagerV1 | null;
  readonly constraints: ZwpPointerConstraintsV1 | null;
  readonly relativePointers: ZwpRelativePointerManagerV1 | null;
  readonly inhibitors: ZwpKeyboardShortcutsInhibitManagerV1 | null;
  readonly tablets: ZwpTabletManagerV2 | null;
  readonly dataDevices: WlDataDeviceManager | null;
}

export function bindSeatGlobals(display: WaylandDisplay, hasClipboard: boolean): SeatGlobals {
  return {
    cursorShapes: display.bind(WpCursorShapeManagerV1, 1),
    constraints: display.bind(ZwpPointerConstraintsV1, 1),
    relativePointers: display.bind(ZwpRelativePointerManagerV1, 1),
    inhibitors: display.bind(ZwpKeyboardShortcutsInhibitManagerV1, 1),
    tablets: display.bind(ZwpTabletManagerV2, 1),
    dataDevices: hasClipboard ? display.bind(WlDataDeviceManager, 3) : null,
  };
}

export function disposeSeatGlobals(globals: SeatGlobals): void {
  globals.cursorShapes?.[Symbol.dispose]();
  globals.constraints?.[Symbol.dispose]();
  globals.relativePointers?.[Symbol.dispose]();
  globals.inhibitors?.[Symbol.dispose]();
  globals.tablets?.[Symbol.dispose]();
  globals.dataDevices?.[Symbol.dispose]();
}
