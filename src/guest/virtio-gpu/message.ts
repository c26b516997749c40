import {
  VIRTIO_GPU_FLAG_FENCE,
  VIRTIO_GPU_FLAG_INFO_RING_IDX,
  VIRTIO_GPU_RESP,
  virtio_gpu_ctrl_hdr,
  virtio_gpu_mem_entry,
  virtio_gpu_resource_create_blob,
  virtio_gpu_resp_edid,
} from '../../../protocols/virtio-gpu.ts';
import type { Chain } from '../virtio/chain.ts';
import { VirtioGpuError } from './errors.ts';
import { GuestPages } from './resource.ts';

/** The same limit as QEMU's; enough for 64 MiB of scattered pages. */
const MAX_ENTRIES = 16384;
const MAX_REQUEST = virtio_gpu_resource_create_blob.size + MAX_ENTRIES * virtio_gpu_mem_entry.size;

const HEADER = virtio_gpu_ctrl_hdr.size;
const { fence_id: FENCE_ID } = virtio_gpu_ctrl_hdr.offset;
const { type: TYPE, flags: FLAGS, ctx_id: CTX_ID, ring_idx: RING_IDX } = virtio_gpu_ctrl_hdr.field;

/** The one copy of a request, which the guest can no longer change. */
export class Request {
  readonly bytes = new Uint8Array(MAX_REQUEST);
  readonly view = new DataView(this.bytes.buffer);
  /** Bytes the guest sent, or as many of them as any command can use. */
  length = 0;

  copyFrom(chain: Chain): void {
    this.length = chain.read(0, this.bytes, 0, MAX_REQUEST);
  }

  get hasHeader(): boolean {
    return this.length >= HEADER;
  }

  /** VIRTIO_GPU_CMD_*; 0, which is no command, for a request too short for a header. */
  get type(): number {
    return this.hasHeader ? TYPE.get(this.view, 0) : 0;
  }

  get isFenced(): boolean {
    return this.hasHeader && (FLAGS.get(this.view, 0) & VIRTIO_GPU_FLAG_FENCE) !== 0;
  }

  /** VirtioGpuError if the request is shorter than its struct. What follows the struct is ignored. */
  needs(size: number): void {
    if (this.length < size)
      throw new VirtioGpuError('invalid-parameter', `a request of ${this.length} bytes, where ${size} are needed`);
  }

  /** The backing of `count` virtio_gpu_mem_entry from byte `at` on. VirtioGpuError if it is empty, cut off or too long, or has an empty entry. */
  backing(at: number, count: number): GuestPages {
    if (count === 0 || count > MAX_ENTRIES)
      throw new VirtioGpuError('invalid-parameter', `a backing of ${count} entries; 1 to ${MAX_ENTRIES} are supported`);
    this.needs(at + count * virtio_gpu_mem_entry.size);
    const { addr, length } = virtio_gpu_mem_entry.field;
    const addresses = new Float64Array(count);
    const ends = new Float64Array(count);
    let end = 0;
    for (let i = 0; i < count; i++) {
      const entry = at + i * virtio_gpu_mem_entry.size;
      const bytes = length.get(this.view, entry);
      if (bytes === 0) throw new VirtioGpuError('invalid-parameter', `entry ${i} of the backing is empty`);
      addresses[i] = addr.get(this.view, entry);
      ends[i] = end += bytes;
    }
    return new GuestPages(addresses, ends);
  }
}

/** The response to the request that is being handled; zero wherever nothing was written. */
export class Reply {
  readonly bytes = new Uint8Array(virtio_gpu_resp_edid.size);
  readonly view = new DataView(this.bytes.buffer);
  #length = HEADER;

  /** Starts over with OK_NODATA and the request's fence. */
  start(request: Request): void {
    this.bytes.fill(0, 0, this.#length);
    this.#length = HEADER;
    TYPE.set(this.view, 0, VIRTIO_GPU_RESP.OK_NODATA);
    if (!request.isFenced) return;
    FLAGS.set(this.view, 0, FLAGS.get(request.view, 0) & (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX));
    for (let i = 0; i < 8; i++) this.bytes[FENCE_ID + i] = request.bytes[FENCE_ID + i]!;
    CTX_ID.set(this.view, 0, CTX_ID.get(request.view, 0));
    RING_IDX.set(this.view, 0, RING_IDX.get(request.view, 0));
  }

  get type(): number {
    return TYPE.get(this.view, 0);
  }

  get length(): number {
    return this.#length;
  }

  /** Makes it a response of `size` bytes, header included. The caller writes the body into `view`. */
  ok(type: number, size: number): void {
    TYPE.set(this.view, 0, type);
    this.#length = size;
  }

  /** Makes it an error, which has no body. */
  fail(type: number): void {
    this.bytes.fill(0, HEADER, this.#length);
    TYPE.set(this.view, 0, type);
    this.#length = HEADER;
  }

  /**
   * Writes the response and returns how many bytes it took. A chain with no room for the body gets an error; one
   * with no room for a header gets nothing.
   */
  writeTo(chain: Chain): number {
    if (chain.writable < HEADER) return 0;
    if (chain.writable < this.#length) this.fail(VIRTIO_GPU_RESP.ERR_INVALID_PARAMETER);
    return chain.write(0, this.bytes, 0, this.#length);
  }
}
