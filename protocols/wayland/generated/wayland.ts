// Made from wayland.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** wl_display.error */
export const WlDisplayError = {
  invalid_object: 0,
  invalid_method: 1,
  no_memory: 2,
  implementation: 3,
} as const;
export type WlDisplayError = (typeof WlDisplayError)[keyof typeof WlDisplayError];

/** wl_shm.error */
export const WlShmError = {
  invalid_format: 0,
  invalid_stride: 1,
  invalid_fd: 2,
} as const;
export type WlShmError = (typeof WlShmError)[keyof typeof WlShmError];

/** wl_shm.format */
export const WlShmFormat = {
  argb8888: 0,
  xrgb8888: 1,
  c8: 0x20203843,
  rgb332: 0x38424752,
  bgr233: 0x38524742,
  xrgb4444: 0x32315258,
  xbgr4444: 0x32314258,
  rgbx4444: 0x32315852,
  bgrx4444: 0x32315842,
  argb4444: 0x32315241,
  abgr4444: 0x32314241,
  rgba4444: 0x32314152,
  bgra4444: 0x32314142,
  xrgb1555: 0x35315258,
  xbgr1555: 0x35314258,
  rgbx5551: 0x35315852,
  bgrx5551: 0x35315842,
  argb1555: 0x35315241,
  abgr1555: 0x35314241,
  rgba5551: 0x35314152,
  bgra5551: 0x35314142,
  rgb565: 0x36314752,
  bgr565: 0x36314742,
  rgb888: 0x34324752,
  bgr888: 0x34324742,
  xbgr8888: 0x34324258,
  rgbx8888: 0x34325852,
  bgrx8888: 0x34325842,
  abgr8888: 0x34324241,
  rgba8888: 0x34324152,
  bgra8888: 0x34324142,
  xrgb2101010: 0x30335258,
  xbgr2101010: 0x30334258,
  rgbx1010102: 0x30335852,
  bgrx1010102: 0x30335842,
  argb2101010: 0x30335241,
  abgr2101010: 0x30334241,
  rgba1010102: 0x30334152,
  bgra1010102: 0x30334142,
  yuyv: 0x56595559,
  yvyu: 0x55595659,
  uyvy: 0x59565955,
  vyuy: 0x59555956,
  ayuv: 0x56555941,
  nv12: 0x3231564e,
  nv21: 0x3132564e,
  nv16: 0x3631564e,
  nv61: 0x3136564e,
  yuv410: 0x39565559,
  yvu410: 0x39555659,
  yuv411: 0x31315559,
  yvu411: 0x31315659,
  yuv420: 0x32315559,
  yvu420: 0x32315659,
  yuv422: 0x36315559,
  yvu422: 0x36315659,
  yuv444: 0x34325559,
  yvu444: 0x34325659,
  r8: 0x20203852,
  r16: 0x20363152,
  rg88: 0x38384752,
  gr88: 0x38385247,
  rg1616: 0x32334752,
  gr1616: 0x32335247,
  xrgb16161616f: 0x48345258,
  xbgr16161616f: 0x48344258,
  argb16161616f: 0x48345241,
  abgr16161616f: 0x48344241,
  xyuv8888: 0x56555958,
  vuy888: 0x34325556,
  vuy101010: 0x30335556,
  y210: 0x30313259,
  y212: 0x32313259,
  y216: 0x36313259,
  y410: 0x30313459,
  y412: 0x32313459,
  y416: 0x36313459,
  xvyu2101010: 0x30335658,
  xvyu12_16161616: 0x36335658,
  xvyu16161616: 0x38345658,
  y0l0: 0x304c3059,
  x0l0: 0x304c3058,
  y0l2: 0x324c3059,
  x0l2: 0x324c3058,
  yuv420_8bit: 0x38305559,
  yuv420_10bit: 0x30315559,
  xrgb8888_a8: 0x38415258,
  xbgr8888_a8: 0x38414258,
  rgbx8888_a8: 0x38415852,
  bgrx8888_a8: 0x38415842,
  rgb888_a8: 0x38413852,
  bgr888_a8: 0x38413842,
  rgb565_a8: 0x38413552,
  bgr565_a8: 0x38413542,
  nv24: 0x3432564e,
  nv42: 0x3234564e,
  p210: 0x30313250,
  p010: 0x30313050,
  p012: 0x32313050,
  p016: 0x36313050,
  axbxgxrx106106106106: 0x30314241,
  nv15: 0x3531564e,
  q410: 0x30313451,
  q401: 0x31303451,
  xrgb16161616: 0x38345258,
  xbgr16161616: 0x38344258,
  argb16161616: 0x38345241,
  abgr16161616: 0x38344241,
  c1: 0x20203143,
  c2: 0x20203243,
  c4: 0x20203443,
  d1: 0x20203144,
  d2: 0x20203244,
  d4: 0x20203444,
  d8: 0x20203844,
  r1: 0x20203152,
  r2: 0x20203252,
  r4: 0x20203452,
  r10: 0x20303152,
  r12: 0x20323152,
  avuy8888: 0x59555641,
  xvuy8888: 0x59555658,
  p030: 0x30333050,
} as const;
export type WlShmFormat = (typeof WlShmFormat)[keyof typeof WlShmFormat];

