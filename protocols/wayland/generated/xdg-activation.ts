// Made from xdg-activation-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** xdg_activation_token_v1.error */
export const XdgActivationTokenV1Error = {
  already_used: 0,
} as const;
export type XdgActivationTokenV1Error = (typeof XdgActivationTokenV1Error)[keyof typeof XdgActivationTokenV1Error];

export const xdg_activation_v1: InterfaceTable<'xdg_activation_v1'> = {
  name: 'xdg_activation_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_activation_token', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'xdg_activation_token_v1' }] },
    { name: 'activate', since: 1, args: [{ name: 'token', type: 'string' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
  ],
  events: [],
  errors: {},
};

export const xdg_activation_token_v1: InterfaceTable<'xdg_activation_token_v1'> = {
  name: 'xdg_activation_token_v1',
  version: 1,
  requests: [
    { name: 'set_serial', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'seat', type: 'object', interface: 'wl_seat' }] },
    { name: 'set_app_id', since: 1, args: [{ name: 'app_id', type: 'string' }] },
    { name: 'set_surface', since: 1, args: [{ name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'commit', since: 1, args: [] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'done', since: 1, args: [{ name: 'token', type: 'string' }] },
  ],
  errors: XdgActivationTokenV1Error,
};
