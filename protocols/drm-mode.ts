/**
 * drm/drm_mode.h: the part of kernel modesetting that an atomic client needs. `*_ptr` fields hold
 * addresses of arrays that the caller owns. `count_*` is their capacity going in and the number of
 * elements coming out; the kernel does not write to an array that is too short.
 */
import { addr64, array, bytes, i32, iowr, struct, u16, u32, u64 } from './layout.ts';

export const DRM_DISPLAY_MODE_LEN = 32;
export const DRM_PROP_NAME_LEN = 32;

/* `drm_mode_modeinfo.type` and `.flags` */
export const DRM_MODE_TYPE_PREFERRED = 1 << 3;
export const DRM_MODE_FLAG_INTERLACE = 1 << 4;
export const DRM_MODE_FLAG_DBLSCAN = 1 << 5;

/**
 * By connector type, the first part of a connector's name (drm_connector_enum_list in
 * drivers/gpu/drm/drm_connector.c).
 */
export const CONNECTOR_TYPE_NAMES = [
  'Unknown',
  'VGA',
  'DVI-I',
  'DVI-D',
  'DVI-A',
  'Composite',
  'SVIDEO',
  'LVDS',
  'Component',
  'DIN',
  'DP',
  'HDMI-A',
  'HDMI-B',
  'TV',
  'eDP',
  'Virtual',
  'DSI',
  'DPI',
  'Writeback',
  'SPI',
  'USB',
] as const;

/** `drm_mode_get_connector.connection` (enum drm_connector_status, include/drm/drm_connector.h). */
export const CONNECTOR_STATUS_CONNECTED = 1;

export const DRM_MODE_OBJECT_CRTC = 0xcccc_cccc;
export const DRM_MODE_OBJECT_CONNECTOR = 0xc0c0_c0c0;
export const DRM_MODE_OBJECT_PLANE = 0xeeee_eeee;

/** Values of a plane's `type` property (enum drm_plane_type, include/drm/drm_plane.h). */
export const DRM_PLANE_TYPE_OVERLAY = 0;
export const DRM_PLANE_TYPE_PRIMARY = 1;
export const DRM_PLANE_TYPE_CURSOR = 2;

/** `drm_mode_fb_cmd2.flags`: the `modifier` field is valid. */
export const DRM_MODE_FB_MODIFIERS = 1 << 1;

/* `drm_mode_atomic.flags` */
export const DRM_MODE_PAGE_FLIP_EVENT = 0x01;
export const DRM_MODE_ATOMIC_TEST_ONLY = 0x0100;
export const DRM_MODE_ATOMIC_NONBLOCK = 0x0200;
export const DRM_MODE_ATOMIC_ALLOW_MODESET = 0x0400;

/** `clock` in kHz; `vrefresh` in whole hertz; `name` ends at its first zero. */
export const drm_mode_modeinfo = struct('drm_mode_modeinfo', {
  clock: u32,
  hdisplay: u16,
  hsync_start: u16,
  hsync_end: u16,
  htotal: u16,
  hskew: u16,
  vdisplay: u16,
  vsync_start: u16,
  vsync_end: u16,
  vtotal: u16,
  vscan: u16,
  vrefresh: u32,
  flags: u32,
  type: u32,
  name: bytes(DRM_DISPLAY_MODE_LEN),
});

export const drm_mode_card_res = struct('drm_mode_card_res', {
  fb_id_ptr: addr64,
  crtc_id_ptr: addr64,
  connector_id_ptr: addr64,
  encoder_id_ptr: addr64,
  count_fbs: u32,
  count_crtcs: u32,
  count_connectors: u32,
  count_encoders: u32,
  min_width: u32,
  max_width: u32,
  min_height: u32,
  max_height: u32,
});

export const drm_mode_get_plane_res = struct('drm_mode_get_plane_res', { plane_id_ptr: addr64, count_planes: u32 });

/** `possible_crtcs` is a mask of indices into the list of CRTCs, not of ids. */
export const drm_mode_get_plane = struct('drm_mode_get_plane', {
  plane_id: u32,
  crtc_id: u32,
  fb_id: u32,
  possible_crtcs: u32,
  gamma_size: u32,
  count_format_types: u32,
  format_type_ptr: addr64,
});

export const drm_mode_get_encoder = struct('drm_mode_get_encoder', {
  encoder_id: u32,
  encoder_type: u32,
  crtc_id: u32,
  possible_crtcs: u32,
  possible_clones: u32,
});

/** With `count_modes` 0 the kernel probes the monitor again, which is slow; only the DRM master may do it. */
export const drm_mode_get_connector = struct('drm_mode_get_connector', {
  encoders_ptr: addr64,
  modes_ptr: addr64,
  props_ptr: addr64,
  prop_values_ptr: addr64,
  count_modes: u32,
  count_props: u32,
  count_encoders: u32,
  encoder_id: u32,
  connector_id: u32,
  connector_type: u32,
  connector_type_id: u32,
  connection: u32,
  mm_width: u32,
  mm_height: u32,
  subpixel: u32,
  pad: u32,
});

