// Made from idle-inhibit-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { zwp_idle_inhibit_manager_v1, zwp_idle_inhibitor_v1 } from '../../../../protocols/wayland/generated/idle-inhibit.ts';
import { WaylandObject } from '../object.ts';
import type { WlSurface } from './wayland.ts';

export class ZwpIdleInhibitManagerV1 extends WaylandObject {
  static readonly interface = zwp_idle_inhibit_manager_v1;

  override get interface(): typeof zwp_idle_inhibit_manager_v1 {
    return zwp_idle_inhibit_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  createInhibitor(surface: WlSurface): ZwpIdleInhibitorV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
    return this.connection.objects.create(ZwpIdleInhibitorV1, this.version);
  }
}

export class ZwpIdleInhibitorV1 extends WaylandObject {
  static readonly interface = zwp_idle_inhibitor_v1;

  override get interface(): typeof zwp_idle_inhibitor_v1 {
    return zwp_idle_inhibitor_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }
}