/** wl_surface.error */
export const WlSurfaceError = {
  invalid_scale: 0,
  invalid_transform: 1,
  invalid_size: 2,
  invalid_offset: 3,
  defunct_role_object: 4,
} as const;
export type WlSurfaceError = (typeof WlSurfaceError)[keyof typeof WlSurfaceError];

/** wl_seat.capability, bits */
export const WlSeatCapability = {
  pointer: 1,
  keyboard: 2,
  touch: 4,
} as const;

/** wl_seat.error */
export const WlSeatError = {
  missing_capability: 0,
} as const;
export type WlSeatError = (typeof WlSeatError)[keyof typeof WlSeatError];

/** wl_pointer.error */
export const WlPointerError = {
  role: 0,
} as const;
export type WlPointerError = (typeof WlPointerError)[keyof typeof WlPointerError];

/** wl_pointer.button_state */
export const WlPointerButtonState = {
  released: 0,
  pressed: 1,
} as const;
export type WlPointerButtonState = (typeof WlPointerButtonState)[keyof typeof WlPointerButtonState];

/** wl_pointer.axis */
export const WlPointerAxis = {
  vertical_scroll: 0,
  horizontal_scroll: 1,
} as const;
export type WlPointerAxis = (typeof WlPointerAxis)[keyof typeof WlPointerAxis];

/** wl_pointer.axis_source */
export const WlPointerAxisSource = {
  wheel: 0,
  finger: 1,
  continuous: 2,
  wheel_tilt: 3,
} as const;
export type WlPointerAxisSource = (typeof WlPointerAxisSource)[keyof typeof WlPointerAxisSource];

/** wl_pointer.axis_relative_direction */
export const WlPointerAxisRelativeDirection = {
  identical: 0,
  inverted: 1,
} as const;
export type WlPointerAxisRelativeDirection = (typeof WlPointerAxisRelativeDirection)[keyof typeof WlPointerAxisRelativeDirection];

/** wl_keyboard.keymap_format */
export const WlKeyboardKeymapFormat = {
  no_keymap: 0,
  xkb_v1: 1,
} as const;
export type WlKeyboardKeymapFormat = (typeof WlKeyboardKeymapFormat)[keyof typeof WlKeyboardKeymapFormat];

/** wl_keyboard.key_state */
export const WlKeyboardKeyState = {
  released: 0,
  pressed: 1,
} as const;
export type WlKeyboardKeyState = (typeof WlKeyboardKeyState)[keyof typeof WlKeyboardKeyState];

/** wl_output.subpixel */
export const WlOutputSubpixel = {
  unknown: 0,
  none: 1,
  horizontal_rgb: 2,
  horizontal_bgr: 3,
  vertical_rgb: 4,
  vertical_bgr: 5,
} as const;
export type WlOutputSubpixel = (typeof WlOutputSubpixel)[keyof typeof WlOutputSubpixel];

/** wl_output.transform */
export const WlOutputTransform = {
  normal: 0,
  '90': 1,
  '180': 2,
  '270': 3,
  flipped: 4,
  flipped_90: 5,
  flipped_180: 6,
  flipped_270: 7,
} as const;
export type WlOutputTransform = (typeof WlOutputTransform)[keyof typeof WlOutputTransform];

