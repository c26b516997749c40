// Made from relative-pointer-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { zwp_relative_pointer_manager_v1, zwp_relative_pointer_v1 } from '../../../../protocols/wayland/generated/relative-pointer.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import type { WlPointer } from './wayland.ts';

export class ZwpRelativePointerManagerV1 extends WaylandObject {
  static readonly interface = zwp_relative_pointer_manager_v1;

  override get interface(): typeof zwp_relative_pointer_manager_v1 {
    return zwp_relative_pointer_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getRelativePointer(pointer: WlPointer): ZwpRelativePointerV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(pointer));
    out.end();
    return this.connection.objects.create(ZwpRelativePointerV1, this.version);
  }
}

export interface ZwpRelativePointerV1Listener {
  relativeMotion?(utimeHi: number, utimeLo: number, dx: number, dy: number, dxUnaccel: number, dyUnaccel: number): void;
}

export class ZwpRelativePointerV1 extends WaylandObject {
  static readonly interface = zwp_relative_pointer_v1;
  declare listener: ZwpRelativePointerV1Listener | null;

  override get interface(): typeof zwp_relative_pointer_v1 {
    return zwp_relative_pointer_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const utimeHi = event.uint();
        const utimeLo = event.uint();
        const dx = event.fixed();
        const dy = event.fixed();
        const dxUnaccel = event.fixed();
        const dyUnaccel = event.fixed();
        event.end();
        this.listener?.relativeMotion?.(utimeHi, utimeLo, dx, dy, dxUnaccel, dyUnaccel);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
