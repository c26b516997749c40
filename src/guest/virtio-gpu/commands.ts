import { DRM_FORMAT, type Fourcc } from '../../../protocols/drm-fourcc.ts';
import {
  FOURCC_OF_VIRTIO_GPU_FORMAT,
  VIRTIO_GPU_BLOB_MEM_GUEST,
  VIRTIO_GPU_CMD,
  virtio_gpu_cmd_get_edid,
  virtio_gpu_ctrl_hdr,
  virtio_gpu_cursor_pos,
  virtio_gpu_get_capset,
  virtio_gpu_get_capset_info,
  virtio_gpu_rect,
  virtio_gpu_resource_assign_uuid,
  virtio_gpu_resource_attach_backing,
  virtio_gpu_resource_create_2d,
  virtio_gpu_resource_create_blob,
  virtio_gpu_resource_detach_backing,
  virtio_gpu_resource_flush,
  virtio_gpu_resource_unref,
  VIRTIO_GPU_RESP,
  virtio_gpu_resp_capset,
  virtio_gpu_resp_capset_info,
  virtio_gpu_resp_display_info,
  virtio_gpu_resp_edid,
  virtio_gpu_resp_resource_uuid,
  virtio_gpu_set_scanout,
  virtio_gpu_set_scanout_blob,
  virtio_gpu_transfer_to_host_2d,
  virtio_gpu_update_cursor,
} from '../../../protocols/virtio-gpu.ts';
import { newBufferId } from '../../core/buffer-id.ts';
import type { PixelLayout } from '../../core/framebuffer.ts';
import type { MutableRect, Rect } from '../../core/geometry.ts';
import { VirtioGpuError } from './errors.ts';
import type { Answer } from './fences.ts';
import type { Reply, Request } from './message.ts';
import { BYTES_PER_PIXEL, LinearLayout, Resource, Store } from './resource.ts';
import type { Resources, Rows, Work } from './resources.ts';
import type { Scanouts } from './scanouts.ts';

const { x: X, y: Y, width: WIDTH, height: HEIGHT } = virtio_gpu_rect.field;

/** The state that commands work on. */
export interface GpuState {
  readonly resources: Resources;
  readonly scanouts: Scanouts;
  /** Scratch for every command that reads a rectangle. */
  readonly rect: MutableRect;
  /** Commands that have ended. */
  commands: number;
  flushes: number;
  transfers: number;
  /** Commands that were answered with an error, or could not be answered. */
  errors: number;
}

/** One command of the guest. It checks everything, throwing VirtioGpuError, before it changes anything. */
export interface Command {
  /** The size of the request's struct in bytes. Shorter requests are refused before `run`. */
  readonly size: number;
  /**
   * Returns what is left to do if that takes long. Meanwhile commands of the other queue run, and the memory table may
   * change; no other command of this queue begins.
   */
  run(gpu: GpuState, request: Request, reply: Reply, answer: Answer): Work | undefined;
}

/** The virtio_gpu_rect at byte `at`, valid until the next call. */
function readRect(gpu: GpuState, { view }: Request, at: number): MutableRect {
  return gpu.rect.set(X.get(view, at), Y.get(view, at), WIDTH.get(view, at), HEIGHT.get(view, at));
}

function checkInside(rect: Rect, width: number, height: number): void {
  // Sums of two 32-bit numbers are exact.
  if (rect.x + rect.width > width || rect.y + rect.height > height) {
    throw new VirtioGpuError(
      'invalid-parameter',
      `rectangle ${rect.width}x${rect.height}+${rect.x}+${rect.y} is not inside ${width}x${height}`,
    );
  }
}

/** The largest side of an image that display hardware addresses; at most 1 GiB of pixels. */
const MAX_SIDE = 16384;

/** The DRM format of an image. VirtioGpuError unless `format` is one of the eight and the sides are in range. */
function checkImage(width: number, height: number, format: number): Fourcc {
  const fourcc = FOURCC_OF_VIRTIO_GPU_FORMAT.get(format);
  if (fourcc === undefined) throw new VirtioGpuError('invalid-parameter', `unknown format ${format}`);
  if (width === 0 || height === 0 || width > MAX_SIDE || height > MAX_SIDE) {
    throw new VirtioGpuError(
      'invalid-parameter',
      `an image of ${width}x${height}; sides of 1 to ${MAX_SIDE} are supported`,
    );
  }
  return fourcc;
}

