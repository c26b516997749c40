import { makeEdid } from '../../../protocols/edid.ts';
import * as uapi from '../../../protocols/vfio.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { DeviceFile, Region, VfioDevice } from './device.ts';

/** How many regions that are not PCI's are looked at. */
const MAX_REGIONS = 32;

const { offset, size } = uapi.vfio_region_gfx_edid;

/** The region of a device through which its guest learns what monitor it has. */
export class EdidRegion {
  readonly #file: DeviceFile;
  readonly #region: Region;

  private constructor(file: DeviceFile, region: Region) {
    this.#file = file;
    this.#region = region;
  }

  /** Null if the device has none. */
  static find(device: VfioDevice): EdidRegion | null {
    const first = uapi.VFIO_PCI_NUM_REGIONS;
    for (let index = first; index < first + MAX_REGIONS; index++) {
      const region = device.region(index);
      if (!region) return null;
      if (
        region.type === uapi.VFIO_REGION_TYPE_GFX &&
        region.subtype === uapi.VFIO_REGION_SUBTYPE_GFX_EDID &&
        region.size >= size
      )
        return new EdidRegion(device.file, region);
    }
    return null;
  }

  /** Plugs in a monitor, cut to the largest mode that the device has; null unplugs it. Throws Node's error of read or write. */
  show(monitor: Monitor | null): void {
    this.#set(offset.link_state, uapi.VFIO_DEVICE_GFX_LINK_STATE_DOWN);
    if (!monitor) return;
    const bytes = new Uint8Array(size);
    this.#file.read(bytes, this.#region.offset);
    const { edid_offset, edid_max_size, max_xres, max_yres } = uapi.vfio_region_gfx_edid.decode(bytes);
    const edid = edidFor(monitor, max_xres || Infinity, max_yres || Infinity, edid_max_size);
    if (!edid || edid_offset + edid.length > this.#region.size) return;
    this.#set(offset.edid_size, edid.length);
    this.#file.write(edid, this.#region.offset + edid_offset);
    this.#set(offset.link_state, uapi.VFIO_DEVICE_GFX_LINK_STATE_UP);
  }

  #set(at: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#file.write(bytes, this.#region.offset + at);
  }
}

/** The real monitor's EDID if it fits, or one of ours; null if that does not fit either. */
function edidFor(monitor: Monitor, maxWidth: number, maxHeight: number, maxSize: number): Uint8Array | null {
  const width = Math.min(monitor.width, maxWidth);
  const height = Math.min(monitor.height, maxHeight);
  const isWhole = width === monitor.width && height === monitor.height;
  if (isWhole && monitor.edid && monitor.edid.length <= maxSize) return monitor.edid;
  const edid = makeEdid({ ...monitor, width, height });
  return edid.length <= maxSize ? edid : null;
}
