// Made from single-pixel-buffer-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { wp_single_pixel_buffer_manager_v1 } from '../../../../protocols/wayland/generated/single-pixel-buffer.ts';
import { WaylandObject } from '../object.ts';
import { WlBuffer } from './wayland.ts';

export class WpSinglePixelBufferManagerV1 extends WaylandObject {
  static readonly interface = wp_single_pixel_buffer_manager_v1;

  override get interface(): typeof wp_single_pixel_buffer_manager_v1 {
    return wp_single_pixel_buffer_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  createU32RgbaBuffer(r: number, g: number, b: number, a: number): WlBuffer {
    const out = this.request(1, 28);
    out.uint(this.connection.objects.nextId);
    out.uint(r);
    out.uint(g);
    out.uint(b);
    out.uint(a);
    out.end();
    return this.connection.objects.create(WlBuffer, this.version);
  }
}