const RESOURCE_CREATE_2D: Command = {
  size: virtio_gpu_resource_create_2d.size,
  run({ resources }, { view }) {
    const { resource_id, format, width, height } = virtio_gpu_resource_create_2d.get(view, 0);
    resources.checkNew(resource_id);
    const fourcc = checkImage(width, height, format);
    const stride = width * BYTES_PER_PIXEL;
    const layout = new LinearLayout().set(width, height, fourcc, 0, stride);
    resources.add(new Resource(resource_id, stride * height, layout), null);
  },
};

const RESOURCE_UNREF: Command = {
  size: virtio_gpu_resource_unref.size,
  run({ resources }, { view }) {
    resources.remove(resources.get(virtio_gpu_resource_unref.field.resource_id.get(view, 0)));
  },
};

const RESOURCE_ATTACH_BACKING: Command = {
  size: virtio_gpu_resource_attach_backing.size,
  run({ resources }, request) {
    const { resource_id, nr_entries } = virtio_gpu_resource_attach_backing.field;
    const resource = resources.get(resource_id.get(request.view, 0));
    resources.attach(
      resource,
      request.backing(virtio_gpu_resource_attach_backing.size, nr_entries.get(request.view, 0)),
    );
  },
};

const RESOURCE_DETACH_BACKING: Command = {
  size: virtio_gpu_resource_detach_backing.size,
  run({ resources }, { view }) {
    return resources.detach(resources.get(virtio_gpu_resource_detach_backing.field.resource_id.get(view, 0)));
  },
};

const SET_SCANOUT: Command = {
  size: virtio_gpu_set_scanout.size,
  run(gpu, request) {
    const { scanout_id, resource_id } = virtio_gpu_set_scanout.field;
    const scanout = gpu.scanouts.get(scanout_id.get(request.view, 0));
    const id = resource_id.get(request.view, 0);
    if (id === 0) {
      gpu.scanouts.off(scanout);
      return;
    }
    const resource = gpu.resources.get(id);
    const { layout } = resource;
    if (!layout) throw new VirtioGpuError('invalid-resource', `resource ${id} is a blob, which SET_SCANOUT_BLOB shows`);
    const rect = readRect(gpu, request, virtio_gpu_set_scanout.offset.r);
    checkScanoutRect(rect, layout);
    gpu.scanouts.show(scanout, resource, layout, rect);
  },
};

/** A scanout shows at least one pixel, and only pixels of the image. */
function checkScanoutRect(rect: Rect, layout: PixelLayout): void {
  checkInside(rect, layout.width, layout.height);
  if (rect.width === 0 || rect.height === 0) throw new VirtioGpuError('invalid-parameter', 'the scanout has no pixels');
}

const TRANSFER_TO_HOST_2D: Command = {
  size: virtio_gpu_transfer_to_host_2d.size,
  run(gpu, request) {
    const { resource_id, offset } = virtio_gpu_transfer_to_host_2d.field;
    const resource = gpu.resources.get(resource_id.get(request.view, 0));
    if (!resource.guest)
      throw new VirtioGpuError('invalid-resource', `resource ${resource.id} has no backing to transfer from`);
    // Drivers send transfers for blobs too, which need none.
    if (resource.layout) {
      const rect = readRect(gpu, request, virtio_gpu_transfer_to_host_2d.offset.r);
      checkInside(rect, resource.layout.width, resource.layout.height);
      if (rect.width > 0 && rect.height > 0)
        return transfer(gpu, resource, resource.layout.planes[0]!.stride, rect, offset.get(request.view, 0));
    }
    gpu.transfers++;
    return undefined;
  },
};

/** Takes what there is where the backing ends early, like QEMU. */
function transfer(gpu: GpuState, resource: Resource, stride: number, rect: Rect, from: number): Work | undefined {
  const { resources } = gpu;
  const { x, y, width, height } = rect;
  const rowBytes = width * BYTES_PER_PIXEL;
  const to = y * stride + x * BYTES_PER_PIXEL;
  const isMoved = from !== to && !(resource.pixels instanceof Store);
  if (isMoved || (resources.takes(resource) && resources.isLarge(rowBytes, height)))
    return transferInPieces(gpu, resource, { from, to, stride, rowBytes, rows: height }, { x, y, width, height });
  if (resources.takes(resource)) resources.take(resource, { from, to, stride, rowBytes, rows: height });
  transferred(gpu, resource, rect);
  return undefined;
}

function* transferInPieces(gpu: GpuState, resource: Resource, rows: Rows, rect: Rect): Work {
  const { resources } = gpu;
  // The backing may be a staging area, which does not hold the picture. Without a transfer so far there is none to keep.
  if (rows.from !== rows.to && !(resource.pixels instanceof Store))
    yield* resources.moveToStore(resource, resource.isWritten);
  yield* resources.takeInPieces(resource, rows);
  transferred(gpu, resource, rect);
}