export const drm_mode_get_property = struct('drm_mode_get_property', {
  values_ptr: addr64,
  enum_blob_ptr: addr64,
  prop_id: u32,
  flags: u32,
  name: bytes(DRM_PROP_NAME_LEN),
  count_values: u32,
  count_enum_blobs: u32,
});

export const drm_mode_obj_get_properties = struct('drm_mode_obj_get_properties', {
  props_ptr: addr64,
  prop_values_ptr: addr64,
  count_props: u32,
  obj_id: u32,
  obj_type: u32,
});

export const drm_mode_get_blob = struct('drm_mode_get_blob', { blob_id: u32, length: u32, data: addr64 });
export const drm_mode_create_blob = struct('drm_mode_create_blob', { data: addr64, length: u32, blob_id: u32 });
export const drm_mode_destroy_blob = struct('drm_mode_destroy_blob', { blob_id: u32 });

export const drm_mode_fb_cmd2 = struct('drm_mode_fb_cmd2', {
  fb_id: u32,
  width: u32,
  height: u32,
  pixel_format: u32,
  flags: u32,
  handles: array(u32, 4),
  pitches: array(u32, 4),
  offsets: array(u32, 4),
  modifier: array(u64, 4),
});

export const drm_mode_create_dumb = struct('drm_mode_create_dumb', {
  height: u32,
  width: u32,
  bpp: u32,
  flags: u32,
  handle: u32,
  pitch: u32,
  size: addr64,
});

export const drm_mode_map_dumb = struct('drm_mode_map_dumb', { handle: u32, pad: u32, offset: addr64 });

/**
 * The arrays are: object ids; the number of properties of each object; the property ids of all
 * objects; their values.
 */
export const drm_mode_atomic = struct('drm_mode_atomic', {
  flags: u32,
  count_objs: u32,
  objs_ptr: addr64,
  count_props_ptr: addr64,
  props_ptr: addr64,
  prop_values_ptr: addr64,
  reserved: addr64,
  user_data: addr64,
});

/** Head of a plane's IN_FORMATS blob. */
export const drm_format_modifier_blob = struct('drm_format_modifier_blob', {
  version: u32,
  flags: u32,
  count_formats: u32,
  formats_offset: u32,
  count_modifiers: u32,
  modifiers_offset: u32,
});

/** Bit n of `formats`: the modifier applies to the blob's format number `offset` + n. */
export const drm_format_modifier = struct('drm_format_modifier', {
  formats: u64,
  offset: u32,
  pad: u32,
  modifier: u64,
});

/** An element of FB_DAMAGE_CLIPS, in pixels of the framebuffer; x2 and y2 are exclusive. */
/** The property SIZE_HINTS of a cursor plane is a blob of these: sizes that it takes, the driver's favourite first. */
export const drm_plane_size_hint = struct('drm_plane_size_hint', { width: u16, height: u16 });

export const drm_mode_rect = struct('drm_mode_rect', { x1: i32, y1: i32, x2: i32, y2: i32 });

export const drm_mode_closefb = struct('drm_mode_closefb', { fb_id: u32, pad: u32 });

export const DRM_IOCTL_MODE_GETRESOURCES = iowr('d', 0xa0, drm_mode_card_res);
export const DRM_IOCTL_MODE_GETENCODER = iowr('d', 0xa6, drm_mode_get_encoder);
export const DRM_IOCTL_MODE_GETCONNECTOR = iowr('d', 0xa7, drm_mode_get_connector);
export const DRM_IOCTL_MODE_GETPROPERTY = iowr('d', 0xaa, drm_mode_get_property);
export const DRM_IOCTL_MODE_GETPROPBLOB = iowr('d', 0xac, drm_mode_get_blob);
/** The argument is the framebuffer's id. Planes that show it are turned off. */
export const DRM_IOCTL_MODE_RMFB = iowr('d', 0xaf, u32);
export const DRM_IOCTL_MODE_CREATE_DUMB = iowr('d', 0xb2, drm_mode_create_dumb);
export const DRM_IOCTL_MODE_MAP_DUMB = iowr('d', 0xb3, drm_mode_map_dumb);
export const DRM_IOCTL_MODE_GETPLANERESOURCES = iowr('d', 0xb5, drm_mode_get_plane_res);
export const DRM_IOCTL_MODE_GETPLANE = iowr('d', 0xb6, drm_mode_get_plane);
export const DRM_IOCTL_MODE_ADDFB2 = iowr('d', 0xb8, drm_mode_fb_cmd2);
export const DRM_IOCTL_MODE_OBJ_GETPROPERTIES = iowr('d', 0xb9, drm_mode_obj_get_properties);
export const DRM_IOCTL_MODE_ATOMIC = iowr('d', 0xbc, drm_mode_atomic);
export const DRM_IOCTL_MODE_CREATEPROPBLOB = iowr('d', 0xbd, drm_mode_create_blob);
export const DRM_IOCTL_MODE_DESTROYPROPBLOB = iowr('d', 0xbe, drm_mode_destroy_blob);
/** Planes that show the framebuffer go on showing it. Since Linux 6.8. */
export const DRM_IOCTL_MODE_CLOSEFB = iowr('d', 0xd0, drm_mode_closefb);
