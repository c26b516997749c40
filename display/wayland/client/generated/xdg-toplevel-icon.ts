// Made from xdg-toplevel-icon-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { xdg_toplevel_icon_manager_v1, xdg_toplevel_icon_v1 } from '../../../../protocols/wayland/generated/xdg-toplevel-icon.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import { stringSize } from '../outgoing.ts';
import type { WlBuffer } from './wayland.ts';
import type { XdgToplevel } from './xdg-shell.ts';

export { XdgToplevelIconV1Error } from '../../../../protocols/wayland/generated/xdg-toplevel-icon.ts';

export interface XdgToplevelIconManagerV1Listener {
  iconSize?(size: number): void;
  done?(): void;
}

export class XdgToplevelIconManagerV1 extends WaylandObject {
  static readonly interface = xdg_toplevel_icon_manager_v1;
  declare listener: XdgToplevelIconManagerV1Listener | null;

  override get interface(): typeof xdg_toplevel_icon_manager_v1 {
    return xdg_toplevel_icon_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  createIcon(): XdgToplevelIconV1 {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(XdgToplevelIconV1, this.version);
  }

  setIcon(toplevel: XdgToplevel, icon: XdgToplevelIconV1 | null): void {
    const out = this.request(2, 16);
    out.uint(this.connection.objects.idOf(toplevel));
    out.uint(this.connection.objects.idOf(icon));
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const size = event.int();
        event.end();
        this.listener?.iconSize?.(size);
        return;
      }
      case 1: {
        event.end();
        this.listener?.done?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export class XdgToplevelIconV1 extends WaylandObject {
  static readonly interface = xdg_toplevel_icon_v1;

  override get interface(): typeof xdg_toplevel_icon_v1 {
    return xdg_toplevel_icon_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setName(iconName: string): void {
    const out = this.request(1, 8 + stringSize(iconName));
    out.string(iconName);
    out.end();
  }

  addBuffer(buffer: WlBuffer, scale: number): void {
    const out = this.request(2, 16);
    out.uint(this.connection.objects.idOf(buffer));
    out.int(scale);
    out.end();
  }
}