function transferred(gpu: GpuState, resource: Resource, { x, y, width, height }: Rect): void {
  gpu.transfers++;
  resource.isWritten = true;
  gpu.scanouts.damage(resource, x, y, width, height);
}

const RESOURCE_FLUSH: Command = {
  size: virtio_gpu_resource_flush.size,
  run(gpu, request, _reply, answer) {
    const { resources, scanouts } = gpu;
    const resource = resources.get(virtio_gpu_resource_flush.field.resource_id.get(request.view, 0));
    const rect = readRect(gpu, request, virtio_gpu_resource_flush.offset.r);
    if (resource.layout) checkInside(rect, resource.layout.width, resource.layout.height);
    gpu.flushes++;
    scanouts.damage(resource, rect.x, rect.y, rect.width, rect.height);
    // The guest draws a blob in its own pages and transfers nothing.
    if (resource.isBlob && resources.takes(resource)) return flushInPieces(gpu, resource, answer);
    scanouts.flush(resource, answer);
    return undefined;
  },
};

function* flushInPieces({ resources, scanouts }: GpuState, resource: Resource, answer: Answer): Work {
  let rows = 0;
  for (let id = 0; id < scanouts.count; id++) {
    const { resource: shown, layout, pending } = scanouts.get(id);
    if (shown !== resource) continue;
    const { offset, stride } = layout.planes[0];
    for (let i = 0; i < pending.count; i++) {
      const at = offset + pending.y(i) * stride + pending.x(i) * BYTES_PER_PIXEL;
      const rowBytes = pending.width(i) * BYTES_PER_PIXEL;
      rows += pending.height(i);
      if (resources.isLarge(rowBytes, rows)) {
        rows = 0;
        yield;
      }
      yield* resources.takeInPieces(resource, { from: at, to: at, stride, rowBytes, rows: pending.height(i) });
    }
  }
  scanouts.flush(resource, answer);
}

/** The largest image, as of MAX_SIDE. */
const MAX_BLOB = 2 ** 30;

const RESOURCE_CREATE_BLOB: Command = {
  size: virtio_gpu_resource_create_blob.size,
  run({ resources }, request) {
    const { resource_id, blob_mem, nr_entries, size } = virtio_gpu_resource_create_blob.get(request.view, 0);
    resources.checkNew(resource_id);
    if (blob_mem !== VIRTIO_GPU_BLOB_MEM_GUEST)
      throw new VirtioGpuError('invalid-parameter', `blob memory ${blob_mem}; only guest memory is supported`);
    if (size === 0 || size > MAX_BLOB)
      throw new VirtioGpuError('invalid-parameter', `a blob of ${size} bytes; 1 to ${MAX_BLOB} are supported`);
    resources.add(
      new Resource(resource_id, size, null),
      request.backing(virtio_gpu_resource_create_blob.size, nr_entries),
    );
  },
};

const blobLayout = new LinearLayout();

const SET_SCANOUT_BLOB: Command = {
  size: virtio_gpu_set_scanout_blob.size,
  run(gpu, request) {
    const { view } = request;
    const { field, offset } = virtio_gpu_set_scanout_blob;
    const scanout = gpu.scanouts.get(field.scanout_id.get(view, 0));
    const id = field.resource_id.get(view, 0);
    if (id === 0) {
      gpu.scanouts.off(scanout);
      return;
    }
    const resource = gpu.resources.get(id);
    if (!resource.isBlob) throw new VirtioGpuError('invalid-resource', `resource ${id} is not a blob`);
    const width = field.width.get(view, 0);
    const height = field.height.get(view, 0);
    const format = field.format.get(view, 0);
    const fourcc = checkImage(width, height, format);
    // All formats have one plane, so only the first stride and offset count.
    const layout = blobLayout.set(
      width,
      height,
      fourcc,
      view.getUint32(offset.offsets, true),
      view.getUint32(offset.strides, true),
    );
    checkFits(layout, resource);
    const rect = readRect(gpu, request, offset.r);
    checkScanoutRect(rect, layout);
    gpu.scanouts.show(scanout, resource, layout, rect);
  },
};

