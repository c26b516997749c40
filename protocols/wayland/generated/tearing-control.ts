// Made from tearing-control-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** wp_tearing_control_manager_v1.error */
export const WpTearingControlManagerV1Error = {
  tearing_control_exists: 0,
} as const;
export type WpTearingControlManagerV1Error = (typeof WpTearingControlManagerV1Error)[keyof typeof WpTearingControlManagerV1Error];

/** wp_tearing_control_v1.presentation_hint */
export const WpTearingControlV1PresentationHint = {
  vsync: 0,
  async: 1,
} as const;
export type WpTearingControlV1PresentationHint = (typeof WpTearingControlV1PresentationHint)[keyof typeof WpTearingControlV1PresentationHint];

export const wp_tearing_control_manager_v1: InterfaceTable<'wp_tearing_control_manager_v1'> = {
  name: 'wp_tearing_control_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_tearing_control', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wp_tearing_control_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
  ],
  events: [],
  errors: WpTearingControlManagerV1Error,
};

export const wp_tearing_control_v1: InterfaceTable<'wp_tearing_control_v1'> = {
  name: 'wp_tearing_control_v1',
  version: 1,
  requests: [
    { name: 'set_presentation_hint', since: 1, args: [{ name: 'hint', type: 'uint' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [],
  errors: {},
};
