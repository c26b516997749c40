import { DRM_FORMAT, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import { virtio_gpu_cursor_pos, virtio_gpu_update_cursor } from '../../../protocols/virtio-gpu.ts';
import type { PixelLayout } from '../../core/framebuffer.ts';
import { CURSOR_BLOB, CURSOR_BLOB_BYTES } from './blob.ts';
import type { Command } from './command.ts';
import { VirtioGpuError } from './errors.ts';
import { BYTES_PER_PIXEL, LinearLayout, type Resource } from './resource.ts';

/** Drivers use 64; display hardware ends here. */
const MAX_CURSOR = 512;

/** Linux makes every dumb buffer a resource without alpha, those of cursors too: QEMU takes alpha for granted. */
const WITH_ALPHA: ReadonlyMap<Fourcc, Fourcc> = new Map([
  [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888],
  [DRM_FORMAT.BGRX8888, DRM_FORMAT.BGRA8888],
  [DRM_FORMAT.XBGR8888, DRM_FORMAT.ABGR8888],
  [DRM_FORMAT.RGBX8888, DRM_FORMAT.RGBA8888],
]);

const described = new LinearLayout();

const POS = virtio_gpu_update_cursor.offset.pos;
const { scanout_id: SCANOUT_ID } = virtio_gpu_cursor_pos.field;
const { x: X, y: Y } = virtio_gpu_cursor_pos.offset;
const { resource_id: RESOURCE_ID } = virtio_gpu_update_cursor.field;
const { hot_x: HOT_X, hot_y: HOT_Y } = virtio_gpu_update_cursor.offset;

/*
 * A position is where the image's top left corner is: Linux sends its plane's position, Windows
 * what its display model defines as the corner. It may be negative, as a two's complement.
 */

export const UPDATE_CURSOR: Command = {
  size: virtio_gpu_update_cursor.size,
  run({ scanouts, resources, tap }, { view }) {
    const scanout = scanouts.get(SCANOUT_ID.get(view, POS));
    const x = view.getInt32(POS + X, true);
    const y = view.getInt32(POS + Y, true);
    const id = RESOURCE_ID.get(view, 0);
    if (id === 0) {
      scanouts.setCursor(scanout, null, null, 0, 0, x, y);
      return;
    }
    const resource = resources.get(id);
    const layout = cursorLayout(resource);
    const hotspotX = Math.min(Math.max(view.getInt32(HOT_X, true), 0), layout.width - 1);
    const hotspotY = Math.min(Math.max(view.getInt32(HOT_Y, true), 0), layout.height - 1);
    if (resource.isBlob) tap?.pixels(resource, 0, layout.planes[0]!.stride, layout.width * BYTES_PER_PIXEL, layout.height);
    resources.refresh(resource);
    scanouts.setCursor(scanout, resource, layout, hotspotX, hotspotY, x, y);
  },
};

function cursorLayout(resource: Resource): PixelLayout {
  if (!resource.layout) {
    if (resource.byteLength < CURSOR_BLOB_BYTES) throw new VirtioGpuError('invalid-parameter', `a cursor in a blob of ${resource.byteLength} bytes`);
    return CURSOR_BLOB;
  }
  const { width, height, format, planes } = resource.layout;
  if (width > MAX_CURSOR || height > MAX_CURSOR) throw new VirtioGpuError('invalid-parameter', `a cursor of ${width}x${height}`);
  return described.set(width, height, WITH_ALPHA.get(format) ?? format, 0, planes[0]!.stride);
}

export const MOVE_CURSOR: Command = {
  size: POS + virtio_gpu_cursor_pos.size,
  run({ scanouts }, { view }) {
    const scanout = scanouts.get(SCANOUT_ID.get(view, POS));
    scanouts.moveCursor(scanout, view.getInt32(POS + X, true), view.getInt32(POS + Y, true));
  },
};
