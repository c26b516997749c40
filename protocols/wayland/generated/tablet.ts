// Made from tablet-v2.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** zwp_tablet_tool_v2.type */
export const ZwpTabletToolV2Type = {
  pen: 0x140,
  eraser: 0x141,
  brush: 0x142,
  pencil: 0x143,
  airbrush: 0x144,
  finger: 0x145,
  mouse: 0x146,
  lens: 0x147,
} as const;
export type ZwpTabletToolV2Type = (typeof ZwpTabletToolV2Type)[keyof typeof ZwpTabletToolV2Type];

/** zwp_tablet_tool_v2.capability */
export const ZwpTabletToolV2Capability = {
  tilt: 1,
  pressure: 2,
  distance: 3,
  rotation: 4,
  slider: 5,
  wheel: 6,
} as const;
export type ZwpTabletToolV2Capability = (typeof ZwpTabletToolV2Capability)[keyof typeof ZwpTabletToolV2Capability];

/** zwp_tablet_tool_v2.button_state */
export const ZwpTabletToolV2ButtonState = {
  released: 0,
  pressed: 1,
} as const;
export type ZwpTabletToolV2ButtonState = (typeof ZwpTabletToolV2ButtonState)[keyof typeof ZwpTabletToolV2ButtonState];

/** zwp_tablet_tool_v2.error */
export const ZwpTabletToolV2Error = {
  role: 0,
} as const;
export type ZwpTabletToolV2Error = (typeof ZwpTabletToolV2Error)[keyof typeof ZwpTabletToolV2Error];

/** zwp_tablet_pad_v2.button_state */
export const ZwpTabletPadV2ButtonState = {
  released: 0,
  pressed: 1,
} as const;
export type ZwpTabletPadV2ButtonState = (typeof ZwpTabletPadV2ButtonState)[keyof typeof ZwpTabletPadV2ButtonState];

/** zwp_tablet_pad_ring_v2.source */
export const ZwpTabletPadRingV2Source = {
  finger: 1,
} as const;
export type ZwpTabletPadRingV2Source = (typeof ZwpTabletPadRingV2Source)[keyof typeof ZwpTabletPadRingV2Source];

/** zwp_tablet_pad_strip_v2.source */
export const ZwpTabletPadStripV2Source = {
  finger: 1,
} as const;
export type ZwpTabletPadStripV2Source = (typeof ZwpTabletPadStripV2Source)[keyof typeof ZwpTabletPadStripV2Source];

export const zwp_tablet_manager_v2: InterfaceTable<'zwp_tablet_manager_v2'> = {
  name: 'zwp_tablet_manager_v2',
  version: 1,
  requests: [
    { name: 'get_tablet_seat', since: 1, args: [{ name: 'tablet_seat', type: 'new_id', interface: 'zwp_tablet_seat_v2' }, { name: 'seat', type: 'object', interface: 'wl_seat' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [],
  errors: {},
};

export const zwp_tablet_seat_v2: InterfaceTable<'zwp_tablet_seat_v2'> = {
  name: 'zwp_tablet_seat_v2',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'tablet_added', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_tablet_v2' }] },
    { name: 'tool_added', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_tablet_tool_v2' }] },
    { name: 'pad_added', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'zwp_tablet_pad_v2' }] },
  ],
  errors: {},
};

export const zwp_tablet_tool_v2: InterfaceTable<'zwp_tablet_tool_v2'> = {
  name: 'zwp_tablet_tool_v2',
  version: 1,
  requests: [
    { name: 'set_cursor', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface', nullable: true }, { name: 'hotspot_x', type: 'int' }, { name: 'hotspot_y', type: 'int' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'type', since: 1, args: [{ name: 'tool_type', type: 'uint' }] },
    { name: 'hardware_serial', since: 1, args: [{ name: 'hardware_serial_hi', type: 'uint' }, { name: 'hardware_serial_lo', type: 'uint' }] },
    { name: 'hardware_id_wacom', since: 1, args: [{ name: 'hardware_id_hi', type: 'uint' }, { name: 'hardware_id_lo', type: 'uint' }] },
    { name: 'capability', since: 1, args: [{ name: 'capability', type: 'uint' }] },
    { name: 'done', since: 1, args: [] },
    { name: 'removed', since: 1, args: [] },
    { name: 'proximity_in', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'tablet', type: 'object', interface: 'zwp_tablet_v2' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'proximity_out', since: 1, args: [] },
    { name: 'down', since: 1, args: [{ name: 'serial', type: 'uint' }] },
    { name: 'up', since: 1, args: [] },
    { name: 'motion', since: 1, args: [{ name: 'x', type: 'fixed' }, { name: 'y', type: 'fixed' }] },
    { name: 'pressure', since: 1, args: [{ name: 'pressure', type: 'uint' }] },
    { name: 'distance', since: 1, args: [{ name: 'distance', type: 'uint' }] },
    { name: 'tilt', since: 1, args: [{ name: 'tilt_x', type: 'fixed' }, { name: 'tilt_y', type: 'fixed' }] },
    { name: 'rotation', since: 1, args: [{ name: 'degrees', type: 'fixed' }] },
    { name: 'slider', since: 1, args: [{ name: 'position', type: 'int' }] },
    { name: 'wheel', since: 1, args: [{ name: 'degrees', type: 'fixed' }, { name: 'clicks', type: 'int' }] },
    { name: 'button', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'button', type: 'uint' }, { name: 'state', type: 'uint' }] },
    { name: 'frame', since: 1, args: [{ name: 'time', type: 'uint' }] },
  ],
  errors: ZwpTabletToolV2Error,
};

export const zwp_tablet_v2: InterfaceTable<'zwp_tablet_v2'> = {
  name: 'zwp_tablet_v2',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'name', since: 1, args: [{ name: 'name', type: 'string' }] },
    { name: 'id', since: 1, args: [{ name: 'vid', type: 'uint' }, { name: 'pid', type: 'uint' }] },
    { name: 'path', since: 1, args: [{ name: 'path', type: 'string' }] },
    { name: 'done', since: 1, args: [] },
    { name: 'removed', since: 1, args: [] },
  ],
  errors: {},
};

