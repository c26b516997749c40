// Made from tearing-control-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { type WpTearingControlV1PresentationHint, wp_tearing_control_manager_v1, wp_tearing_control_v1 } from '../../../../protocols/wayland/generated/tearing-control.ts';
import { WaylandObject } from '../object.ts';
import type { WlSurface } from './wayland.ts';

export { WpTearingControlManagerV1Error, WpTearingControlV1PresentationHint } from '../../../../protocols/wayland/generated/tearing-control.ts';

export class WpTearingControlManagerV1 extends WaylandObject {
  static readonly interface = wp_tearing_control_manager_v1;

  override get interface(): typeof wp_tearing_control_manager_v1 {
    return wp_tearing_control_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getTearingControl(surface: WlSurface): WpTearingControlV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
    return this.connection.objects.create(WpTearingControlV1, this.version);
  }
}

export class WpTearingControlV1 extends WaylandObject {
  static readonly interface = wp_tearing_control_v1;

  override get interface(): typeof wp_tearing_control_v1 {
    return wp_tearing_control_v1;
  }

  setPresentationHint(hint: WpTearingControlV1PresentationHint): void {
    const out = this.request(0, 12);
    out.uint(hint);
    out.end();
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }
}