/** wl_output.mode, bits */
export const WlOutputMode = {
  current: 0x1,
  preferred: 0x2,
} as const;

/** wl_subcompositor.error */
export const WlSubcompositorError = {
  bad_surface: 0,
  bad_parent: 1,
} as const;
export type WlSubcompositorError = (typeof WlSubcompositorError)[keyof typeof WlSubcompositorError];

/** wl_subsurface.error */
export const WlSubsurfaceError = {
  bad_surface: 0,
} as const;
export type WlSubsurfaceError = (typeof WlSubsurfaceError)[keyof typeof WlSubsurfaceError];

/** wl_data_device_manager.dnd_action, bits */
export const WlDataDeviceManagerDndAction = {
  none: 0,
  copy: 1,
  move: 2,
  ask: 4,
} as const;

/** wl_data_device.error */
export const WlDataDeviceError = {
  role: 0,
  used_source: 1,
} as const;
export type WlDataDeviceError = (typeof WlDataDeviceError)[keyof typeof WlDataDeviceError];

/** wl_data_source.error */
export const WlDataSourceError = {
  invalid_action_mask: 0,
  invalid_source: 1,
} as const;
export type WlDataSourceError = (typeof WlDataSourceError)[keyof typeof WlDataSourceError];

/** wl_data_offer.error */
export const WlDataOfferError = {
  invalid_finish: 0,
  invalid_action_mask: 1,
  invalid_action: 2,
  invalid_offer: 3,
} as const;
export type WlDataOfferError = (typeof WlDataOfferError)[keyof typeof WlDataOfferError];

export const wl_display: InterfaceTable<'wl_display'> = {
  name: 'wl_display',
  version: 1,
  requests: [
    { name: 'sync', since: 1, args: [{ name: 'callback', type: 'new_id', interface: 'wl_callback' }] },
    { name: 'get_registry', since: 1, args: [{ name: 'registry', type: 'new_id', interface: 'wl_registry' }] },
  ],
  events: [
    { name: 'error', since: 1, args: [{ name: 'object_id', type: 'object' }, { name: 'code', type: 'uint' }, { name: 'message', type: 'string' }] },
    { name: 'delete_id', since: 1, args: [{ name: 'id', type: 'uint' }] },
  ],
  errors: WlDisplayError,
};

export const wl_registry: InterfaceTable<'wl_registry'> = {
  name: 'wl_registry',
  version: 1,
  requests: [
    { name: 'bind', since: 1, args: [{ name: 'name', type: 'uint' }, { name: 'id', type: 'new_id' }] },
  ],
  events: [
    { name: 'global', since: 1, args: [{ name: 'name', type: 'uint' }, { name: 'interface', type: 'string' }, { name: 'version', type: 'uint' }] },
    { name: 'global_remove', since: 1, args: [{ name: 'name', type: 'uint' }] },
  ],
  errors: {},
};

export const wl_callback: InterfaceTable<'wl_callback'> = {
  name: 'wl_callback',
  version: 1,
  requests: [],
  events: [
    { name: 'done', since: 1, destructor: true, args: [{ name: 'callback_data', type: 'uint' }] },
  ],
  errors: {},
};

