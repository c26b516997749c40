import {
  VIRTIO_GPU_CMD,
  VIRTIO_GPU_FLAG_FENCE,
  VIRTIO_GPU_FORMAT,
  virtio_gpu_cmd_get_edid,
  virtio_gpu_ctrl_hdr,
  virtio_gpu_mem_entry,
  virtio_gpu_resource_attach_backing,
  virtio_gpu_resource_create_2d,
  virtio_gpu_resource_create_blob,
  virtio_gpu_resource_detach_backing,
  virtio_gpu_resource_flush,
  virtio_gpu_resource_unref,
  virtio_gpu_resp_display_info,
  virtio_gpu_resp_edid,
  virtio_gpu_set_scanout,
  virtio_gpu_set_scanout_blob,
  virtio_gpu_transfer_to_host_2d,
  virtio_gpu_update_cursor,
} from '../../../../protocols/virtio-gpu.ts';
import type { Rect } from '../../../../src/core/geometry.ts';

export const WIDTH = 64;
export const HEIGHT = 48;
export const STRIDE = WIDTH * 4;

/** What a synthetic guest does, in order: writes to memory and commands. */
export type Step =
  | { readonly kind: 'write'; readonly address: number; readonly bytes: Uint8Array }
  | { readonly kind: 'command'; readonly queue: number; readonly bytes: Uint8Array; readonly responseSpace: number };

const REPLY = virtio_gpu_ctrl_hdr.size;
const FORMAT = VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM;

let fence = 0n;

function hdr(
  type: number,
  fenced = false,
): { type: number; flags: number; fence_id: bigint; ctx_id: number; ring_idx: number; padding: Uint8Array } {
  return {
    type,
    flags: fenced ? VIRTIO_GPU_FLAG_FENCE : 0,
    fence_id: fenced ? ++fence : 0n,
    ctx_id: 0,
    ring_idx: 0,
    padding: new Uint8Array(3),
  };
}

export function command(bytes: Uint8Array, responseSpace = REPLY, queue = 0): Step {
  return { kind: 'command', queue, bytes, responseSpace };
}

function withEntries(head: Uint8Array, pages: readonly number[]): Uint8Array {
  return Buffer.concat([head, ...pages.map((addr) => virtio_gpu_mem_entry.encode({ addr, length: 4096 }))]);
}

const full: Rect = { x: 0, y: 0, width: WIDTH, height: HEIGHT };

/** A picture of noise that is cheap to make and does not compress away. */
export function picture(seed: number): Uint8Array {
  const bytes = new Uint8Array(STRIDE * HEIGHT);
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** The writes for a run of pixels in scattered pages. */
export function scatter(pages: readonly number[], at: number, bytes: Uint8Array): Step[] {
  const steps: Step[] = [];
  for (let done = 0; done < bytes.length;) {
    const position = at + done;
    const count = Math.min(4096 - (position % 4096), bytes.length - done);
    steps.push({
      kind: 'write',
      address: pages[Math.floor(position / 4096)]! + (position % 4096),
      bytes: bytes.slice(done, done + count),
    });
    done += count;
  }
  return steps;
}

/** `count` pages, by turns in low and high memory, none beside another. */
export function scatteredPages(low: number, high: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (i % 2 === 0 ? low : high) + i * 8192);
}

const transfer = (id: number, r: Rect): Step =>
  command(
    virtio_gpu_transfer_to_host_2d.encode({
      hdr: hdr(VIRTIO_GPU_CMD.TRANSFER_TO_HOST_2D),
      r,
      offset: r.y * STRIDE + r.x * 4,
      resource_id: id,
    }),
  );

const flush = (id: number, r: Rect, fenced: boolean): Step =>
  command(virtio_gpu_resource_flush.encode({ hdr: hdr(VIRTIO_GPU_CMD.RESOURCE_FLUSH, fenced), r, resource_id: id }));

