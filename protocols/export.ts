/**
 * Buffers for other processes, by a 128-bit id: the messages between `--output export` and its consumers, and between
 * a guest's program and the bridge. docs/export.md describes them. All numbers are little-endian; structs have C's
 * alignment, so a C program may declare them as they are.
 */
import { addr64, array, bytes, i32, struct, u32, u64 } from './layout.ts';

/** Of the messages to and from consumers, in `export_hello.version`. */
export const EXPORT_VERSION = 1;

/** The type of each message to a consumer. One that it does not know it skips. */
export const EXPORT_EVENT = {
  HELLO: 1,
  FRAME: 2,
  EXPORTED: 3,
  GONE: 4,
  REVOKED: 5,
  IMPORTED: 6,
  ERROR: 7,
} as const;

/** The type of each message from a consumer. */
export const EXPORT_REQUEST = { IMPORT: 0x101, RELEASE: 0x102 } as const;

/** `export_error.code` */
export const EXPORT_ERROR = {
  /** The request is no message of this protocol. The connection ends. */
  MALFORMED: 1,
  /** There is no request of this type. */
  UNKNOWN_REQUEST: 2,
  /** No buffer has the id: it was never exported, or is gone. */
  NO_SUCH_BUFFER: 3,
  /** The consumer does not hold a frame of this serial. */
  NO_SUCH_FRAME: 4,
  /** The buffer cannot be handed over now: descriptors or memory are short, or the guest's limit is reached. */
  NO_RESOURCES: 5,
  /** There are as many consumers as can be. The connection ends. */
  TOO_MANY_CONSUMERS: 6,
  /** The consumer's user may not connect. The connection ends. */
  FORBIDDEN: 7,
} as const;

/** `export_imported.kind` */
export const EXPORT_KIND = {
  /** A dma-buf: the guest's own pages, or the source's buffer. */
  DMABUF: 1,
  /** A sealed memfd that can be mapped for reading only: a copy of the guest's pages. */
  MEMFD: 2,
} as const;

/** Bit of `export_frame.flags`: the message carries a sync_file. No pixel may be read before it signals. */
export const EXPORT_FRAME_ACQUIRE = 0x1;
/** Bit of `export_frame.flags`: the cursor's image changed, even if its buffer is the same one. */
export const EXPORT_FRAME_NEW_CURSOR = 0x2;
/** Bit of `export_release.flags`: the message carries a sync_file. The frame is released when it signals. */
export const EXPORT_RELEASE_FENCE = 0x1;

/** `export_frame.scanout` of a buffer that a guest's program announced. */
export const EXPORT_NO_SCANOUT = 0xffff_ffff;

export const EXPORT_MAX_DAMAGE = 16;

export const EXPORT_ID_SIZE = 16;

/** In front of every message. `size` counts the header too. */
export const export_header = struct('export_header', { size: u32, type: u32 });

const header = export_header;
const id = bytes(EXPORT_ID_SIZE);

export const export_rect = struct('export_rect', { x: i32, y: i32, width: u32, height: u32 });

/** One layer of a frame; without a picture its id is zero. `src` is in the buffer's pixels, `dst` in the frame's. */
export const export_layer = struct('export_layer', {
  id,
  modifier: u64,
  width: u32,
  height: u32,
  fourcc: u32,
  /** How many of `offsets` and `strides` count, 1 to 4. */
  planes: u32,
  offsets: array(u32, 4),
  strides: array(u32, 4),
  src: export_rect,
  dst: export_rect,
});

/** The first event. `source` is how the ids of this bridge begin. */
export const export_hello = struct('export_hello', { header, version: u32, scanouts: u32, source: bytes(8) });

/** A new picture. Every one is to be released. `damage` is in the primary buffer's pixels. */
export const export_frame = struct('export_frame', {
  header,
  scanout: u32,
  flags: u32,
  serial: addr64,
  width: u32,
  height: u32,
  primary: export_layer,
  cursor: export_layer,
  hotspot_x: u32,
  hotspot_y: u32,
  damage_count: u32,
  padding: u32,
  damage: array(export_rect, EXPORT_MAX_DAMAGE),
});

/** The guest gave a buffer of `length` bytes an id of its own. Scanouts need not show it. */
export const export_exported = struct('export_exported', { header, id, length: addr64 });

/** The buffer cannot be imported any longer. What was imported of it holds memory until it is closed. */
export const export_gone = struct('export_gone', { header, id });

/** The frame was not released in time: the guest may draw into its buffers now. It is still to be released. */
export const export_revoked = struct('export_revoked', { header, serial: addr64 });

/** The answer to `export_import`, with the buffer's descriptor. `length` is in bytes. */
export const export_imported = struct('export_imported', { header, id, length: addr64, kind: u32, padding: u32 });

/** The answer to a request that failed, whose type, id and serial it repeats. */
export const export_error = struct('export_error', { header, code: u32, request: u32, id, serial: addr64 });

export const export_import = struct('export_import', { header, id });

/** `id` is that of the frame's primary layer. */
export const export_release = struct('export_release', { header, id, serial: addr64, flags: u32, padding: u32 });

/* Between a guest's program and the bridge, over a virtio-serial port. */

/** From the guest. */
export const PRODUCER_READY = 0x201;
/** From the bridge: the answer to each PRODUCER_READY. */
export const PRODUCER_RELEASED = 0x202;

/** `producer_released.result` */
export const PRODUCER_RESULT = {
  /** Every consumer has released the picture. */
  RELEASED: 0,
  /** A consumer has not released it in time. */
  REVOKED: 1,
  /** Nothing was shown: the guest has exported no such resource. */
  NO_SUCH_RESOURCE: 2,
  /** Nothing was shown: the layout is not one of the resource. */
  BAD_LAYOUT: 3,
  /** Nothing was shown: the last picture in the resource is not released, or too many are not. */
  BUSY: 4,
} as const;

/** The resource holds a picture. `resource` is the res_handle of DRM_IOCTL_VIRTGPU_RESOURCE_INFO. */
export const producer_ready = struct('producer_ready', {
  header,
  resource: u32,
  fourcc: u32,
  width: u32,
  height: u32,
  offset: u32,
  stride: u32,
  /** Any number; the answer repeats it. */
  serial: u64,
});

/** The guest may draw into the resource again. */
export const producer_released = struct('producer_released', { header, resource: u32, result: u32, serial: u64 });
