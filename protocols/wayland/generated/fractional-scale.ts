// Made from fractional-scale-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** wp_fractional_scale_manager_v1.error */
export const WpFractionalScaleManagerV1Error = {
  fractional_scale_exists: 0,
} as const;
export type WpFractionalScaleManagerV1Error = (typeof WpFractionalScaleManagerV1Error)[keyof typeof WpFractionalScaleManagerV1Error];

export const wp_fractional_scale_manager_v1: InterfaceTable<'wp_fractional_scale_manager_v1'> = {
  name: 'wp_fractional_scale_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_fractional_scale', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wp_fractional_scale_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
  ],
  events: [],
  errors: WpFractionalScaleManagerV1Error,
};

export const wp_fractional_scale_v1: InterfaceTable<'wp_fractional_scale_v1'> = {
  name: 'wp_fractional_scale_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'preferred_scale', since: 1, args: [{ name: 'scale', type: 'uint' }] },
  ],
  errors: {},
};
