// Made from linux-dmabuf-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** zwp_linux_buffer_params_v1.error */
export const ZwpLinuxBufferParamsV1Error = {
  already_used: 0,
  plane_idx: 1,
  plane_set: 2,
  incomplete: 3,
  invalid_format: 4,
  invalid_dimensions: 5,
  out_of_bounds: 6,
  invalid_wl_buffer: 7,
} as const;
export type ZwpLinuxBufferParamsV1Error = (typeof ZwpLinuxBufferParamsV1Error)[keyof typeof ZwpLinuxBufferParamsV1Error];

/** zwp_linux_buffer_params_v1.flags, bits */
export const ZwpLinuxBufferParamsV1Flags = {
  y_invert: 1,
  interlaced: 2,
  bottom_first: 4,
} as const;

/** zwp_linux_dmabuf_feedback_v1.tranche_flags, bits */
export const ZwpLinuxDmabufFeedbackV1TrancheFlags = {
  scanout: 1,
} as const;

export const zwp_linux_dmabuf_v1: InterfaceTable<'zwp_linux_dmabuf_v1'> = {
  name: 'zwp_linux_dmabuf_v1',
  version: 5,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'create_params', since: 1, args: [{ name: 'params_id', type: 'new_id', interface: 'zwp_linux_buffer_params_v1' }] },
    { name: 'get_default_feedback', since: 4, args: [{ name: 'id', type: 'new_id', interface: 'zwp_linux_dmabuf_feedback_v1' }] },
    { name: 'get_surface_feedback', since: 4, args: [{ name: 'id', type: 'new_id', interface: 'zwp_linux_dmabuf_feedback_v1' }, { name: 'surface', type: 'object', interface: 'wl_surface' }] },
  ],
  events: [
    { name: 'format', since: 1, args: [{ name: 'format', type: 'uint' }] },
    { name: 'modifier', since: 3, args: [{ name: 'format', type: 'uint' }, { name: 'modifier_hi', type: 'uint' }, { name: 'modifier_lo', type: 'uint' }] },
  ],
  errors: {},
};

export const zwp_linux_buffer_params_v1: InterfaceTable<'zwp_linux_buffer_params_v1'> = {
  name: 'zwp_linux_buffer_params_v1',
  version: 5,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'add', since: 1, args: [{ name: 'fd', type: 'fd' }, { name: 'plane_idx', type: 'uint' }, { name: 'offset', type: 'uint' }, { name: 'stride', type: 'uint' }, { name: 'modifier_hi', type: 'uint' }, { name: 'modifier_lo', type: 'uint' }] },
    { name: 'create', since: 1, args: [{ name: 'width', type: 'int' }, { name: 'height', type: 'int' }, { name: 'format', type: 'uint' }, { name: 'flags', type: 'uint' }] },
    { name: 'create_immed', since: 2, args: [{ name: 'buffer_id', type: 'new_id', interface: 'wl_buffer' }, { name: 'width', type: 'int' }, { name: 'height', type: 'int' }, { name: 'format', type: 'uint' }, { name: 'flags', type: 'uint' }] },
  ],
  events: [
    { name: 'created', since: 1, args: [{ name: 'buffer', type: 'new_id', interface: 'wl_buffer' }] },
    { name: 'failed', since: 1, args: [] },
  ],
  errors: ZwpLinuxBufferParamsV1Error,
};

export const zwp_linux_dmabuf_feedback_v1: InterfaceTable<'zwp_linux_dmabuf_feedback_v1'> = {
  name: 'zwp_linux_dmabuf_feedback_v1',
  version: 5,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
  ],
  events: [
    { name: 'done', since: 1, args: [] },
    { name: 'format_table', since: 1, args: [{ name: 'fd', type: 'fd' }, { name: 'size', type: 'uint' }] },
    { name: 'main_device', since: 1, args: [{ name: 'device', type: 'array' }] },
    { name: 'tranche_done', since: 1, args: [] },
    { name: 'tranche_target_device', since: 1, args: [{ name: 'device', type: 'array' }] },
    { name: 'tranche_formats', since: 1, args: [{ name: 'indices', type: 'array' }] },
    { name: 'tranche_flags', since: 1, args: [{ name: 'flags', type: 'uint' }] },
  ],
  errors: {},
};
