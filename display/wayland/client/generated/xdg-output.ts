// Made from xdg-output-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { zxdg_output_manager_v1, zxdg_output_v1 } from '../../../../protocols/wayland/generated/xdg-output.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import type { WlOutput } from './wayland.ts';

export class ZxdgOutputManagerV1 extends WaylandObject {
  static readonly interface = zxdg_output_manager_v1;

  override get interface(): typeof zxdg_output_manager_v1 {
    return zxdg_output_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getXdgOutput(output: WlOutput): ZxdgOutputV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(output));
    out.end();
    return this.connection.objects.create(ZxdgOutputV1, this.version);
  }
}

export interface ZxdgOutputV1Listener {
  logicalPosition?(x: number, y: number): void;
  logicalSize?(width: number, height: number): void;
  done?(): void;
  /** Since version 2. */
  name?(name: string): void;
  /** Since version 2. */
  description?(description: string): void;
}

export class ZxdgOutputV1 extends WaylandObject {
  static readonly interface = zxdg_output_v1;
  declare listener: ZxdgOutputV1Listener | null;

  override get interface(): typeof zxdg_output_v1 {
    return zxdg_output_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const x = event.int();
        const y = event.int();
        event.end();
        this.listener?.logicalPosition?.(x, y);
        return;
      }
      case 1: {
        const width = event.int();
        const height = event.int();
        event.end();
        this.listener?.logicalSize?.(width, height);
        return;
      }
      case 2: {
        event.end();
        this.listener?.done?.();
        return;
      }
      case 3: {
        const name = event.string();
        event.end();
        this.listener?.name?.(name);
        return;
      }
      case 4: {
        const description = event.string();
        event.end();
        this.listener?.description?.(description);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
