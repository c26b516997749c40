// Made from cursor-shape-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { type WpCursorShapeDeviceV1Shape, wp_cursor_shape_device_v1, wp_cursor_shape_manager_v1 } from '../../../../protocols/wayland/generated/cursor-shape.ts';
import { WaylandObject } from '../object.ts';
import type { ZwpTabletToolV2 } from './tablet.ts';
import type { WlPointer } from './wayland.ts';

export { WpCursorShapeDeviceV1Error, WpCursorShapeDeviceV1Shape } from '../../../../protocols/wayland/generated/cursor-shape.ts';

export class WpCursorShapeManagerV1 extends WaylandObject {
  static readonly interface = wp_cursor_shape_manager_v1;

  override get interface(): typeof wp_cursor_shape_manager_v1 {
    return wp_cursor_shape_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getPointer(pointer: WlPointer): WpCursorShapeDeviceV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(pointer));
    out.end();
    return this.connection.objects.create(WpCursorShapeDeviceV1, this.version);
  }

  getTabletToolV2(tabletTool: ZwpTabletToolV2): WpCursorShapeDeviceV1 {
    const out = this.request(2, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(tabletTool));
    out.end();
    return this.connection.objects.create(WpCursorShapeDeviceV1, this.version);
  }
}

export class WpCursorShapeDeviceV1 extends WaylandObject {
  static readonly interface = wp_cursor_shape_device_v1;

  override get interface(): typeof wp_cursor_shape_device_v1 {
    return wp_cursor_shape_device_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setShape(serial: number, shape: WpCursorShapeDeviceV1Shape): void {
    const out = this.request(1, 16);
    out.uint(serial);
    out.uint(shape);
    out.end();
  }
}