export const wl_compositor: InterfaceTable<'wl_compositor'> = {
  name: 'wl_compositor',
  version: 6,
  requests: [
    { name: 'create_surface', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_surface' }] },
    { name: 'create_region', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_region' }] },
  ],
  events: [],
  errors: {},
};

export const wl_shm_pool: InterfaceTable<'wl_shm_pool'> = {
  name: 'wl_shm_pool',
  version: 2,
  requests: [
    { name: 'create_buffer', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_buffer' }, { name: 'offset', type: 'int' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }, { name: 'stride', type: 'int' }, { name: 'format', type: 'uint' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'resize', since: 1, args: [{ name: 'size', type: 'int' }] },
  ],
  events: [],
  errors: {},
};

export const wl_shm: InterfaceTable<'wl_shm'> = {
  name: 'wl_shm',
  version: 2,
  requests: [
    { name: 'create_pool', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_shm_pool' }, { name: 'fd', type: 'fd' }, { name: 'size', type: 'int' }] },
    { name: 'release', since: 2, destructor: true, args: [] },
  ],
  events: [
    { name: 'format', since: 1, args: [{ name: 'format', type: 'uint' }] },
  ],
  errors: WlShmError,
};

export const wl_buffer: InterfaceTable<'wl_buffer'> = {
  name: 'wl_buffer',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'release', since: 1, args: [] },
  ],
  errors: {},
};

export const wl_surface: InterfaceTable<'wl_surface'> = {
  name: 'wl_surface',
  version: 6,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'attach', since: 1, args: [{ name: 'buffer', type: 'object', interface: 'wl_buffer', nullable: true }, { name: 'x', type: 'int' }, { name: 'y', type: 'int' }] },
    { name: 'damage', since: 1, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
    { name: 'frame', since: 1, args: [{ name: 'callback', type: 'new_id', interface: 'wl_callback' }] },
    { name: 'set_opaque_region', since: 1, args: [{ name: 'region', type: 'object', interface: 'wl_region', nullable: true }] },
    { name: 'set_input_region', since: 1, args: [{ name: 'region', type: 'object', interface: 'wl_region', nullable: true }] },
    { name: 'commit', since: 1, args: [] },
    { name: 'set_buffer_transform', since: 2, args: [{ name: 'transform', type: 'int' }] },
    { name: 'set_buffer_scale', since: 3, args: [{ name: 'scale', type: 'int' }] },
    { name: 'damage_buffer', since: 4, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
    { name: 'offset', since: 5, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }] },
  ],
  events: [
    { name: 'enter', since: 1, args: [{ name: 'output', type: 'object', interface: 'wl_output' }] },
    { name: 'leave', since: 1, args: [{ name: 'output', type: 'object', interface: 'wl_output' }] },
    { name: 'preferred_buffer_scale', since: 6, args: [{ name: 'factor', type: 'int' }] },
    { name: 'preferred_buffer_transform', since: 6, args: [{ name: 'transform', type: 'uint' }] },
  ],
  errors: WlSurfaceError,
};

export const wl_seat: InterfaceTable<'wl_seat'> = {
  name: 'wl_seat',
  version: 9,
  requests: [
    { name: 'get_pointer', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_pointer' }] },
    { name: 'get_keyboard', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_keyboard' }] },
    { name: 'get_touch', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_touch' }] },
    { name: 'release', since: 5, destructor: true, args: [] },
  ],
  events: [
    { name: 'capabilities', since: 1, args: [{ name: 'capabilities', type: 'uint' }] },
    { name: 'name', since: 2, args: [{ name: 'name', type: 'string' }] },
  ],
  errors: WlSeatError,
};

export const wl_pointer: InterfaceTable<'wl_pointer'> = {
  name: 'wl_pointer',
  version: 9,
  requests: [
    { name: 'set_cursor', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface', nullable: true }, { name: 'hotspot_x', type: 'int' }, { name: 'hotspot_y', type: 'int' }] },
    { name: 'release', since: 3, destructor: true, args: [] },
  ],
  events: [
    { name: 'enter', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'surface_x', type: 'fixed' }, { name: 'surface_y', type: 'fixed' }] },
    { name: 'leave', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'motion', since: 1, args: [{ name: 'time', type: 'uint' }, { name: 'surface_x', type: 'fixed' }, { name: 'surface_y', type: 'fixed' }] },
    { name: 'button', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'time', type: 'uint' }, { name: 'button', type: 'uint' }, { name: 'state', type: 'uint' }] },
    { name: 'axis', since: 1, args: [{ name: 'time', type: 'uint' }, { name: 'axis', type: 'uint' }, { name: 'value', type: 'fixed' }] },
    { name: 'frame', since: 5, args: [] },
    { name: 'axis_source', since: 5, args: [{ name: 'axis_source', type: 'uint' }] },
    { name: 'axis_stop', since: 5, args: [{ name: 'time', type: 'uint' }, { name: 'axis', type: 'uint' }] },
    { name: 'axis_discrete', since: 5, args: [{ name: 'axis', type: 'uint' }, { name: 'discrete', type: 'int' }] },
    { name: 'axis_value120', since: 8, args: [{ name: 'axis', type: 'uint' }, { name: 'value120', type: 'int' }] },
    { name: 'axis_relative_direction', since: 9, args: [{ name: 'axis', type: 'uint' }, { name: 'direction', type: 'uint' }] },
  ],
  errors: WlPointerError,
};

