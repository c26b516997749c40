// Made from pointer-constraints-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** zwp_pointer_constraints_v1.error */
export const ZwpPointerConstraintsV1Error = {
  already_constrained: 1,
} as const;
export type ZwpPointerConstraintsV1Error = (typeof ZwpPointerConstraintsV1Error)[keyof typeof ZwpPointerConstraintsV1Error];

/** zwp_pointer_constraints_v1.lifetime */
export const ZwpPointerConstraintsV1Lifetime = {
  oneshot: 1,
  persistent: 2,
} as const;
export type ZwpPointerConstraintsV1Lifetime = (typeof ZwpPointerConstraintsV1Lifetime)[keyof typeof ZwpPointerConstraintsV1Lifetime];

export const zwp_pointer_constraints_v1: InterfaceTable<'zwp_pointer_constraints_v1'> = {
  name: 'zwp_pointer_constraints_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'lock_pointer', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_locked_pointer_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'pointer', type: 'object', interface: 'wl_pointer' }, { name: 'region', type: 'object', interface: 'wl_region', nullable: true }, { name: 'lifetime', type: 'uint' }] },
    { name: 'confine_pointer', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_confined_pointer_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'pointer', type: 'object', interface: 'wl_pointer' }, { name: 'region', type: 'object', interface: 'wl_region', nullable: true }, { name: 'lifetime', type: 'uint' }] },
  ],
  events: [],
  errors: ZwpPointerConstraintsV1Error,
};

export const zwp_locked_pointer_v1: InterfaceTable<'zwp_locked_pointer_v1'> = {
  name: 'zwp_locked_pointer_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_cursor_position_hint', since: 1, args: [{ name: 'surface_x', type: 'fixed' }, { name: 'surface_y', type: 'fixed' }] },
    { name: 'set_region', since: 1, args: [{ name: 'region', type: 'object', interface: 'wl_region', nullable: true }] },
  ],
  events: [
    { name: 'locked', since: 1, args: [] },
    { name: 'unlocked', since: 1, args: [] },
  ],
  errors: {},
};

export const zwp_confined_pointer_v1: InterfaceTable<'zwp_confined_pointer_v1'> = {
  name: 'zwp_confined_pointer_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_region', since: 1, args: [{ name: 'region', type: 'object', interface: 'wl_region', nullable: true }] },
  ],
  events: [
    { name: 'confined', since: 1, args: [] },
    { name: 'unconfined', since: 1, args: [] },
  ],
  errors: {},
};