function checkFits(layout: PixelLayout, { id, byteLength }: Resource): void {
  const { offset, stride } = layout.planes[0]!;
  const rowBytes = layout.width * BYTES_PER_PIXEL;
  // A sum above 2^53 is rounded, and far too large all the same.
  const end = offset + stride * (layout.height - 1) + rowBytes;
  if (stride < rowBytes || stride % BYTES_PER_PIXEL !== 0 || offset % BYTES_PER_PIXEL !== 0 || end > byteLength) {
    throw new VirtioGpuError(
      'invalid-parameter',
      `${layout.width}x${layout.height} with stride ${stride} at ${offset} does not fit blob ${id} of ${byteLength} bytes`,
    );
  }
}

/** The layout of a cursor in a blob, which comes without one: drivers mean 64x64 with alpha, and QEMU reads it so. */
const CURSOR_BLOB: PixelLayout = new LinearLayout().set(64, 64, DRM_FORMAT.ARGB8888, 0, 64 * BYTES_PER_PIXEL);
const CURSOR_BLOB_BYTES = 64 * 64 * BYTES_PER_PIXEL;
const CURSOR_ROWS: Rows = { from: 0, to: 0, stride: 64 * BYTES_PER_PIXEL, rowBytes: 64 * BYTES_PER_PIXEL, rows: 64 };

/** Drivers use 64; no display hardware has larger cursors. */
const MAX_CURSOR = 512;

/** Linux makes dumb buffers resources without alpha, even for cursors, which have alpha. QEMU reads alpha too. */
const WITH_ALPHA: ReadonlyMap<Fourcc, Fourcc> = new Map([
  [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888],
  [DRM_FORMAT.BGRX8888, DRM_FORMAT.BGRA8888],
  [DRM_FORMAT.XBGR8888, DRM_FORMAT.ABGR8888],
  [DRM_FORMAT.RGBX8888, DRM_FORMAT.RGBA8888],
]);

const cursorPlane = new LinearLayout();

const POS = virtio_gpu_update_cursor.offset.pos;
const { scanout_id: SCANOUT_ID } = virtio_gpu_cursor_pos.field;
const { x: CURSOR_X, y: CURSOR_Y } = virtio_gpu_cursor_pos.offset;
const { resource_id: RESOURCE_ID } = virtio_gpu_update_cursor.field;
const { hot_x: HOT_X, hot_y: HOT_Y } = virtio_gpu_update_cursor.offset;

/*
 * A cursor's position is that of its image's top left corner: Linux sends the position of its plane, Windows
 * that of the corner. It may be negative, in two's complement.
 */

const UPDATE_CURSOR: Command = {
  size: virtio_gpu_update_cursor.size,
  run(gpu, { view }) {
    const { scanouts, resources } = gpu;
    const scanout = scanouts.get(SCANOUT_ID.get(view, POS));
    const x = view.getInt32(POS + CURSOR_X, true);
    const y = view.getInt32(POS + CURSOR_Y, true);
    const id = RESOURCE_ID.get(view, 0);
    if (id === 0) {
      scanouts.moveCursor(scanout, false, x, y);
      return;
    }
    const resource = resources.get(id);
    const layout = cursorLayout(resource);
    const hotspotX = Math.min(Math.max(view.getInt32(HOT_X, true), 0), layout.width - 1);
    const hotspotY = Math.min(Math.max(view.getInt32(HOT_Y, true), 0), layout.height - 1);
    if (resource.isBlob && resources.takes(resource)) resources.take(resource, CURSOR_ROWS);
    scanouts.setCursor(scanout, resource, layout, hotspotX, hotspotY, x, y);
  },
};

function cursorLayout(resource: Resource): PixelLayout {
  if (!resource.layout) {
    if (resource.byteLength < CURSOR_BLOB_BYTES)
      throw new VirtioGpuError('invalid-parameter', `a cursor in a blob of ${resource.byteLength} bytes`);
    return CURSOR_BLOB;
  }
  const { width, height, format, planes } = resource.layout;
  if (width > MAX_CURSOR || height > MAX_CURSOR)
    throw new VirtioGpuError('invalid-parameter', `a cursor of ${width}x${height}`);
  return cursorPlane.set(width, height, WITH_ALPHA.get(format) ?? format, 0, planes[0]!.stride);
}

/** Hides the cursor if it names no resource, and shows it with the image it had if it names any, like QEMU. */
const MOVE_CURSOR: Command = {
  size: virtio_gpu_update_cursor.size,
  run({ scanouts }, { view }) {
    const scanout = scanouts.get(SCANOUT_ID.get(view, POS));
    const isVisible = RESOURCE_ID.get(view, 0) !== 0;
    scanouts.moveCursor(scanout, isVisible, view.getInt32(POS + CURSOR_X, true), view.getInt32(POS + CURSOR_Y, true));
  },
};

