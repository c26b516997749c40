import { VIRTIO_GPU_MAX_SCANOUTS } from '../../../protocols/virtio-gpu.ts';
import type { Monitor } from '../../core/monitor.ts';
import { KIND, MAX_COMMAND, MAX_EDID, MAX_NAME, MAX_QUEUES, MAX_REGIONS, MAX_RESPONSE, MAX_WRITE, type RecordingEvent, RecordingError } from './format.ts';
import { MAX_COLOURS, packedLength, unpack } from './palette.ts';
import { DRIVER_ADDRESS, type MemoryRegion } from './sparse-memory.ts';

/** Records out of blocks, checked: what comes out is safe to act on. Errors are RecordingError `malformed`. */
export class RecordDecoder {
  #bytes: Uint8Array = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  #timeUs = 0;
  #writeEnd = 0;
  #commands = 0;
  #writes = 0;
  #ended = false;
  /** What a packed write unpacks to. */
  readonly #pixels = new Uint32Array(MAX_WRITE / 4);

  /** The END record was read. */
  get ended(): boolean {
    return this.#ended;
  }

  /** True when the block is used up. */
  get empty(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** The next block, borrowed until it is used up. */
  feed(block: Uint8Array): void {
    this.#bytes = block;
    this.#view = new DataView(block.buffer, block.byteOffset, block.length);
    this.#at = 0;
    if (this.#ended && block.length > 0) throw malformed('records after the end');
  }

  /** The next record of the block, which must not be `empty`. */
  next(): RecordingEvent {
    const kind = this.#byte();
    switch (kind) {
      case KIND.END:
        return this.#end();
      case KIND.MEMORY:
        return { kind: 'memory', regions: this.#regions() };
      case KIND.FEATURES:
        this.#need(8);
        this.#at += 8;
        return { kind: 'features', features: this.#view.getBigUint64(this.#at - 8, true) };
      case KIND.MONITOR:
        return { kind: 'monitor', timeUs: this.#time(), scanout: this.#below(this.#byte(), VIRTIO_GPU_MAX_SCANOUTS, 'scanout'), monitor: this.#monitor() };
      case KIND.WRITE:
        return this.#write(this.#varint(), this.#run(MAX_WRITE));
      case KIND.PALETTE:
        return this.#write(this.#varint(), this.#unpacked());
      case KIND.COMMAND: {
        this.#commands++;
        const timeUs = this.#time();
        const queue = this.#below(this.#byte(), MAX_QUEUES, 'queue');
        const responseSpace = this.#below(this.#varint(), MAX_RESPONSE + 1, 'response space');
        const bytes = this.#run(MAX_COMMAND);
        if (bytes.length + responseSpace === 0) throw malformed('a command of no bytes');
        return { kind: 'command', timeUs, queue, responseSpace, bytes };
      }
      case KIND.RESET:
        return { kind: 'reset', timeUs: this.#time() };
      default:
        throw malformed(`record of kind ${kind}`);
    }
  }

  #end(): RecordingEvent {
    const timeUs = this.#time();
    const commands = this.#varint();
    const writes = this.#varint();
    if (commands !== this.#commands || writes !== this.#writes) {
      throw malformed(`${this.#commands} commands and ${this.#writes} writes, but the end counts ${commands} and ${writes}`);
    }
    if (!this.empty) throw malformed('records after the end');
    this.#ended = true;
    return { kind: 'end', timeUs, commands, writes };
  }

  #regions(): readonly MemoryRegion[] {
    const count = this.#below(this.#varint(), MAX_REGIONS + 1, 'number of memory regions');
    const regions: MemoryRegion[] = [];
    for (let i = 0; i < count; i++) {
      const guestAddress = this.#varint();
      const size = this.#varint();
      if (size === 0 || guestAddress + size > DRIVER_ADDRESS) throw malformed(`memory region of ${size} bytes at 0x${guestAddress.toString(16)}`);
      regions.push({ guestAddress, size });
    }
    const sorted = regions.toSorted((a, b) => a.guestAddress - b.guestAddress);
    if (sorted.some((region, i) => i > 0 && sorted[i - 1]!.guestAddress + sorted[i - 1]!.size > region.guestAddress)) throw malformed('memory regions overlap');
    return regions;
  }

  #monitor(): Monitor | null {
    if (this.#byte() === 0) return null;
    const [width, height, refreshMhz, widthMm, heightMm] = Array.from({ length: 5 }, () => this.#below(this.#varint(), 2 ** 31, 'size')) as [number, number, number, number, number];
    const name = new TextDecoder().decode(this.#run(MAX_NAME));
    const edid = this.#run(MAX_EDID).slice();
    const monitor = { width, height, refreshMhz, widthMm, heightMm, name };
    return edid.length === 0 ? monitor : { ...monitor, edid };
  }

  #write(zigzag: number, bytes: Uint8Array): RecordingEvent {
    this.#writes++;
    const guestAddress = this.#writeEnd + (zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2);
    if (guestAddress < 0 || guestAddress + bytes.length > DRIVER_ADDRESS) throw malformed(`write at ${guestAddress}`);
    this.#writeEnd = guestAddress + bytes.length;
    return { kind: 'write', guestAddress, bytes };
  }

  #unpacked(): Uint8Array {
    const pixels = this.#below(this.#varint(), MAX_WRITE / 4 + 1, 'number of pixels');
    const count = this.#byte();
    if (pixels === 0 || count === 0 || count > MAX_COLOURS) throw malformed(`${pixels} pixels of ${count} colours`);
    this.#need(count * 4);
    const colours = Array.from({ length: count }, (_, i) => this.#view.getUint32(this.#at + i * 4, true));
    this.#at += count * 4;
    const packed = packedLength(pixels, count);
    this.#need(packed);
    if (!unpack(this.#bytes.subarray(this.#at, this.#at + packed), colours, this.#pixels, pixels)) throw malformed('a pixel without a colour');
    this.#at += packed;
    return new Uint8Array(this.#pixels.buffer, 0, pixels * 4);
  }

  #time(): number {
    this.#timeUs += this.#varint();
    if (!Number.isSafeInteger(this.#timeUs)) throw malformed('time beyond 2^53 microseconds');
    return this.#timeUs;
  }

  #run(limit: number): Uint8Array {
    const length = this.#varint();
    if (length > limit) throw malformed(`${length} bytes where at most ${limit} may be`);
    this.#need(length);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #below(value: number, limit: number, what: string): number {
    if (value >= limit) throw malformed(`${what} ${value}`);
    return value;
  }

  #byte(): number {
    this.#need(1);
    return this.#bytes[this.#at++]!;
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 56; scale *= 0x80) {
      const byte = this.#byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) break;
        return value;
      }
    }
    throw malformed('a number beyond 2^53');
  }

  #need(length: number): void {
    if (this.#at + length > this.#bytes.length) throw malformed('a record reaches past its block');
  }
}

function malformed(what: string): RecordingError {
  return new RecordingError('malformed', `not a recording of ours: ${what}`);
}
