// Made from viewporter.xml by protocols/wayland/scanner: npm run generate:wayland
import { wp_viewport, wp_viewporter } from '../../../../protocols/wayland/generated/viewporter.ts';
import { WaylandObject } from '../object.ts';
import type { WlSurface } from './wayland.ts';

export { WpViewportError, WpViewporterError } from '../../../../protocols/wayland/generated/viewporter.ts';

export class WpViewporter extends WaylandObject {
  static readonly interface = wp_viewporter;

  override get interface(): typeof wp_viewporter {
    return wp_viewporter;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getViewport(surface: WlSurface): WpViewport {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
    return this.connection.objects.create(WpViewport, this.version);
  }
}

export class WpViewport extends WaylandObject {
  static readonly interface = wp_viewport;

  override get interface(): typeof wp_viewport {
    return wp_viewport;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setSource(x: number, y: number, width: number, height: number): void {
    const out = this.request(1, 24);
    out.fixed(x);
    out.fixed(y);
    out.fixed(width);
    out.fixed(height);
    out.end();
  }

  setDestination(width: number, height: number): void {
    const out = this.request(2, 16);
    out.int(width);
    out.int(height);
    out.end();
  }
}
