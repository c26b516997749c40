// Made from xdg-activation-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { xdg_activation_token_v1, xdg_activation_v1 } from '../../../../protocols/wayland/generated/xdg-activation.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import { stringSize } from '../outgoing.ts';
import type { WlSeat, WlSurface } from './wayland.ts';

export { XdgActivationTokenV1Error } from '../../../../protocols/wayland/generated/xdg-activation.ts';

export class XdgActivationV1 extends WaylandObject {
  static readonly interface = xdg_activation_v1;

  override get interface(): typeof xdg_activation_v1 {
    return xdg_activation_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getActivationToken(): XdgActivationTokenV1 {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(XdgActivationTokenV1, this.version);
  }

  activate(token: string, surface: WlSurface): void {
    const out = this.request(2, 12 + stringSize(token));
    out.string(token);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
  }
}

export interface XdgActivationTokenV1Listener {
  done?(token: string): void;
}

export class XdgActivationTokenV1 extends WaylandObject {
  static readonly interface = xdg_activation_token_v1;
  declare listener: XdgActivationTokenV1Listener | null;

  override get interface(): typeof xdg_activation_token_v1 {
    return xdg_activation_token_v1;
  }

  setSerial(serial: number, seat: WlSeat): void {
    const out = this.request(0, 16);
    out.uint(serial);
    out.uint(this.connection.objects.idOf(seat));
    out.end();
  }

  setAppId(appId: string): void {
    const out = this.request(1, 8 + stringSize(appId));
    out.string(appId);
    out.end();
  }

  setSurface(surface: WlSurface): void {
    const out = this.request(2, 12);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
  }

  commit(): void {
    const out = this.request(3, 8);
    out.end();
  }

  destroy(): void {
    const out = this.request(4, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const token = event.string();
        event.end();
        this.listener?.done?.(token);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
