// Made from linux-drm-syncobj-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { wp_linux_drm_syncobj_manager_v1, wp_linux_drm_syncobj_surface_v1, wp_linux_drm_syncobj_timeline_v1 } from '../../../../protocols/wayland/generated/linux-drm-syncobj.ts';
import type { BorrowedFd } from '../../../../src/sys/fd.ts';
import { WaylandObject } from '../object.ts';
import type { WlSurface } from './wayland.ts';

export { WpLinuxDrmSyncobjManagerV1Error, WpLinuxDrmSyncobjSurfaceV1Error } from '../../../../protocols/wayland/generated/linux-drm-syncobj.ts';

export class WpLinuxDrmSyncobjManagerV1 extends WaylandObject {
  static readonly interface = wp_linux_drm_syncobj_manager_v1;

  override get interface(): typeof wp_linux_drm_syncobj_manager_v1 {
    return wp_linux_drm_syncobj_manager_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getSurface(surface: WlSurface): WpLinuxDrmSyncobjSurfaceV1 {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
    return this.connection.objects.create(WpLinuxDrmSyncobjSurfaceV1, this.version);
  }

  importTimeline(fd: BorrowedFd): WpLinuxDrmSyncobjTimelineV1 {
    const out = this.request(2, 12);
    out.uint(this.connection.objects.nextId);
    out.fd(fd);
    out.end();
    return this.connection.objects.create(WpLinuxDrmSyncobjTimelineV1, this.version);
  }
}

export class WpLinuxDrmSyncobjTimelineV1 extends WaylandObject {
  static readonly interface = wp_linux_drm_syncobj_timeline_v1;

  override get interface(): typeof wp_linux_drm_syncobj_timeline_v1 {
    return wp_linux_drm_syncobj_timeline_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }
}

export class WpLinuxDrmSyncobjSurfaceV1 extends WaylandObject {
  static readonly interface = wp_linux_drm_syncobj_surface_v1;

  override get interface(): typeof wp_linux_drm_syncobj_surface_v1 {
    return wp_linux_drm_syncobj_surface_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setAcquirePoint(timeline: WpLinuxDrmSyncobjTimelineV1, pointHi: number, pointLo: number): void {
    const out = this.request(1, 20);
    out.uint(this.connection.objects.idOf(timeline));
    out.uint(pointHi);
    out.uint(pointLo);
    out.end();
  }

  setReleasePoint(timeline: WpLinuxDrmSyncobjTimelineV1, pointHi: number, pointLo: number): void {
    const out = this.request(2, 20);
    out.uint(this.connection.objects.idOf(timeline));
    out.uint(pointHi);
    out.uint(pointLo);
    out.end();
  }
}