export const wl_keyboard: InterfaceTable<'wl_keyboard'> = {
  name: 'wl_keyboard',
  version: 9,
  requests: [
    { name: 'release', since: 3, destructor: true, args: [] },
  ],
  events: [
    { name: 'keymap', since: 1, args: [{ name: 'format', type: 'uint' }, { name: 'fd', type: 'fd' }, { name: 'size', type: 'uint' }] },
    { name: 'enter', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'keys', type: 'array' }] },
    { name: 'leave', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
    { name: 'key', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'time', type: 'uint' }, { name: 'key', type: 'uint' }, { name: 'state', type: 'uint' }] },
    { name: 'modifiers', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'mods_depressed', type: 'uint' }, { name: 'mods_latched', type: 'uint' }, { name: 'mods_locked', type: 'uint' }, { name: 'group', type: 'uint' }] },
    { name: 'repeat_info', since: 4, args: [{ name: 'rate', type: 'int' }, { name: 'delay', type: 'int' }] },
  ],
  errors: {},
};

export const wl_touch: InterfaceTable<'wl_touch'> = {
  name: 'wl_touch',
  version: 9,
  requests: [
    { name: 'release', since: 3, destructor: true, args: [] },
  ],
  events: [
    { name: 'down', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'time', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'id', type: 'int' }, { name: 'x', type: 'fixed' }, { name: 'y', type: 'fixed' }] },
    { name: 'up', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'time', type: 'uint' }, { name: 'id', type: 'int' }] },
    { name: 'motion', since: 1, args: [{ name: 'time', type: 'uint' }, { name: 'id', type: 'int' }, { name: 'x', type: 'fixed' }, { name: 'y', type: 'fixed' }] },
    { name: 'frame', since: 1, args: [] },
    { name: 'cancel', since: 1, args: [] },
    { name: 'shape', since: 6, args: [{ name: 'id', type: 'int' }, { name: 'major', type: 'fixed' }, { name: 'minor', type: 'fixed' }] },
    { name: 'orientation', since: 6, args: [{ name: 'id', type: 'int' }, { name: 'orientation', type: 'fixed' }] },
  ],
  errors: {},
};

export const wl_output: InterfaceTable<'wl_output'> = {
  name: 'wl_output',
  version: 4,
  requests: [
    { name: 'release', since: 3, destructor: true, args: [] },
  ],
  events: [
    { name: 'geometry', since: 1, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }, { name: 'physical_width', type: 'int' }, { name: 'physical_height', type: 'int' }, { name: 'subpixel', type: 'int' }, { name: 'make', type: 'string' }, { name: 'model', type: 'string' }, { name: 'transform', type: 'int' }] },
    { name: 'mode', since: 1, args: [{ name: 'flags', type: 'uint' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }, { name: 'refresh', type: 'int' }] },
    { name: 'done', since: 2, args: [] },
    { name: 'scale', since: 2, args: [{ name: 'factor', type: 'int' }] },
    { name: 'name', since: 4, args: [{ name: 'name', type: 'string' }] },
    { name: 'description', since: 4, args: [{ name: 'description', type: 'string' }] },
  ],
  errors: {},
};

export const wl_region: InterfaceTable<'wl_region'> = {
  name: 'wl_region',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'add', since: 1, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
    { name: 'subtract', since: 1, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }] },
  ],
  events: [],
  errors: {},
};

export const wl_subcompositor: InterfaceTable<'wl_subcompositor'> = {
  name: 'wl_subcompositor',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'get_subsurface', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_subsurface' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'parent', type: 'object', interface: 'wl_surface' }] },
  ],
  events: [],
  errors: WlSubcompositorError,
};

