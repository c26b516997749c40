// Made from xdg-shell.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** xdg_wm_base.error */
export const XdgWmBaseError = {
  role: 0,
  defunct_surfaces: 1,
  not_the_topmost_popup: 2,
  invalid_popup_parent: 3,
  invalid_surface_state: 4,
  invalid_positioner: 5,
  unresponsive: 6,
} as const;
export type XdgWmBaseError = (typeof XdgWmBaseError)[keyof typeof XdgWmBaseError];

/** xdg_surface.error */
export const XdgSurfaceError = {
  not_constructed: 1,
  already_constructed: 2,
  unconfigured_buffer: 3,
  invalid_serial: 4,
  invalid_size: 5,
  defunct_role_object: 6,
} as const;
export type XdgSurfaceError = (typeof XdgSurfaceError)[keyof typeof XdgSurfaceError];

/** xdg_toplevel.error */
export const XdgToplevelError = {
  invalid_resize_edge: 0,
  invalid_parent: 1,
  invalid_size: 2,
} as const;
export type XdgToplevelError = (typeof XdgToplevelError)[keyof typeof XdgToplevelError];

/** xdg_toplevel.resize_edge */
export const XdgToplevelResizeEdge = {
  none: 0,
  top: 1,
  bottom: 2,
  left: 4,
  top_left: 5,
  bottom_left: 6,
  right: 8,
  top_right: 9,
  bottom_right: 10,
} as const;
export type XdgToplevelResizeEdge = (typeof XdgToplevelResizeEdge)[keyof typeof XdgToplevelResizeEdge];

/** xdg_toplevel.state */
export const XdgToplevelState = {
  maximized: 1,
  fullscreen: 2,
  resizing: 3,
  activated: 4,
  tiled_left: 5,
  tiled_right: 6,
  tiled_top: 7,
  tiled_bottom: 8,
  suspended: 9,
  constrained_left: 10,
  constrained_right: 11,
  constrained_top: 12,
  constrained_bottom: 13,
} as const;
export type XdgToplevelState = (typeof XdgToplevelState)[keyof typeof XdgToplevelState];

/** xdg_toplevel.wm_capabilities */
export const XdgToplevelWmCapabilities = {
  window_menu: 1,
  maximize: 2,
  fullscreen: 3,
  minimize: 4,
} as const;
export type XdgToplevelWmCapabilities = (typeof XdgToplevelWmCapabilities)[keyof typeof XdgToplevelWmCapabilities];

export const xdg_wm_base: InterfaceTable<'xdg_wm_base'> = {
  name: 'xdg_wm_base',
  version: 7,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'create_positioner', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'xdg_positioner' }] },
    { name: 'get_xdg_surface', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'xdg_surface' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'pong', since: 1, args: [{ name: 'serial', type: 'uint' }] },
  ],
  events: [
    { name: 'ping', since: 1, args: [{ name: 'serial', type: 'uint' }] },
  ],
  errors: XdgWmBaseError,
};

export const xdg_surface: InterfaceTable<'xdg_surface'> = {
  name: 'xdg_surface',
  version: 7,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_toplevel', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'xdg_toplevel' }] },
    { name: 'get_popup', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'xdg_popup' }, { name: 'parent', type: 'object', interface: 'xdg_surface', nullable: true }, { name: 'positioner', type: 'object', interface: 'xdg_positioner' }] },
    { name: 'set_window_geometry', since: 1, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
    { name: 'ack_configure', since: 1, args: [{ name: 'serial', type: 'uint' }] },
  ],
  events: [
    { name: 'configure', since: 1, args: [{ name: 'serial', type: 'uint' }] },
  ],
  errors: XdgSurfaceError,
};

export const xdg_toplevel: InterfaceTable<'xdg_toplevel'> = {
  name: 'xdg_toplevel',
  version: 7,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_parent', since: 1, args: [{ name: 'parent', type: 'object', interface: 'xdg_toplevel', nullable: true }] },
    { name: 'set_title', since: 1, args: [{ name: 'title', type: 'string' }] },
    { name: 'set_app_id', since: 1, args: [{ name: 'app_id', type: 'string' }] },
    { name: 'show_window_menu', since: 1, args: [{ name: 'seat', type: 'object', interface: 'wl_seat' }, { name: 'serial', type: 'uint' }, { name: 'x', type: 'int' }, { name: 'y', type: 'int' }] },
    { name: 'move', since: 1, args: [{ name: 'seat', type: 'object', interface: 'wl_seat' }, { name: 'serial', type: 'uint' }] },
    { name: 'resize', since: 1, args: [{ name: 'seat', type: 'object', interface: 'wl_seat' }, { name: 'serial', type: 'uint' }, { name: 'edges', type: 'uint' }] },
    { name: 'set_max_size', since: 1, args: [{ name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
    { name: 'set_min_size', since: 1, args: [{ name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
    { name: 'set_maximized', since: 1, args: [] },
    { name: 'unset_maximized', since: 1, args: [] },
    { name: 'set_fullscreen', since: 1, args: [{ name: 'output', type: 'object', interface: 'wl_output', nullable: true }] },
    { name: 'unset_fullscreen', since: 1, args: [] },
    { name: 'set_minimized', since: 1, args: [] },
  ],
  events: [
    { name: 'configure', since: 1, args: [{ name: 'width', type: 'int' }, { name: 'height', type: 'int' }, { name: 'states', type: 'array' }] },
    { name: 'close', since: 1, args: [] },
    { name: 'configure_bounds', since: 4, args: [{ name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
    { name: 'wm_capabilities', since: 5, args: [{ name: 'capabilities', type: 'array' }] },
  ],
  errors: XdgToplevelError,
};
