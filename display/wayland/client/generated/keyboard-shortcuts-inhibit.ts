// Made from keyboard-shortcuts-inhibit-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { zwp_keyboard_shortcuts_inhibit_manager_v1, zwp_keyboard_shortcuts_inhibitor_v1 } from '../../../../protocols/wayland/generated/keyboard-shortcuts-inhibit.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import type { WlSeat, WlSurface } from './wayland.ts';

export { ZwpKeyboardShortcutsInhibitManagerV1Error } from '../../../../protocols/wayland/generated/keyboard-shortcuts-inhibit.ts';

export class ZwpKeyboardShortcutsInhibitManagerV1 extends WaylandObject {
  static readonly interface = zwp_keyboard_shortcuts_inhibit_manager_v1;

  override get interface(): typeof zwp_keyboard_shortcuts_inhibit_manager_v1 {
    return zwp_keyboard_shortcuts_inhibit_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  inhibitShortcuts(surface: WlSurface, seat: WlSeat): ZwpKeyboardShortcutsInhibitorV1 {
    const out = this.request(1, 20);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.uint(this.connection.objects.idOf(seat));
    out.end();
    return this.connection.objects.create(ZwpKeyboardShortcutsInhibitorV1, this.version);
  }
}

export interface ZwpKeyboardShortcutsInhibitorV1Listener {
  active?(): void;
  inactive?(): void;
}

export class ZwpKeyboardShortcutsInhibitorV1 extends WaylandObject {
  static readonly interface = zwp_keyboard_shortcuts_inhibitor_v1;
  declare listener: ZwpKeyboardShortcutsInhibitorV1Listener | null;

  override get interface(): typeof zwp_keyboard_shortcuts_inhibitor_v1 {
    return zwp_keyboard_shortcuts_inhibitor_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        event.end();
        this.listener?.active?.();
        return;
      }
      case 1: {
        event.end();
        this.listener?.inactive?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
