// Made from fractional-scale-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { wp_fractional_scale_manager_v1, wp_fractional_scale_v1 } from '../../../../protocols/wayland/generated/fractional-scale.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import type { WlSurface } from './wayland.ts';

export { WpFractionalScaleManagerV1Error } from '../../../../protocols/wayland/generated/fractional-scale.ts';

export class WpFractionalScaleManagerV1 extends WaylandObject {
  static readonly interface = wp_fractional_scale_manager_v1;

  override get interface(): typeof wp_fractional_scale_manager_v1 {
    return wp_fractional_scale_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getFractionalScale(surface: WlSurface): WpFractionalScaleV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
    return this.connection.objects.create(WpFractionalScaleV1, this.version);
  }
}

export interface WpFractionalScaleV1Listener {
  preferredScale?(scale: number): void;
}

export class WpFractionalScaleV1 extends WaylandObject {
  static readonly interface = wp_fractional_scale_v1;
  declare listener: WpFractionalScaleV1Listener | null;

  override get interface(): typeof wp_fractional_scale_v1 {
    return wp_fractional_scale_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const scale = event.uint();
        event.end();
        this.listener?.preferredScale?.(scale);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
