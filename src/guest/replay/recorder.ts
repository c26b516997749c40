import { VIRTIO_GPU_MAX_SCANOUTS } from '../../../protocols/virtio-gpu.ts';
import { UsageError } from '../../core/errors.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId } from '../../core/source.ts';
import type { Mapping } from '../../sys/mapping.ts';
import type { GuestMemory } from '../memory.ts';
import type { BackingEntry, GpuTap } from '../virtio-gpu/tap.ts';
import { MAX_COMMAND } from './format.ts';
import { PageMirror } from './page-mirror.ts';
import { RecordEncoder, RecordingWriter } from './recording-writer.ts';
import { DRIVER_ADDRESS } from './driver-memory.ts';

/** Raw bytes of a block. The larger, the more a picture can borrow from those before it. */
const BLOCK = 4 * 2 ** 20;

/** A block is written after this long, however small: what is not written is lost with the process. */
const BLOCK_MS = 10_000;

/** Twelve framebuffers of 4K. */
const MIRROR_LIMIT = 384 * 2 ** 20;

export interface RecorderOptions {
  /** Scanouts of the device, 1 to 16. */
  readonly scanouts: number;
  /** Told once if the file cannot be written any more; the recording ends there. */
  readonly onFailed?: (error: Error) => void;
  /** Milliseconds on any clock that only goes forward. */
  readonly now?: () => number;
}

/**
 * Writes a session of a virtio-gpu device to a file, in the format of format.ts. Of guest memory
 * it keeps what the device uses, where it changed since it was last used.
 *
 * Never throws into the device. Records collect in memory until there are 4 MiB of them or ten
 * seconds have passed; a process that is killed loses those. Dispose writes everything.
 */
export class Recorder implements GpuTap, Disposable {
  readonly #writer: RecordingWriter;
  readonly #encoder = new RecordEncoder(BLOCK);
  readonly #mirror = new PageMirror(MIRROR_LIMIT);
  readonly #now: () => number;
  readonly #startMs: number;
  /** A run as it was at one instant: the guest goes on drawing while we compare. */
  readonly #copy = Buffer.alloc(64 * 1024);
  /** The command that runs now: the pixels it uses come next, and belong before it. */
  readonly #held = new Uint8Array(MAX_COMMAND);
  #heldLength = -1;
  #heldQueue = 0;
  #heldSpace = 0;
  #heldUs = 0;
  /** When the last block was written. */
  #blockUs = 0;
  /** When the device was reset, if no command came since: a reset at the very end would only blank the picture. */
  #resetUs = -1;
  #disposed = false;

  private constructor(writer: RecordingWriter, now: () => number) {
    this.#writer = writer;
    this.#now = now;
    this.#startMs = now();
  }

  /**
   * Replaces `path`. Throws the file system's error if it cannot be created, UsageError for a number of
   * scanouts that no reader accepts; the file is untouched then.
   */
  static create(path: string, options: RecorderOptions): Recorder {
    const { scanouts } = options;
    if (!Number.isInteger(scanouts) || scanouts < 1 || scanouts > VIRTIO_GPU_MAX_SCANOUTS) {
      throw new UsageError(`cannot record ${scanouts} scanouts; a recording has 1 to ${VIRTIO_GPU_MAX_SCANOUTS}`);
    }
    const writer = RecordingWriter.create(path, scanouts, options.onFailed ?? (() => undefined));
    return new Recorder(writer, options.now ?? (() => performance.now()));
  }

  /** Commands so far. */
  get commands(): number {
    return this.#encoder.commands + (this.#heldLength < 0 ? 0 : 1);
  }

  /** Bytes in the file so far; records wait in memory until there is a block of them. */
  get fileBytes(): number {
    return this.#writer.written;
  }

  monitorChanged(scanout: ScanoutId, monitor: Monitor | null): void {
    if (this.#disposed) return;
    this.#endCommand();
    this.#encoder.monitor(this.#timeUs(), scanout, monitor);
  }

  memoryChanged(memory: GuestMemory): void {
    if (this.#disposed) return;
    this.#endCommand();
    // A replay has no use for the driver's own memory: it brings its own, at the same place.
    this.#encoder.memory(memory.regions.filter(({ guestAddress }) => guestAddress < DRIVER_ADDRESS));
  }

  negotiated(features: bigint): void {
    if (this.#disposed) return;
    this.#endCommand();
    this.#encoder.features(features);
  }

  command(queue: number, request: Uint8Array, length: number, responseSpace: number): void {
    if (this.#disposed) return;
    this.#endCommand();
    if (this.#resetUs >= 0) this.#encoder.reset(this.#resetUs);
    this.#resetUs = -1;
    this.#heldUs = this.#timeUs();
    this.#heldQueue = queue;
    this.#heldSpace = responseSpace;
    this.#heldLength = Math.min(length, MAX_COMMAND);
    this.#held.set(request.subarray(0, this.#heldLength));
  }

  pixels(entries: readonly BackingEntry[], pixels: Mapping, offset: number, stride: number, rowBytes: number, rows: number): void {
    if (this.#disposed || rows === 0) return;
    const whole = rowBytes === stride;
    const runs = whole ? 1 : rows;
    const length = whole ? rowBytes * rows : rowBytes;
    let entry = 0;
    let entryAt = 0;
    for (let run = 0; run < runs; run++) {
      const end = Math.min(offset + run * stride + length, pixels.length);
      for (let at = offset + run * stride; at < end; ) {
        while (entry < entries.length && at >= entryAt + entries[entry]!.length) entryAt += entries[entry++]!.length;
        const backing = entries[entry];
        if (backing === undefined) return;
        const count = Math.min(end - at, entryAt + backing.length - at, this.#copy.length);
        this.#copy.set(pixels.bytes.subarray(at, at + count));
        this.#mirror.update(backing.address + (at - entryAt), this.#copy, 0, count, this.#changed);
        at += count;
      }
    }
  }

  reset(): void {
    if (this.#disposed) return;
    this.#endCommand();
    this.#resetUs = this.#timeUs();
  }

  /** Ends the recording well and closes the file. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#endCommand();
    this.#encoder.end(this.#timeUs());
    this.#writer.write(this.#encoder.take());
    this.#writer[Symbol.dispose]();
  }

  #endCommand(): void {
    if (this.#heldLength < 0) return;
    this.#encoder.command(this.#heldUs, this.#heldQueue, this.#heldSpace, this.#held, this.#heldLength);
    this.#heldLength = -1;
    this.#flush();
  }

  #timeUs(): number {
    return (this.#now() - this.#startMs) * 1000;
  }

  #flush(): void {
    const isDue = this.#heldUs - this.#blockUs > BLOCK_MS * 1000;
    if (!isDue && !this.#encoder.full) return;
    this.#blockUs = this.#heldUs;
    this.#writer.write(this.#encoder.take());
  }

  readonly #changed = (guestAddress: number, bytes: Uint8Array, from: number, length: number): void => {
    this.#encoder.write(guestAddress, bytes, from, length);
    this.#flush();
  };
}