export const wl_subsurface: InterfaceTable<'wl_subsurface'> = {
  name: 'wl_subsurface',
  version: 1,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_position', since: 1, args: [{ name: 'x', type: 'int' }, { name: 'y', type: 'int' }] },
    { name: 'place_above', since: 1, args: [{ name: 'sibling', type: 'object', interface: 'wl_surface' }] },
    { name: 'place_below', since: 1, args: [{ name: 'sibling', type: 'object', interface: 'wl_surface' }] },
    { name: 'set_sync', since: 1, args: [] },
    { name: 'set_desync', since: 1, args: [] },
  ],
  events: [],
  errors: WlSubsurfaceError,
};

export const wl_data_device_manager: InterfaceTable<'wl_data_device_manager'> = {
  name: 'wl_data_device_manager',
  version: 3,
  requests: [
    { name: 'create_data_source', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_data_source' }] },
    { name: 'get_data_device', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_data_device' }, { name: 'seat', type: 'object', interface: 'wl_seat' }] },
  ],
  events: [],
  errors: {},
};

export const wl_data_device: InterfaceTable<'wl_data_device'> = {
  name: 'wl_data_device',
  version: 3,
  requests: [
    { name: 'start_drag', since: 1, args: [{ name: 'source', type: 'object', interface: 'wl_data_source', nullable: true }, { name: 'origin', type: 'object', interface: 'wl_surface' }, { name: 'icon', type: 'object', interface: 'wl_surface', nullable: true }, { name: 'serial', type: 'uint' }] },
    { name: 'set_selection', since: 1, args: [{ name: 'source', type: 'object', interface: 'wl_data_source', nullable: true }, { name: 'serial', type: 'uint' }] },
    { name: 'release', since: 2, destructor: true, args: [] },
  ],
  events: [
    { name: 'data_offer', since: 1, args: [{ name: 'id', type: 'new_id', interface: 'wl_data_offer' }] },
    { name: 'enter', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'x', type: 'fixed' }, { name: 'y', type: 'fixed' }, { name: 'id', type: 'object', interface: 'wl_data_offer', nullable: true }] },
    { name: 'leave', since: 1, args: [] },
    { name: 'motion', since: 1, args: [{ name: 'time', type: 'uint' }, { name: 'x', type: 'fixed' }, { name: 'y', type: 'fixed' }] },
    { name: 'drop', since: 1, args: [] },
    { name: 'selection', since: 1, args: [{ name: 'id', type: 'object', interface: 'wl_data_offer', nullable: true }] },
  ],
  errors: WlDataDeviceError,
};

export const wl_data_source: InterfaceTable<'wl_data_source'> = {
  name: 'wl_data_source',
  version: 3,
  requests: [
    { name: 'offer', since: 1, args: [{ name: 'mime_type', type: 'string' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'set_actions', since: 3, args: [{ name: 'dnd_actions', type: 'uint' }] },
  ],
  events: [
    { name: 'target', since: 1, args: [{ name: 'mime_type', type: 'string', nullable: true }] },
    { name: 'send', since: 1, args: [{ name: 'mime_type', type: 'string' }, { name: 'fd', type: 'fd' }] },
    { name: 'cancelled', since: 1, args: [] },
    { name: 'dnd_drop_performed', since: 3, args: [] },
    { name: 'dnd_finished', since: 3, args: [] },
    { name: 'action', since: 3, args: [{ name: 'dnd_action', type: 'uint' }] },
  ],
  errors: WlDataSourceError,
};

export const wl_data_offer: InterfaceTable<'wl_data_offer'> = {
  name: 'wl_data_offer',
  version: 3,
  requests: [
    { name: 'accept', since: 1, args: [{ name: 'serial', type: 'uint' }, { name: 'mime_type', type: 'string', nullable: true }] },
    { name: 'receive', since: 1, args: [{ name: 'mime_type', type: 'string' }, { name: 'fd', type: 'fd' }] },
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'finish', since: 3, args: [] },
    { name: 'set_actions', since: 3, args: [{ name: 'dnd_actions', type: 'uint' }, { name: 'preferred_action', type: 'uint' }] },
  ],
  events: [
    { name: 'offer', since: 1, args: [{ name: 'mime_type', type: 'string' }] },
    { name: 'source_actions', since: 3, args: [{ name: 'source_actions', type: 'uint' }] },
    { name: 'action', since: 3, args: [{ name: 'dnd_action', type: 'uint' }] },
  ],
  errors: WlDataOfferError,
};
