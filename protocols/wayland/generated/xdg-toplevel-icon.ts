// Made from xdg-toplevel-icon-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** xdg_toplevel_icon_v1.error */
export const XdgToplevelIconV1Error = {
  invalid_buffer: 1,
  immutable: 2,
  no_buffer: 3,
} as const;
export type XdgToplevelIconV1Error = (typeof XdgToplevelIconV1Error)[keyof typeof XdgToplevelIconV1Error];

export const xdg_toplevel_icon_manager_v1: InterfaceTable<'xdg_toplevel_icon_manager_v1'> = {
  name: 'xdg_toplevel_icon_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'create_icon', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'xdg_toplevel_icon_v1' }] },
    { name: 'set_icon', since: 1, args: [{ name: 'toplevel', type: 'object', interface: 'xdg_toplevel' }, { name: 'icon', type: 'object', interface: 'xdg_toplevel_icon_v1', nullable: true }] },
  ],
  events: [
    { name: 'icon_size', since: 1, args: [{ name: 'size', type: 'int' }] },
    { name: 'done', since: 1, args: [] },
  ],
  errors: {},
};

export const xdg_toplevel_icon_v1: InterfaceTable<'xdg_toplevel_icon_v1'> = {
  name: 'xdg_toplevel_icon_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_name', since: 1, args: [{ name: 'icon_name', type: 'string' }] },
    { name: 'add_buffer', since: 1, args: [{ name: 'buffer', type: 'object', interface: 'wl_buffer' }, { name: 'scale', type: 'int' }] },
  ],
  events: [],
  errors: XdgToplevelIconV1Error,
};
