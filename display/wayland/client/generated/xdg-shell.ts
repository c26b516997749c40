// Made from xdg-shell.xml by protocols/wayland/scanner: npm run generate:wayland
import { type XdgToplevelResizeEdge, xdg_surface, xdg_toplevel, xdg_wm_base } from '../../../../protocols/wayland/generated/xdg-shell.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import { stringSize } from '../outgoing.ts';
import type { WlOutput, WlSeat, WlSurface } from './wayland.ts';

export { XdgSurfaceError, XdgToplevelError, XdgToplevelResizeEdge, XdgToplevelState, XdgToplevelWmCapabilities, XdgWmBaseError } from '../../../../protocols/wayland/generated/xdg-shell.ts';

export interface XdgWmBaseListener {
  ping?(serial: number): void;
}

export class XdgWmBase extends WaylandObject {
  static readonly interface = xdg_wm_base;
  declare listener: XdgWmBaseListener | null;

  override get interface(): typeof xdg_wm_base {
    return xdg_wm_base;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getXdgSurface(surface: WlSurface): XdgSurface {
    const out = this.request(2, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
    return this.connection.objects.create(XdgSurface, this.version);
  }

  pong(serial: number): void {
    const out = this.request(3, 12);
    out.uint(serial);
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const serial = event.uint();
        event.end();
        this.listener?.ping?.(serial);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface XdgSurfaceListener {
  configure?(serial: number): void;
}

export class XdgSurface extends WaylandObject {
  static readonly interface = xdg_surface;
  declare listener: XdgSurfaceListener | null;

  override get interface(): typeof xdg_surface {
    return xdg_surface;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getToplevel(): XdgToplevel {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(XdgToplevel, this.version);
  }

  setWindowGeometry(x: number, y: number, width: number, height: number): void {
    const out = this.request(3, 24);
    out.int(x);
    out.int(y);
    out.int(width);
    out.int(height);
    out.end();
  }

  ackConfigure(serial: number): void {
    const out = this.request(4, 12);
    out.uint(serial);
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const serial = event.uint();
        event.end();
        this.listener?.configure?.(serial);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface XdgToplevelListener {
  configure?(width: number, height: number, states: Uint8Array): void;
  close?(): void;
  /** Since version 4. */
  configureBounds?(width: number, height: number): void;
  /** Since version 5. */
  wmCapabilities?(capabilities: Uint8Array): void;
}

export class XdgToplevel extends WaylandObject {
  static readonly interface = xdg_toplevel;
  declare listener: XdgToplevelListener | null;

  override get interface(): typeof xdg_toplevel {
    return xdg_toplevel;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setParent(parent: XdgToplevel | null): void {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.idOf(parent));
    out.end();
  }

  setTitle(title: string): void {
    const out = this.request(2, 8 + stringSize(title));
    out.string(title);
    out.end();
  }

  setAppId(appId: string): void {
    const out = this.request(3, 8 + stringSize(appId));
    out.string(appId);
    out.end();
  }

  showWindowMenu(seat: WlSeat, serial: number, x: number, y: number): void {
    const out = this.request(4, 24);
    out.uint(this.connection.objects.idOf(seat));
    out.uint(serial);
    out.int(x);
    out.int(y);
    out.end();
  }

  move(seat: WlSeat, serial: number): void {
    const out = this.request(5, 16);
    out.uint(this.connection.objects.idOf(seat));
    out.uint(serial);
    out.end();
  }

  resize(seat: WlSeat, serial: number, edges: XdgToplevelResizeEdge): void {
    const out = this.request(6, 20);
    out.uint(this.connection.objects.idOf(seat));
    out.uint(serial);
    out.uint(edges);
    out.end();
  }

  setMaxSize(width: number, height: number): void {
    const out = this.request(7, 16);
    out.int(width);
    out.int(height);
    out.end();
  }

  setMinSize(width: number, height: number): void {
    const out = this.request(8, 16);
    out.int(width);
    out.int(height);
    out.end();
  }

  setMaximized(): void {
    const out = this.request(9, 8);
    out.end();
  }

  unsetMaximized(): void {
    const out = this.request(10, 8);
    out.end();
  }

  setFullscreen(output: WlOutput | null): void {
    const out = this.request(11, 12);
    out.uint(this.connection.objects.idOf(output));
    out.end();
  }

  unsetFullscreen(): void {
    const out = this.request(12, 8);
    out.end();
  }

  setMinimized(): void {
    const out = this.request(13, 8);
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const width = event.int();
        const height = event.int();
        const states = event.array();
        event.end();
        this.listener?.configure?.(width, height, states);
        return;
      }
      case 1: {
        event.end();
        this.listener?.close?.();
        return;
      }
      case 2: {
        const width = event.int();
        const height = event.int();
        event.end();
        this.listener?.configureBounds?.(width, height);
        return;
      }
      case 3: {
        const capabilities = event.array();
        event.end();
        this.listener?.wmCapabilities?.(capabilities);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
