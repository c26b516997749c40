// Made from tablet-v2.xml by protocols/wayland/scanner: npm run generate:wayland
import { type ZwpTabletPadRingV2Source, type ZwpTabletPadStripV2Source, type ZwpTabletPadV2ButtonState, type ZwpTabletToolV2ButtonState, type ZwpTabletToolV2Capability, type ZwpTabletToolV2Type, zwp_tablet_manager_v2, zwp_tablet_pad_group_v2, zwp_tablet_pad_ring_v2, zwp_tablet_pad_strip_v2, zwp_tablet_pad_v2, zwp_tablet_seat_v2, zwp_tablet_tool_v2, zwp_tablet_v2 } from '../../../../protocols/wayland/generated/tablet.ts';
import type { OrLater } from '../../../../protocols/wayland/wire.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import { stringSize } from '../outgoing.ts';
import { type WlSeat, WlSurface } from './wayland.ts';

export { ZwpTabletPadRingV2Source, ZwpTabletPadStripV2Source, ZwpTabletPadV2ButtonState, ZwpTabletToolV2ButtonState, ZwpTabletToolV2Capability, ZwpTabletToolV2Error, ZwpTabletToolV2Type } from '../../../../protocols/wayland/generated/tablet.ts';

export class ZwpTabletManagerV2 extends WaylandObject {
  static readonly interface = zwp_tablet_manager_v2;

  override get interface(): typeof zwp_tablet_manager_v2 {
    return zwp_tablet_manager_v2;
  }

  getTabletSeat(seat: WlSeat): ZwpTabletSeatV2 {
    const out = this.request(0, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(seat));
    out.end();
    return this.connection.objects.create(ZwpTabletSeatV2, this.version);
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }
}

export interface ZwpTabletSeatV2Listener {
  tabletAdded?(id: ZwpTabletV2): void;
  toolAdded?(id: ZwpTabletToolV2): void;
  padAdded?(id: ZwpTabletPadV2): void;
}

export class ZwpTabletSeatV2 extends WaylandObject {
  static readonly interface = zwp_tablet_seat_v2;
  declare listener: ZwpTabletSeatV2Listener | null;

