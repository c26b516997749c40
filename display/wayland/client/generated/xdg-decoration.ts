// Made from xdg-decoration-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { type ZxdgToplevelDecorationV1Mode, zxdg_decoration_manager_v1, zxdg_toplevel_decoration_v1 } from '../../../../protocols/wayland/generated/xdg-decoration.ts';
import type { OrLater } from '../../../../protocols/wayland/wire.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import type { XdgToplevel } from './xdg-shell.ts';

export { ZxdgToplevelDecorationV1Error, ZxdgToplevelDecorationV1Mode } from '../../../../protocols/wayland/generated/xdg-decoration.ts';

export class ZxdgDecorationManagerV1 extends WaylandObject {
  static readonly interface = zxdg_decoration_manager_v1;

  override get interface(): typeof zxdg_decoration_manager_v1 {
    return zxdg_decoration_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getToplevelDecoration(toplevel: XdgToplevel): ZxdgToplevelDecorationV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(toplevel));
    out.end();
    return this.connection.objects.create(ZxdgToplevelDecorationV1, this.version);
  }
}

export interface ZxdgToplevelDecorationV1Listener {
  configure?(mode: OrLater<ZxdgToplevelDecorationV1Mode>): void;
}

export class ZxdgToplevelDecorationV1 extends WaylandObject {
  static readonly interface = zxdg_toplevel_decoration_v1;
  declare listener: ZxdgToplevelDecorationV1Listener | null;

  override get interface(): typeof zxdg_toplevel_decoration_v1 {
    return zxdg_toplevel_decoration_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setMode(mode: ZxdgToplevelDecorationV1Mode): void {
    const out = this.request(1, 12);
    out.uint(mode);
    out.end();
  }

  unsetMode(): void {
    const out = this.request(2, 8);
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const mode = event.uint();
        event.end();
        this.listener?.configure?.(mode);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
