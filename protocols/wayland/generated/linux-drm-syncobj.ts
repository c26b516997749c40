// Made from linux-drm-syncobj-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** wp_linux_drm_syncobj_manager_v1.error */
export const WpLinuxDrmSyncobjManagerV1Error = {
  surface_exists: 0,
  invalid_timeline: 1,
} as const;
export type WpLinuxDrmSyncobjManagerV1Error = (typeof WpLinuxDrmSyncobjManagerV1Error)[keyof typeof WpLinuxDrmSyncobjManagerV1Error];

/** wp_linux_drm_syncobj_surface_v1.error */
export const WpLinuxDrmSyncobjSurfaceV1Error = {
  no_surface: 1,
  unsupported_buffer: 2,
  no_buffer: 3,
  no_acquire_point: 4,
  no_release_point: 5,
  conflicting_points: 6,
} as const;
export type WpLinuxDrmSyncobjSurfaceV1Error = (typeof WpLinuxDrmSyncobjSurfaceV1Error)[keyof typeof WpLinuxDrmSyncobjSurfaceV1Error];

export const wp_linux_drm_syncobj_manager_v1: InterfaceTable<'wp_linux_drm_syncobj_manager_v1'> = {
  name: 'wp_linux_drm_syncobj_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_surface', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wp_linux_drm_syncobj_surface_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'import_timeline', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wp_linux_drm_syncobj_timeline_v1' }, { name: 'fd', type: 'fd' }] },
  ],
  events: [],
  errors: WpLinuxDrmSyncobjManagerV1Error,
};

export const wp_linux_drm_syncobj_timeline_v1: InterfaceTable<'wp_linux_drm_syncobj_timeline_v1'> = {
  name: 'wp_linux_drm_syncobj_timeline_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [],
  errors: {},
};

export const wp_linux_drm_syncobj_surface_v1: InterfaceTable<'wp_linux_drm_syncobj_surface_v1'> = {
  name: 'wp_linux_drm_syncobj_surface_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_acquire_point', since: 1, args: [{ name: 'timeline', type: 'object', interface: 'wp_linux_drm_syncobj_timeline_v1' }, { name: 'point_hi', type: 'uint' }, { name: 'point_lo', type: 'uint' }] },
    { name: 'set_release_point', since: 1, args: [{ name: 'timeline', type: 'object', interface: 'wp_linux_drm_syncobj_timeline_v1' }, { name: 'point_hi', type: 'uint' }, { name: 'point_lo', type: 'uint' }] },
  ],
  events: [],
  errors: WpLinuxDrmSyncobjSurfaceV1Error,
};