  override get interface(): typeof zwp_tablet_seat_v2 {
    return zwp_tablet_seat_v2;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const id = this.connection.objects.adopt(ZwpTabletV2, event.uint(), this.version);
        event.end();
        if (this.listener?.tabletAdded) this.listener.tabletAdded(id);
        else id[Symbol.dispose]();
        return;
      }
      case 1: {
        const id = this.connection.objects.adopt(ZwpTabletToolV2, event.uint(), this.version);
        event.end();
        if (this.listener?.toolAdded) this.listener.toolAdded(id);
        else id[Symbol.dispose]();
        return;
      }
      case 2: {
        const id = this.connection.objects.adopt(ZwpTabletPadV2, event.uint(), this.version);
        event.end();
        if (this.listener?.padAdded) this.listener.padAdded(id);
        else id[Symbol.dispose]();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpTabletToolV2Listener {
  type?(toolType: OrLater<ZwpTabletToolV2Type>): void;
  hardwareSerial?(hardwareSerialHi: number, hardwareSerialLo: number): void;
  hardwareIdWacom?(hardwareIdHi: number, hardwareIdLo: number): void;
  capability?(capability: OrLater<ZwpTabletToolV2Capability>): void;
  done?(): void;
  removed?(): void;
  proximityIn?(serial: number, tablet: ZwpTabletV2 | null, surface: WlSurface | null): void;
  proximityOut?(): void;
  down?(serial: number): void;
  up?(): void;
  motion?(x: number, y: number): void;
  pressure?(pressure: number): void;
  distance?(distance: number): void;
  tilt?(tiltX: number, tiltY: number): void;
  rotation?(degrees: number): void;
  slider?(position: number): void;
  wheel?(degrees: number, clicks: number): void;
  button?(serial: number, button: number, state: OrLater<ZwpTabletToolV2ButtonState>): void;
  frame?(time: number): void;
}

export class ZwpTabletToolV2 extends WaylandObject {
  static readonly interface = zwp_tablet_tool_v2;
  declare listener: ZwpTabletToolV2Listener | null;

  override get interface(): typeof zwp_tablet_tool_v2 {
    return zwp_tablet_tool_v2;
  }

  setCursor(serial: number, surface: WlSurface | null, hotspotX: number, hotspotY: number): void {
    const out = this.request(0, 24);
    out.uint(serial);
    out.uint(this.connection.objects.idOf(surface));
    out.int(hotspotX);
    out.int(hotspotY);
    out.end();
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const toolType = event.uint();
        event.end();
        this.listener?.type?.(toolType);
        return;
      }
      case 1: {
        const hardwareSerialHi = event.uint();
        const hardwareSerialLo = event.uint();
        event.end();
        this.listener?.hardwareSerial?.(hardwareSerialHi, hardwareSerialLo);
        return;
      }
      case 2: {
        const hardwareIdHi = event.uint();
        const hardwareIdLo = event.uint();
        event.end();
        this.listener?.hardwareIdWacom?.(hardwareIdHi, hardwareIdLo);
        return;
      }
      case 3: {
        const capability = event.uint();
        event.end();
        this.listener?.capability?.(capability);
        return;
      }
      case 4: {
        event.end();
        this.listener?.done?.();
        return;
      }
      case 5: {
        event.end();
        this.listener?.removed?.();
        return;
      }
      case 6: {
        const serial = event.uint();
        const tablet = this.connection.objects.resolve(ZwpTabletV2, event.uint());
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        event.end();
        this.listener?.proximityIn?.(serial, tablet, surface);
        return;
      }
      case 7: {
        event.end();
        this.listener?.proximityOut?.();
        return;
      }
      case 8: {
        const serial = event.uint();
        event.end();
        this.listener?.down?.(serial);
        return;
      }
      case 9: {
        event.end();
        this.listener?.up?.();
        return;
      }
      case 10: {
        const x = event.fixed();
        const y = event.fixed();
        event.end();
        this.listener?.motion?.(x, y);
        return;
      }
      case 11: {
        const pressure = event.uint();
        event.end();
        this.listener?.pressure?.(pressure);
        return;
      }
      case 12: {
        const distance = event.uint();
        event.end();
        this.listener?.distance?.(distance);
        return;
      }
      case 13: {
        const tiltX = event.fixed();
        const tiltY = event.fixed();
        event.end();
        this.listener?.tilt?.(tiltX, tiltY);
        return;
      }
      case 14: {
        const degrees = event.fixed();
        event.end();
        this.listener?.rotation?.(degrees);
        return;
      }
      case 15: {
        const position = event.int();
        event.end();
        this.listener?.slider?.(position);
        return;
      }
      case 16: {
        const degrees = event.fixed();
        const clicks = event.int();
        event.end();
        this.listener?.wheel?.(degrees, clicks);
        return;
      }
      case 17: {
        const serial = event.uint();
        const button = event.uint();
        const state = event.uint();
        event.end();
        this.listener?.button?.(serial, button, state);
        return;
      }
      case 18: {
        const time = event.uint();
        event.end();
        this.listener?.frame?.(time);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpTabletV2Listener {
  name?(name: string): void;
  id?(vid: number, pid: number): void;
  path?(path: string): void;
  done?(): void;
  removed?(): void;
}

export class ZwpTabletV2 extends WaylandObject {
  static readonly interface = zwp_tablet_v2;
  declare listener: ZwpTabletV2Listener | null;

  override get interface(): typeof zwp_tablet_v2 {
    return zwp_tablet_v2;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const name = event.string();
        event.end();
        this.listener?.name?.(name);
        return;
      }
      case 1: {
        const vid = event.uint();
        const pid = event.uint();
        event.end();
        this.listener?.id?.(vid, pid);
        return;
      }
      case 2: {
        const path = event.string();
        event.end();
        this.listener?.path?.(path);
        return;
      }
      case 3: {
        event.end();
        this.listener?.done?.();
        return;
      }
      case 4: {
        event.end();
        this.listener?.removed?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpTabletPadV2Listener {
  group?(padGroup: ZwpTabletPadGroupV2): void;
  path?(path: string): void;
  buttons?(buttons: number): void;
  done?(): void;
  button?(time: number, button: number, state: OrLater<ZwpTabletPadV2ButtonState>): void;
  enter?(serial: number, tablet: ZwpTabletV2 | null, surface: WlSurface | null): void;
  leave?(serial: number, surface: WlSurface | null): void;
  removed?(): void;
}

export class ZwpTabletPadV2 extends WaylandObject {
  static readonly interface = zwp_tablet_pad_v2;
  declare listener: ZwpTabletPadV2Listener | null;

  override get interface(): typeof zwp_tablet_pad_v2 {
    return zwp_tablet_pad_v2;
  }

  setFeedback(button: number, description: string, serial: number): void {
    const out = this.request(0, 16 + stringSize(description));
    out.uint(button);
    out.string(description);
    out.uint(serial);
    out.end();
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const padGroup = this.connection.objects.adopt(ZwpTabletPadGroupV2, event.uint(), this.version);
        event.end();
        if (this.listener?.group) this.listener.group(padGroup);
        else padGroup[Symbol.dispose]();
        return;
      }
      case 1: {
        const path = event.string();
        event.end();
        this.listener?.path?.(path);
        return;
      }
      case 2: {
        const buttons = event.uint();
        event.end();
        this.listener?.buttons?.(buttons);
        return;
      }
      case 3: {
        event.end();
        this.listener?.done?.();
        return;
      }
      case 4: {
        const time = event.uint();
        const button = event.uint();
        const state = event.uint();
        event.end();
        this.listener?.button?.(time, button, state);
        return;
      }
      case 5: {
        const serial = event.uint();
        const tablet = this.connection.objects.resolve(ZwpTabletV2, event.uint());
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        event.end();
        this.listener?.enter?.(serial, tablet, surface);
        return;
      }
      case 6: {
        const serial = event.uint();
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        event.end();
        this.listener?.leave?.(serial, surface);
        return;
      }
      case 7: {
        event.end();
        this.listener?.removed?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpTabletPadGroupV2Listener {
  buttons?(buttons: Uint8Array): void;
  ring?(ring: ZwpTabletPadRingV2): void;
  strip?(strip: ZwpTabletPadStripV2): void;
  modes?(modes: number): void;
  done?(): void;
  modeSwitch?(time: number, serial: number, mode: number): void;
}

export class ZwpTabletPadGroupV2 extends WaylandObject {
  static readonly interface = zwp_tablet_pad_group_v2;
  declare listener: ZwpTabletPadGroupV2Listener | null;

  override get interface(): typeof zwp_tablet_pad_group_v2 {
    return zwp_tablet_pad_group_v2;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const buttons = event.array();
        event.end();
        this.listener?.buttons?.(buttons);
        return;
      }
      case 1: {
        const ring = this.connection.objects.adopt(ZwpTabletPadRingV2, event.uint(), this.version);
        event.end();
        if (this.listener?.ring) this.listener.ring(ring);
        else ring[Symbol.dispose]();
        return;
      }
      case 2: {
        const strip = this.connection.objects.adopt(ZwpTabletPadStripV2, event.uint(), this.version);
        event.end();
        if (this.listener?.strip) this.listener.strip(strip);
        else strip[Symbol.dispose]();
        return;
      }
      case 3: {
        const modes = event.uint();
        event.end();
        this.listener?.modes?.(modes);
        return;
      }
      case 4: {
        event.end();
        this.listener?.done?.();
        return;
      }
      case 5: {
        const time = event.uint();
        const serial = event.uint();
        const mode = event.uint();
        event.end();
        this.listener?.modeSwitch?.(time, serial, mode);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpTabletPadRingV2Listener {
  source?(source: OrLater<ZwpTabletPadRingV2Source>): void;
  angle?(degrees: number): void;
  stop?(): void;
  frame?(time: number): void;
}

export class ZwpTabletPadRingV2 extends WaylandObject {
  static readonly interface = zwp_tablet_pad_ring_v2;
  declare listener: ZwpTabletPadRingV2Listener | null;

  override get interface(): typeof zwp_tablet_pad_ring_v2 {
    return zwp_tablet_pad_ring_v2;
  }

  setFeedback(description: string, serial: number): void {
    const out = this.request(0, 12 + stringSize(description));
    out.string(description);
    out.uint(serial);
    out.end();
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const source = event.uint();
        event.end();
        this.listener?.source?.(source);
        return;
      }
      case 1: {
        const degrees = event.fixed();
        event.end();
        this.listener?.angle?.(degrees);
        return;
      }
      case 2: {
        event.end();
        this.listener?.stop?.();
        return;
      }
      case 3: {
        const time = event.uint();
        event.end();
        this.listener?.frame?.(time);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpTabletPadStripV2Listener {
  source?(source: OrLater<ZwpTabletPadStripV2Source>): void;
  position?(position: number): void;
  stop?(): void;
  frame?(time: number): void;
}

export class ZwpTabletPadStripV2 extends WaylandObject {
  static readonly interface = zwp_tablet_pad_strip_v2;
  declare listener: ZwpTabletPadStripV2Listener | null;

  override get interface(): typeof zwp_tablet_pad_strip_v2 {
    return zwp_tablet_pad_strip_v2;
  }

  setFeedback(description: string, serial: number): void {
    const out = this.request(0, 12 + stringSize(description));
    out.string(description);
    out.uint(serial);
    out.end();
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const source = event.uint();
        event.end();
        this.listener?.source?.(source);
        return;
      }
      case 1: {
        const position = event.uint();
        event.end();
        this.listener?.position?.(position);
        return;
      }
      case 2: {
        event.end();
        this.listener?.stop?.();
        return;
      }
      case 3: {
        const time = event.uint();
        event.end();
        this.listener?.frame?.(time);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
