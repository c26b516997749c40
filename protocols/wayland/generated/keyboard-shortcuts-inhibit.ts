// Made from keyboard-shortcuts-inhibit-unstable-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** zwp_keyboard_shortcuts_inhibit_manager_v1.error */
export const ZwpKeyboardShortcutsInhibitManagerV1Error = {
  already_inhibited: 0,
} as const;
export type ZwpKeyboardShortcutsInhibitManagerV1Error = (typeof ZwpKeyboardShortcutsInhibitManagerV1Error)[keyof typeof ZwpKeyboardShortcutsInhibitManagerV1Error];

export const zwp_keyboard_shortcuts_inhibit_manager_v1: InterfaceTable<'zwp_keyboard_shortcuts_inhibit_manager_v1'> = {
  name: 'zwp_keyboard_shortcuts_inhibit_manager_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'inhibit_shortcuts', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_keyboard_shortcuts_inhibitor_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'seat', type: 'object', interface: 'wl_seat' }] },
  ],
  events: [],
  errors: ZwpKeyboardShortcutsInhibitManagerV1Error,
};

export const zwp_keyboard_shortcuts_inhibitor_v1: InterfaceTable<'zwp_keyboard_shortcuts_inhibitor_v1'> = {
  name: 'zwp_keyboard_shortcuts_inhibitor_v1',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'active', since: 1, args: [] },
    { name: 'inactive', since: 1, args: [] },
  ],
  errors: {},
};
