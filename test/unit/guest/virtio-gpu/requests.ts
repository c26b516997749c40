import * as p from '../../../../protocols/virtio-gpu.ts';
import type { Rect } from '../../../../src/core/geometry.ts';
import { HEAP, PAGE } from './rig.ts';

const { VIRTIO_GPU_CMD: CMD } = p;

export interface Entry {
  addr: number;
  length: number;
}

export interface Fence {
  id: bigint;
  ring?: number;
}

export function header(
  type: number,
  fence?: Fence,
): { type: number; flags: number; fence_id: bigint; ctx_id: number; ring_idx: number; padding: Uint8Array } {
  const ring = fence?.ring === undefined ? 0 : p.VIRTIO_GPU_FLAG_INFO_RING_IDX;
  return {
    type,
    flags: fence ? p.VIRTIO_GPU_FLAG_FENCE | ring : 0,
    fence_id: fence?.id ?? 0n,
    ctx_id: fence ? 7 : 0,
    ring_idx: fence?.ring ?? 0,
    padding: new Uint8Array(3),
  };
}

const rect = (x: number, y: number, width: number, height: number): Rect => ({ x, y, width, height });

export function only(type: number, fence?: Fence): Uint8Array {
  return p.virtio_gpu_ctrl_hdr.encode(header(type, fence));
}

export function create2d(
  resource_id: number,
  width: number,
  height: number,
  format: number = p.VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM,
): Uint8Array {
  return p.virtio_gpu_resource_create_2d.encode({
    hdr: header(CMD.RESOURCE_CREATE_2D),
    resource_id,
    format,
    width,
    height,
  });
}

export function unref(resource_id: number): Uint8Array {
  return p.virtio_gpu_resource_unref.encode({ hdr: header(CMD.RESOURCE_UNREF), resource_id });
}

function withEntries(head: Uint8Array, entries: readonly Entry[]): Uint8Array {
  const request = new Uint8Array(head.length + entries.length * p.virtio_gpu_mem_entry.size);
  request.set(head);
  entries.forEach((entry, i) =>
    request.set(p.virtio_gpu_mem_entry.encode(entry), head.length + i * p.virtio_gpu_mem_entry.size),
  );
  return request;
}

export function attach(resource_id: number, entries: readonly Entry[], nr_entries = entries.length): Uint8Array {
  return withEntries(
    p.virtio_gpu_resource_attach_backing.encode({ hdr: header(CMD.RESOURCE_ATTACH_BACKING), resource_id, nr_entries }),
    entries,
  );
}

export function detach(resource_id: number): Uint8Array {
  return p.virtio_gpu_resource_detach_backing.encode({ hdr: header(CMD.RESOURCE_DETACH_BACKING), resource_id });
}

export function setScanout(
  scanout_id: number,
  resource_id: number,
  x: number,
  y: number,
  width: number,
  height: number,
): Uint8Array {
  return p.virtio_gpu_set_scanout.encode({
    hdr: header(CMD.SET_SCANOUT),
    r: rect(x, y, width, height),
    scanout_id,
    resource_id,
  });
}

export function transfer(
  resource_id: number,
  x: number,
  y: number,
  width: number,
  height: number,
  offset: number,
): Uint8Array {
  return p.virtio_gpu_transfer_to_host_2d.encode({
    hdr: header(CMD.TRANSFER_TO_HOST_2D),
    r: rect(x, y, width, height),
    offset,
    resource_id,
  });
}

export function flush(
  resource_id: number,
  x: number,
  y: number,
  width: number,
  height: number,
  fence?: Fence,
): Uint8Array {
  return p.virtio_gpu_resource_flush.encode({
    hdr: header(CMD.RESOURCE_FLUSH, fence),
    r: rect(x, y, width, height),
    resource_id,
  });
}

export function createBlob(
  resource_id: number,
  size: number,
  entries: readonly Entry[],
  blob_mem = p.VIRTIO_GPU_BLOB_MEM_GUEST,
  nr_entries = entries.length,
): Uint8Array {
  const hdr = header(CMD.RESOURCE_CREATE_BLOB);
  return withEntries(
    p.virtio_gpu_resource_create_blob.encode({
      hdr,
      resource_id,
      blob_mem,
      blob_flags: p.VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE,
      nr_entries,
      blob_id: 0,
      size,
    }),
    entries,
  );
}

export interface BlobLayout {
  width: number;
  height: number;
  stride: number;
  offset: number;
  format?: number;
}

export function setScanoutBlob(
  scanout_id: number,
  resource_id: number,
  layout: BlobLayout,
  r: Rect = rect(0, 0, layout.width, layout.height),
): Uint8Array {
  const { width, height, stride, offset, format = p.VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM } = layout;
  const hdr = header(CMD.SET_SCANOUT_BLOB);
  return p.virtio_gpu_set_scanout_blob.encode({
    hdr,
    r,
    scanout_id,
    resource_id,
    width,
    height,
    format,
    strides: [stride, 0, 0, 0],
    offsets: [offset, 0, 0, 0],
  });
}

export function updateCursor(
  scanout_id: number,
  resource_id: number,
  x: number,
  y: number,
  hot_x = 0,
  hot_y = 0,
): Uint8Array {
  return p.virtio_gpu_update_cursor.encode({
    hdr: header(CMD.UPDATE_CURSOR),
    pos: { scanout_id, x: x >>> 0, y: y >>> 0, padding: 0 },
    resource_id,
    hot_x,
    hot_y,
  });
}

/** Without a resource it hides the cursor. */
export function moveCursor(scanout_id: number, x: number, y: number, resource_id = 1): Uint8Array {
  return p.virtio_gpu_update_cursor.encode({
    hdr: header(CMD.MOVE_CURSOR),
    pos: { scanout_id, x: x >>> 0, y: y >>> 0, padding: 0 },
    resource_id,
  });
}

export function getEdid(scanout: number): Uint8Array {
  return p.virtio_gpu_cmd_get_edid.encode({ hdr: header(CMD.GET_EDID), scanout });
}

export function assignUuid(resource_id: number): Uint8Array {
  return p.virtio_gpu_resource_assign_uuid.encode({ hdr: header(CMD.RESOURCE_ASSIGN_UUID), resource_id });
}

/** `pages` pages of the heap, one entry each, every second one and last to first: nothing merges. */
export function scattered(pages: number, start = HEAP): Entry[] {
  return Array.from({ length: pages }, (_, i) => ({ addr: start + (pages - 1 - i) * 2 * PAGE, length: PAGE }));
}

export function contiguous(bytes: number, start = HEAP): Entry[] {
  return [{ addr: start, length: bytes }];
}
