import { VIRTIO_GPU_MAX_SCANOUTS } from '../../../protocols/virtio-gpu.ts';
import { UsageError } from '../../core/errors.ts';
import type { GpuTap } from '../virtio-gpu/tap.ts';
import { DRIVER_ADDRESS } from './driver-memory.ts';
import { MAX_COMMAND } from './format.ts';
import { PageMirror } from './page-mirror.ts';
import { RecordEncoder, RecordingWriter } from './recording-writer.ts';

/** Bytes of a block before compression. A larger block lets a picture refer back to more of the earlier ones. */
const BLOCK = 4 * 2 ** 20;

/** A block is written after this time however small it is: what was not written is lost if the process is killed. */
const BLOCK_MS = 10_000;

/** Twelve framebuffers of 4K. */
const MIRROR_LIMIT = 384 * 2 ** 20;

export interface RecorderOptions {
  /** The path to write to; an existing file is replaced. */
  readonly file: string;
  /** How many scanouts the device has, 1 to 16. */
  readonly scanouts: number;
  /** Called once if the file can no longer be written. The recording ends there. */
  readonly onFailed?: (error: Error) => void;
  /** A clock in milliseconds that never goes back; default `performance.now`. */
  readonly now?: () => number;
}

/**
 * Writes a session of a virtio-gpu device to a file, in the format described in format.ts:
 *
 *     using recorder = Recorder.open({ file: 'session.scanout', scanouts: 1 });
 *     using guest = VhostUserGuest.open({ socket: '/tmp/gpu.sock', tap: recorder.tap });
 *
 * Of guest memory it records what the device uses, wherever that has changed since it was last used. Records
 * are collected in memory until there are 4 MiB of them or ten seconds have passed; a process that is killed
 * loses those. Disposing writes everything and closes the file.
 */
export class Recorder implements Disposable {
  /** The `tap` of the device to record. Its methods never throw. */
  readonly tap: GpuTap;
  readonly #writer: RecordingWriter;
  readonly #encoder = new RecordEncoder(BLOCK);
  readonly #mirror = new PageMirror(MIRROR_LIMIT);
  readonly #now: () => number;
  readonly #startMs: number;
  /** A run of pixels as it was at one instant: the guest may go on drawing while it is compared. */
  readonly #copy = Buffer.alloc(64 * 1024);
  /** The command that is running. The pixels it uses are reported after it, and belong before it in the file. */
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
    this.tap = this.#createTap();
  }

  /** The file system's error if the file cannot be created; UsageError, without touching it, for a bad number of scanouts. */
  static open(options: RecorderOptions): Recorder {
    const { file, scanouts, onFailed = () => undefined, now = () => performance.now() } = options;
    if (!Number.isInteger(scanouts) || scanouts < 1 || scanouts > VIRTIO_GPU_MAX_SCANOUTS) {
      throw new UsageError(`cannot record ${scanouts} scanouts; a recording has 1 to ${VIRTIO_GPU_MAX_SCANOUTS}`);
    }
    return new Recorder(RecordingWriter.create(file, scanouts, onFailed), now);
  }

  /** Commands recorded so far. */
  get commands(): number {
    return this.#encoder.commands + (this.#heldLength < 0 ? 0 : 1);
  }

  /** Bytes in the file so far; records wait in memory until there is a block of them. */
  get fileBytes(): number {
    return this.#writer.written;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#endCommand();
    this.#encoder.end(this.#timeUs());
    this.#writer.write(this.#encoder.take());
    this.#writer[Symbol.dispose]();
  }

  #createTap(): GpuTap {
    return {
      monitorChanged: (scanout, monitor) => {
        if (this.#disposed) return;
        this.#endCommand();
        this.#encoder.monitor(this.#timeUs(), scanout, monitor);
      },
      memoryChanged: (memory) => {
        if (this.#disposed) return;
        this.#endCommand();
        // A replay brings memory for its driver at the same place, so the recorded driver's is left out.
        this.#encoder.memory(memory.regions.filter(({ guestAddress }) => guestAddress < DRIVER_ADDRESS));
      },
      negotiated: (features) => {
        if (this.#disposed) return;
        this.#endCommand();
        this.#encoder.features(features);
      },
      command: (queue, request, length, responseSpace) => {
        if (this.#disposed) return;
        this.#endCommand();
        if (this.#resetUs >= 0) this.#encoder.reset(this.#resetUs);
        this.#resetUs = -1;
        this.#heldUs = this.#timeUs();
        this.#heldQueue = queue;
        this.#heldSpace = responseSpace;
        this.#heldLength = Math.min(length, MAX_COMMAND);
        this.#held.set(request.subarray(0, this.#heldLength));
      },
      pixels: (entries, pixels, offset, stride, rowBytes, rows) => {
        if (this.#disposed || rows === 0) return;
        const isWhole = rowBytes === stride;
        const runs = isWhole ? 1 : rows;
        const length = isWhole ? rowBytes * rows : rowBytes;
        let entry = 0;
        let entryAt = 0;
        for (let run = 0; run < runs; run++) {
          const end = Math.min(offset + run * stride + length, pixels.length);
          for (let at = offset + run * stride; at < end;) {
            while (entry < entries.length && at >= entryAt + entries[entry]!.length)
              entryAt += entries[entry++]!.length;
            const backing = entries[entry];
            if (backing === undefined) return;
            const count = Math.min(end - at, entryAt + backing.length - at, this.#copy.length);
            this.#copy.set(pixels.bytes.subarray(at, at + count));
            this.#mirror.update(backing.address + (at - entryAt), this.#copy, 0, count, this.#changed);
            at += count;
          }
        }
      },
      reset: () => {
        if (this.#disposed) return;
        this.#endCommand();
        this.#resetUs = this.#timeUs();
      },
    };
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