/** A driver that starts, draws with two framebuffers and a cursor, and ends with a command that is refused. */
export function syntheticSession(low: number, high: number, frames: number): Step[] {
  const pagesEach = (STRIDE * HEIGHT) / 4096;
  const buffers = [1, 2].map((id) => ({
    id,
    pages: scatteredPages(low + id * 0x40000, high + id * 0x40000, pagesEach),
  }));
  const cursorPages = scatteredPages(low + 0xc0000, high + 0xc0000, 4);
  const steps: Step[] = [
    command(virtio_gpu_ctrl_hdr.encode(hdr(VIRTIO_GPU_CMD.GET_DISPLAY_INFO)), virtio_gpu_resp_display_info.size),
    command(
      virtio_gpu_cmd_get_edid.encode({ hdr: hdr(VIRTIO_GPU_CMD.GET_EDID), scanout: 0 }),
      virtio_gpu_resp_edid.size,
    ),
  ];
  const create = (id: number, width: number, height: number, format: number, pages: readonly number[]): void => {
    steps.push(
      command(
        virtio_gpu_resource_create_2d.encode({
          hdr: hdr(VIRTIO_GPU_CMD.RESOURCE_CREATE_2D),
          resource_id: id,
          format,
          width,
          height,
        }),
      ),
      command(
        withEntries(
          virtio_gpu_resource_attach_backing.encode({
            hdr: hdr(VIRTIO_GPU_CMD.RESOURCE_ATTACH_BACKING),
            resource_id: id,
            nr_entries: pages.length,
          }),
          pages,
        ),
      ),
    );
  };
  for (const { id, pages } of buffers) create(id, WIDTH, HEIGHT, FORMAT, pages);
  create(3, 64, 64, VIRTIO_GPU_FORMAT.B8G8R8A8_UNORM, cursorPages);
  for (let frame = 0; frame < frames; frame++) {
    const { id, pages } = buffers[frame % 2]!;
    // The whole picture for the first frame of each buffer, then a band that moves down.
    const y = frame < 2 ? 0 : frame % HEIGHT;
    const r = frame < 2 ? full : { x: 8, y, width: WIDTH - 16, height: Math.min(4, HEIGHT - y) };
    const pixels = picture(frame);
    for (let row = r.y; row < r.y + r.height; row++)
      steps.push(
        ...scatter(
          pages,
          row * STRIDE + r.x * 4,
          pixels.subarray(row * STRIDE + r.x * 4, row * STRIDE + (r.x + r.width) * 4),
        ),
      );
    steps.push(transfer(id, r));
    if (frame < 2 || frame % 3 === 0)
      steps.push(
        command(
          virtio_gpu_set_scanout.encode({
            hdr: hdr(VIRTIO_GPU_CMD.SET_SCANOUT),
            r: full,
            scanout_id: 0,
            resource_id: id,
          }),
        ),
      );
    steps.push(flush(id, r, frame % 2 === 0));
    if (frame % 10 === 5) {
      steps.push(
        ...scatter(cursorPages, 0, new Uint8Array(64 * 64 * 4).fill(frame)),
        transfer(3, { x: 0, y: 0, width: 64, height: 64 }),
      );
      const pos = { scanout_id: 0, x: frame, y: frame, padding: 0 };
      steps.push(
        command(
          virtio_gpu_update_cursor.encode({
            hdr: hdr(VIRTIO_GPU_CMD.UPDATE_CURSOR),
            pos,
            resource_id: 3,
            hot_x: 1,
            hot_y: 1,
          }),
          0,
          1,
        ),
      );
    } else {
      const pos = { scanout_id: 0, x: frame * 2, y: frame, padding: 0 };
      steps.push(
        command(virtio_gpu_update_cursor.encode({ hdr: hdr(VIRTIO_GPU_CMD.MOVE_CURSOR), pos, resource_id: 3 }), 0, 1),
      );
    }
  }
  // One command the device has to refuse.
  steps.push(unref(99));
  return steps;
}

/** Bytes of a blob with a picture. */
export const BLOB_SIZE = STRIDE * HEIGHT;

export function createBlob(id: number, pages: readonly number[]): Step {
  return command(
    withEntries(
      virtio_gpu_resource_create_blob.encode({
        hdr: hdr(VIRTIO_GPU_CMD.RESOURCE_CREATE_BLOB),
        resource_id: id,
        blob_mem: 1,
        blob_flags: 1,
        nr_entries: pages.length,
        size: BLOB_SIZE,
      }),
      pages,
    ),
  );
}

/** Shows a blob. The last command is answered when the picture is on screen. */
export function showBlob(id: number): Step[] {
  const layout = { width: WIDTH, height: HEIGHT, format: FORMAT, strides: [STRIDE, 0, 0, 0], offsets: [0, 0, 0, 0] };
  return [
    command(
      virtio_gpu_set_scanout_blob.encode({
        hdr: hdr(VIRTIO_GPU_CMD.SET_SCANOUT_BLOB),
        r: full,
        scanout_id: 0,
        resource_id: id,
        ...layout,
      }),
    ),
    flush(id, full, true),
  ];
}

export function unref(id: number): Step {
  return command(virtio_gpu_resource_unref.encode({ hdr: hdr(VIRTIO_GPU_CMD.RESOURCE_UNREF), resource_id: id }));
}

/** The same with a guest blob: created, shown, drawn into, detached. */
export function blobSession(low: number, high: number): Step[] {
  const pages = scatteredPages(low, high, BLOB_SIZE / 4096);
  return [
    createBlob(7, pages),
    ...scatter(pages, 0, picture(70)),
    ...showBlob(7),
    ...scatter(pages, 5 * STRIDE, picture(71).subarray(0, 3 * STRIDE)),
    flush(7, { x: 0, y: 5, width: WIDTH, height: 3 }, true),
    command(
      virtio_gpu_resource_detach_backing.encode({ hdr: hdr(VIRTIO_GPU_CMD.RESOURCE_DETACH_BACKING), resource_id: 7 }),
    ),
    unref(7),
  ];
}
