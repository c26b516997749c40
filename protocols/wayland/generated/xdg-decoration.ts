// Made from xdg-decoration-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** zxdg_toplevel_decoration_v1.error */
export const ZxdgToplevelDecorationV1Error = {
  unconfigured_buffer: 0,
  already_constructed: 1,
  orphaned: 2,
  invalid_mode: 3,
} as const;
export type ZxdgToplevelDecorationV1Error = (typeof ZxdgToplevelDecorationV1Error)[keyof typeof ZxdgToplevelDecorationV1Error];

/** zxdg_toplevel_decoration_v1.mode */
export const ZxdgToplevelDecorationV1Mode = {
  client_side: 1,
  server_side: 2,
} as const;
export type ZxdgToplevelDecorationV1Mode = (typeof ZxdgToplevelDecorationV1Mode)[keyof typeof ZxdgToplevelDecorationV1Mode];

export const zxdg_decoration_manager_v1: InterfaceTable<'zxdg_decoration_manager_v1'> = {
  name: 'zxdg_decoration_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_toplevel_decoration', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zxdg_toplevel_decoration_v1' }, { name: 'toplevel', type: 'object', interface: 'xdg_toplevel' }] },
  ],
  events: [],
  errors: {},
};

export const zxdg_toplevel_decoration_v1: InterfaceTable<'zxdg_toplevel_decoration_v1'> = {
  name: 'zxdg_toplevel_decoration_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_mode', since: 1, args: [{ name: 'mode', type: 'uint' }] },
    { name: 'unset_mode', since: 1, args: [] },
  ],
  events: [
    { name: 'configure', since: 1, args: [{ name: 'mode', type: 'uint' }] },
  ],
  errors: ZxdgToplevelDecorationV1Error,
};
