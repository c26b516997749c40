// Made from idle-inhibit-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

export const zwp_idle_inhibit_manager_v1: InterfaceTable<'zwp_idle_inhibit_manager_v1'> = {
  name: 'zwp_idle_inhibit_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'create_inhibitor', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_idle_inhibitor_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
  ],
  events: [],
  errors: {},
};

export const zwp_idle_inhibitor_v1: InterfaceTable<'zwp_idle_inhibitor_v1'> = {
  name: 'zwp_idle_inhibitor_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [],
  errors: {},
};