export const zwp_tablet_pad_v2: InterfaceTable<'zwp_tablet_pad_v2'> = {
  name: 'zwp_tablet_pad_v2',
  version: 1,
  requests: [
    { name: 'set_feedback', since: 1, args: [{ name: 'button', type: 'uint' }, { name: 'description', type: 'string' }, { name: 'serial', type: 'uint' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'group', since: 1, args: [{ name: 'pad_group', type: 'new_id', interface: 'zwp_tablet_pad_group_v2' }] },
    { name: 'path', since: 1, args: [{ name: 'path', type: 'string' }] },
    { name: 'buttons', since: 1, args: [{ name: 'buttons', type: 'uint' }] },
    { name: 'done', since: 1, args: [] },
    { name: 'button', since: 1, args: [{ name: 'time', type: 'uint' }, { name: 'button', type: 'uint' }, { name: 'state', type: 'uint' }] },
    { name: 'enter', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'tablet', type: 'object', interface: 'zwp_tablet_v2' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'leave', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'removed', since: 1, args: [] },
  ],
  errors: {},
};

export const zwp_tablet_pad_group_v2: InterfaceTable<'zwp_tablet_pad_group_v2'> = {
  name: 'zwp_tablet_pad_group_v2',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'buttons', since: 1, args: [{ name: 'buttons', type: 'array' }] },
    { name: 'ring', since: 1, args: [{ name: 'ring', type: 'new_id', interface: 'zwp_tablet_pad_ring_v2' }] },
    { name: 'strip', since: 1, args: [{ name: 'strip', type: 'new_id', interface: 'zwp_tablet_pad_strip_v2' }] },
    { name: 'modes', since: 1, args: [{ name: 'modes', type: 'uint' }] },
    { name: 'done', since: 1, args: [] },
    { name: 'mode_switch', since: 1, args: [{ name: 'time', type: 'uint' }, { name: 'serial', type: 'uint' }, { name: 'mode', type: 'uint' }] },
  ],
  errors: {},
};

export const zwp_tablet_pad_ring_v2: InterfaceTable<'zwp_tablet_pad_ring_v2'> = {
  name: 'zwp_tablet_pad_ring_v2',
  version: 1,
  requests: [
    { name: 'set_feedback', since: 1, args: [{ name: 'description', type: 'string' }, { name: 'serial', type: 'uint' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'source', since: 1, args: [{ name: 'source', type: 'uint' }] },
    { name: 'angle', since: 1, args: [{ name: 'degrees', type: 'fixed' }] },
    { name: 'stop', since: 1, args: [] },
    { name: 'frame', since: 1, args: [{ name: 'time', type: 'uint' }] },
  ],
  errors: {},
};

export const zwp_tablet_pad_strip_v2: InterfaceTable<'zwp_tablet_pad_strip_v2'> = {
  name: 'zwp_tablet_pad_strip_v2',
  version: 1,
  requests: [
    { name: 'set_feedback', since: 1, args: [{ name: 'description', type: 'string' }, { name: 'serial', type: 'uint' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'source', since: 1, args: [{ name: 'source', type: 'uint' }] },
    { name: 'position', since: 1, args: [{ name: 'position', type: 'uint' }] },
    { name: 'stop', since: 1, args: [] },
    { name: 'frame', since: 1, args: [{ name: 'time', type: 'uint' }] },
  ],
  errors: {},
};