const GET_DISPLAY_INFO: Command = {
  size: virtio_gpu_ctrl_hdr.size,
  run({ scanouts }, _request, reply) {
    reply.ok(VIRTIO_GPU_RESP.OK_DISPLAY_INFO, virtio_gpu_resp_display_info.size);
    scanouts.writeDisplayInfo(reply.view);
  },
};

const GET_EDID: Command = {
  size: virtio_gpu_cmd_get_edid.size,
  run({ scanouts }, { view }, reply) {
    const edid = scanouts.edid(virtio_gpu_cmd_get_edid.field.scanout.get(view, 0));
    reply.ok(VIRTIO_GPU_RESP.OK_EDID, virtio_gpu_resp_edid.size);
    virtio_gpu_resp_edid.field.size.set(reply.view, 0, edid.length);
    reply.bytes.set(edid, virtio_gpu_resp_edid.offset.edid);
  },
};

/* There are no capability sets. A query for an unknown one is answered with zeros. */

const GET_CAPSET_INFO: Command = {
  size: virtio_gpu_get_capset_info.size,
  run(_gpu, _request, reply) {
    reply.ok(VIRTIO_GPU_RESP.OK_CAPSET_INFO, virtio_gpu_resp_capset_info.size);
  },
};

const GET_CAPSET: Command = {
  size: virtio_gpu_get_capset.size,
  run(_gpu, _request, reply) {
    reply.ok(VIRTIO_GPU_RESP.OK_CAPSET, virtio_gpu_resp_capset.size);
  },
};

const RESOURCE_ASSIGN_UUID: Command = {
  size: virtio_gpu_resource_assign_uuid.size,
  run({ resources, scanouts }, { view }, reply) {
    const resource = resources.get(virtio_gpu_resource_assign_uuid.field.resource_id.get(view, 0));
    reply.ok(VIRTIO_GPU_RESP.OK_RESOURCE_UUID, virtio_gpu_resp_resource_uuid.size);
    if (!resource.uuid) {
      resource.uuid = newBufferId();
      // What is shown has the id from now on.
      scanouts.moved(resource);
    }
    reply.bytes.set(resource.uuid, virtio_gpu_resp_resource_uuid.offset.uuid);
  },
};

/** What runs on the control queue, by VIRTIO_GPU_CMD_*. */
export const CONTROL_COMMANDS: ReadonlyMap<number, Command> = new Map([
  [VIRTIO_GPU_CMD.GET_DISPLAY_INFO, GET_DISPLAY_INFO],
  [VIRTIO_GPU_CMD.RESOURCE_CREATE_2D, RESOURCE_CREATE_2D],
  [VIRTIO_GPU_CMD.RESOURCE_UNREF, RESOURCE_UNREF],
  [VIRTIO_GPU_CMD.SET_SCANOUT, SET_SCANOUT],
  [VIRTIO_GPU_CMD.RESOURCE_FLUSH, RESOURCE_FLUSH],
  [VIRTIO_GPU_CMD.TRANSFER_TO_HOST_2D, TRANSFER_TO_HOST_2D],
  [VIRTIO_GPU_CMD.RESOURCE_ATTACH_BACKING, RESOURCE_ATTACH_BACKING],
  [VIRTIO_GPU_CMD.RESOURCE_DETACH_BACKING, RESOURCE_DETACH_BACKING],
  [VIRTIO_GPU_CMD.GET_CAPSET_INFO, GET_CAPSET_INFO],
  [VIRTIO_GPU_CMD.GET_CAPSET, GET_CAPSET],
  [VIRTIO_GPU_CMD.GET_EDID, GET_EDID],
  [VIRTIO_GPU_CMD.RESOURCE_ASSIGN_UUID, RESOURCE_ASSIGN_UUID],
]);

/** The same, only where VIRTIO_GPU_F_RESOURCE_BLOB is offered. */
export const BLOB_COMMANDS: ReadonlyMap<number, Command> = new Map([
  [VIRTIO_GPU_CMD.RESOURCE_CREATE_BLOB, RESOURCE_CREATE_BLOB],
  [VIRTIO_GPU_CMD.SET_SCANOUT_BLOB, SET_SCANOUT_BLOB],
]);

/** What runs on the cursor queue. */
export const CURSOR_COMMANDS: ReadonlyMap<number, Command> = new Map([
  [VIRTIO_GPU_CMD.UPDATE_CURSOR, UPDATE_CURSOR],
  [VIRTIO_GPU_CMD.MOVE_CURSOR, MOVE_CURSOR],
]);
