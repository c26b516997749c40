import { VHOST_USER_GPU, VHOST_USER_GPU_MSG_FLAG_REPLY, VhostUserGpuHeader, VhostUserGpuU64 } from '../../protocols/vhost-user-gpu.ts';
import { virtio_gpu_resp_display_info, virtio_gpu_resp_edid } from '../../protocols/virtio-gpu.ts';
import { VmmDisplayError } from './errors.ts';

/** Payload bytes of every reply there is. */
const REPLY_SIZE: ReadonlyMap<number, number> = new Map([
  [VHOST_USER_GPU.GET_PROTOCOL_FEATURES, VhostUserGpuU64.size],
  [VHOST_USER_GPU.GET_DISPLAY_INFO, virtio_gpu_resp_display_info.size],
  [VHOST_USER_GPU.GET_EDID, virtio_gpu_resp_edid.size],
  [VHOST_USER_GPU.DMABUF_UPDATE, 0],
]);

const HEADER_SIZE = VhostUserGpuHeader.size;
const MAX_SIZE = HEADER_SIZE + Math.max(...REPLY_SIZE.values());

/** Cuts a byte stream into replies, wherever the stream is cut into chunks. Memory is fixed. */
export class ReplyReader {
  readonly #bytes = new Uint8Array(MAX_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  #length = 0;
  /** Of the message being read; the header's size until the header is there. */
  #wanted = HEADER_SIZE;

  /**
   * Calls `onReply` for each reply that ends in `chunk`; `payload` is valid during the call.
   * VmmDisplayError `protocol` for what is no reply; the stream is of no use after that.
   */
  push(chunk: Uint8Array, onReply: (request: number, payload: Uint8Array) => void): void {
    for (let at = 0; at < chunk.length; ) {
      const count = Math.min(this.#wanted - this.#length, chunk.length - at);
      this.#bytes.set(chunk.subarray(at, at + count), this.#length);
      this.#length += count;
      at += count;
      if (this.#length === HEADER_SIZE && this.#wanted === HEADER_SIZE) this.#wanted += this.#payloadSize();
      if (this.#length < this.#wanted) continue;
      const payload = this.#bytes.subarray(HEADER_SIZE, this.#wanted);
      this.#length = 0;
      this.#wanted = HEADER_SIZE;
      onReply(VhostUserGpuHeader.field.request.get(this.#view, 0), payload);
    }
  }

  #payloadSize(): number {
    const { request, flags, size } = VhostUserGpuHeader.get(this.#view, 0);
    const expected = REPLY_SIZE.get(request);
    if (expected === undefined || (flags & VHOST_USER_GPU_MSG_FLAG_REPLY) === 0) {
      throw new VmmDisplayError('protocol', `message ${request} with flags 0x${flags.toString(16)} is no vhost-user-gpu reply`);
    }
    if (size !== expected) throw new VmmDisplayError('protocol', `vhost-user-gpu reply ${request} has ${size} bytes instead of ${expected}`);
    return size;
  }
}
