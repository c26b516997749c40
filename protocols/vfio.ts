/**
 * linux/vfio.h: the planes of a device's display, its EDID region, and how a device is opened through its group.
 * Every struct starts with `argsz`, the size that the caller knows. The ioctls have no size in their number.
 */
import { addr64, io, struct, u16, u32, u64 } from './layout.ts';

/* /dev/vfio/vfio, a container */
export const VFIO_TYPE1v2_IOMMU = 3;
/** The argument is an IOMMU type, not a pointer. */
export const VFIO_SET_IOMMU = io(';', 102);

/* /dev/vfio/GROUP */
/** The argument points to the descriptor of a container, an i32. */
export const VFIO_GROUP_SET_CONTAINER = io(';', 104);
/** The argument is the device's name, ending with a zero byte. Returns a descriptor. */
export const VFIO_GROUP_GET_DEVICE_FD = io(';', 106);

/* A device. Regions from VFIO_PCI_NUM_REGIONS on are not those of PCI. */
export const VFIO_PCI_NUM_REGIONS = 9;
export const VFIO_REGION_INFO_FLAG_READ = 1;
export const VFIO_REGION_INFO_FLAG_WRITE = 2;
export const VFIO_REGION_INFO_FLAG_MMAP = 4;
export const VFIO_REGION_INFO_FLAG_CAPS = 8;

/** `cap_offset` is 0, or where in the answer the first vfio_info_cap_header is. The kernel sets `argsz` to what it needs. */
export const vfio_region_info = struct('vfio_region_info', {
  argsz: u32,
  flags: u32,
  index: u32,
  cap_offset: u32,
  size: addr64,
  offset: addr64,
});
export const VFIO_DEVICE_GET_REGION_INFO = io(';', 108);

/** `next` is 0, or where in the answer the next one is. */
export const vfio_info_cap_header = struct('vfio_info_cap_header', { id: u16, version: u16, next: u32 });
export const VFIO_REGION_INFO_CAP_TYPE = 2;
export const vfio_region_info_cap_type = struct('vfio_region_info_cap_type', {
  header: vfio_info_cap_header,
  type: u32,
  subtype: u32,
});
export const VFIO_REGION_TYPE_GFX = 1;
export const VFIO_REGION_SUBTYPE_GFX_EDID = 1;

/** The start of the EDID region. Set the link down, write EDID and size, set the link up. */
export const vfio_region_gfx_edid = struct('vfio_region_gfx_edid', {
  edid_offset: u32,
  edid_max_size: u32,
  edid_size: u32,
  max_xres: u32,
  max_yres: u32,
  link_state: u32,
});
export const VFIO_DEVICE_GFX_LINK_STATE_UP = 1;
export const VFIO_DEVICE_GFX_LINK_STATE_DOWN = 2;

/** With PROBE the ioctl only says whether there are planes of the other flag's kind. */
export const VFIO_GFX_PLANE_TYPE_PROBE = 1;
export const VFIO_GFX_PLANE_TYPE_DMABUF = 2;
export const VFIO_GFX_PLANE_TYPE_REGION = 4;

/**
 * `drm_plane_type`, a DRM_PLANE_TYPE_*, is the question and what follows it the answer; `drm_format` is 0 while the
 * plane shows nothing. `dmabuf_id` is `region_index` for planes in regions. A cursor's `x_pos` and `y_pos` are signed,
 * and its hotspot is UINT32_MAX if it is not known.
 */
export const vfio_device_gfx_plane_info = struct('vfio_device_gfx_plane_info', {
  argsz: u32,
  flags: u32,
  drm_plane_type: u32,
  drm_format: u32,
  drm_format_mod: u64,
  width: u32,
  height: u32,
  stride: u32,
  size: u32,
  x_pos: u32,
  y_pos: u32,
  x_hot: u32,
  y_hot: u32,
  dmabuf_id: u32,
});
export const VFIO_DEVICE_QUERY_GFX_PLANE = io(';', 114);
/** The argument points to a `dmabuf_id`. Returns a descriptor, without close-on-exec. */
export const VFIO_DEVICE_GET_GFX_DMABUF = io(';', 115);
