// Made from relative-pointer-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

export const zwp_relative_pointer_manager_v1: InterfaceTable<'zwp_relative_pointer_manager_v1'> = {
  name: 'zwp_relative_pointer_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_relative_pointer', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_relative_pointer_v1' }, { name: 'pointer', type: 'object', interface: 'wl_pointer' }] },
  ],
  events: [],
  errors: {},
};

export const zwp_relative_pointer_v1: InterfaceTable<'zwp_relative_pointer_v1'> = {
  name: 'zwp_relative_pointer_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'relative_motion', since: 1, args: [{ name: 'utime_hi', type: 'uint' }, { name: 'utime_lo', type: 'uint' }, { name: 'dx', type: 'fixed' }, { name: 'dy', type: 'fixed' }, { name: 'dx_unaccel', type: 'fixed' }, { name: 'dy_unaccel', type: 'fixed' }] },
  ],
  errors: {},
};
