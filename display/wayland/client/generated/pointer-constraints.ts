// Made from pointer-constraints-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { type ZwpPointerConstraintsV1Lifetime, zwp_confined_pointer_v1, zwp_locked_pointer_v1, zwp_pointer_constraints_v1 } from '../../../../protocols/wayland/generated/pointer-constraints.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import type { WlPointer, WlRegion, WlSurface } from './wayland.ts';

export { ZwpPointerConstraintsV1Error, ZwpPointerConstraintsV1Lifetime } from '../../../../protocols/wayland/generated/pointer-constraints.ts';

export class ZwpPointerConstraintsV1 extends WaylandObject {
  static readonly interface = zwp_pointer_constraints_v1;

  override get interface(): typeof zwp_pointer_constraints_v1 {
    return zwp_pointer_constraints_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  lockPointer(surface: WlSurface, pointer: WlPointer, region: WlRegion | null, lifetime: ZwpPointerConstraintsV1Lifetime): ZwpLockedPointerV1 {
    const out = this.request(1, 28);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.uint(this.connection.objects.idOf(pointer));
    out.uint(this.connection.objects.idOf(region));
    out.uint(lifetime);
    out.end();
    return this.connection.objects.create(ZwpLockedPointerV1, this.version);
  }

  confinePointer(surface: WlSurface, pointer: WlPointer, region: WlRegion | null, lifetime: ZwpPointerConstraintsV1Lifetime): ZwpConfinedPointerV1 {
    const out = this.request(2, 28);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.uint(this.connection.objects.idOf(pointer));
    out.uint(this.connection.objects.idOf(region));
    out.uint(lifetime);
    out.end();
    return this.connection.objects.create(ZwpConfinedPointerV1, this.version);
  }
}

export interface ZwpLockedPointerV1Listener {
  locked?(): void;
  unlocked?(): void;
}

export class ZwpLockedPointerV1 extends WaylandObject {
  static readonly interface = zwp_locked_pointer_v1;
  declare listener: ZwpLockedPointerV1Listener | null;

  override get interface(): typeof zwp_locked_pointer_v1 {
    return zwp_locked_pointer_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setCursorPositionHint(surfaceX: number, surfaceY: number): void {
    const out = this.request(1, 16);
    out.fixed(surfaceX);
    out.fixed(surfaceY);
    out.end();
  }

  setRegion(region: WlRegion | null): void {
    const out = this.request(2, 12);
    out.uint(this.connection.objects.idOf(region));
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        event.end();
        this.listener?.locked?.();
        return;
      }
      case 1: {
        event.end();
        this.listener?.unlocked?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpConfinedPointerV1Listener {
  confined?(): void;
  unconfined?(): void;
}

export class ZwpConfinedPointerV1 extends WaylandObject {
  static readonly interface = zwp_confined_pointer_v1;
  declare listener: ZwpConfinedPointerV1Listener | null;

  override get interface(): typeof zwp_confined_pointer_v1 {
    return zwp_confined_pointer_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setRegion(region: WlRegion | null): void {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.idOf(region));
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        event.end();
        this.listener?.confined?.();
        return;
      }
      case 1: {
        event.end();
        this.listener?.unconfined?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
