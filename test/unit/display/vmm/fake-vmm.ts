import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { Poll } from '../../../../src/sys/poll.ts';
import { UnixConnection } from '../../../../src/sys/socket.ts';

const CHUNK = 65536;

/** Little-endian words, as on the wire. */
export function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => bytes.writeUInt32LE(value >>> 0, i * 4));
  return bytes;
}

export interface Mode {
  readonly width: number;
  readonly height: number;
}

/** docs/interop/vhost-user-gpu.rst, "GET_PROTOCOL_FEATURES": a reply of one 64-bit word. */
export const featuresReply = (features: number): Buffer => words(1, 4, 8, features, 0);

/** The reply to GET_DISPLAY_INFO: struct virtio_gpu_resp_display_info, a header of 24 bytes and 16 modes of 24. */
export function displayInfoReply(modes: readonly (Mode | null)[]): Buffer {
  const rows = Array.from({ length: 16 }, (_, i) => modes[i]).flatMap((mode) =>
    mode ? [0, 0, mode.width, mode.height, 1, 0] : [0, 0, 0, 0, 0, 0],
  );
  return Buffer.concat([words(3, 4, 408), words(0x1101, 0, 0, 0, 0, 0), words(...rows)]);
}

/** The reply to GET_EDID: struct virtio_gpu_resp_edid with 1024 bytes, as QEMU always sends. */
export function edidReply(edid: Uint8Array): Buffer {
  const blob = Buffer.alloc(1024);
  blob.set(edid);
  return Buffer.concat([words(11, 4, 1056), words(0x1104, 0, 0, 0, 0, 0), words(1024, 0), blob]);
}

/** The other end of the socket: reads and replies when a test says so. */
export class FakeVmm implements Disposable {
  readonly connection: UnixConnection;
  readonly #chunk = new Uint8Array(CHUNK);
  #pending = Buffer.alloc(0);

  constructor(fd: OwnedFd) {
    this.connection = UnixConnection.adopt(fd);
  }

  reply(...bytes: Uint8Array[]): void {
    this.connection.send(Buffer.concat(bytes));
  }

  /** The next `length` bytes, read as they arrive; fewer if the stream ends first. */
  async take(length: number): Promise<Buffer> {
    if (this.#pending.length < length) await this.#readUntil(length);
    const taken = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return taken;
  }

  /** Everything that has arrived. */
  takeNow(): Buffer {
    const parts = [this.#pending];
    this.#drain(parts);
    this.#pending = Buffer.alloc(0);
    return Buffer.concat(parts);
  }

  takeFd(): OwnedFd | undefined {
    return this.connection.fds.shift();
  }

  [Symbol.dispose](): void {
    this.connection[Symbol.dispose]();
  }

  #drain(parts: Buffer[]): boolean {
    for (;;) {
      const count = this.connection.recv(this.#chunk, 0, CHUNK);
      if (count <= 0) return count === 0;
      parts.push(Buffer.from(this.#chunk.subarray(0, count)));
    }
  }

  #readUntil(length: number): Promise<void> {
    const parts = [this.#pending];
    let total = this.#pending.length;
    return new Promise((resolve) => {
      const poll = Poll.readable(this.connection, () => {
        const before = parts.length;
        const isEnd = this.#drain(parts);
        for (const part of parts.slice(before)) total += part.length;
        if (total < length && !isEnd) return;
        poll[Symbol.dispose]();
        this.#pending = Buffer.concat(parts);
        resolve();
      });
    });
  }
}
