import { VIRTIO_GPU_MAX_SCANOUTS } from '../../../protocols/virtio-gpu.ts';
import { UsageError } from '../../core/errors.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId } from '../../core/source.ts';
import type { GpuTap } from '../virtio-gpu/tap.ts';
import { DRIVER_ADDRESS, type DriverRegion } from './driver-memory.ts';
import { PageMirror } from './page-mirror.ts';
import { RecordEncoder, RecordingWriter } from './recording-writer.ts';

/** Bytes of a block before compression. A larger block lets a picture refer back to more of the earlier ones. */
const BLOCK = 4 * 2 ** 20;

/** A block is written after this time however small it is: what was not written is lost if the process is killed. */
const BLOCK_MS = 10_000;

/** Twelve framebuffers of 4K. At most half of the guest's budget: the guest itself needs some. */
const MIRROR_LIMIT = 384 * 2 ** 20;

export interface RecorderOptions {
  /** The path to write to; an existing file is replaced. Or the descriptor of an empty file, which the recorder closes. */
  readonly file: string | number;
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
 * loses those. A guest that draws faster than this can be compressed and written is slowed down. Disposing writes
 * everything and closes the file.
 */
export class Recorder implements Disposable {
  /** The `tap` of the device to record. Its methods never throw. */
  readonly tap: GpuTap;
  readonly #writer: RecordingWriter;
  readonly #encoder = new RecordEncoder(BLOCK);
  #mirror: PageMirror | null = null;
  readonly #now: () => number;
  readonly #startMs: number;
  /** When the last block was written. */
  #blockUs = 0;
  /*
   * What happened since the last command. It is written before the next, so that nothing but commands makes a recording
   * grow. A reset at the very end would only blank the picture.
   */
  #resetUs = -1;
  #regions: readonly DriverRegion[] | null = null;
  #features: bigint | null = null;
  readonly #monitors = new Map<ScanoutId, { readonly timeUs: number; readonly monitor: Monitor | null }>();
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
    return this.#encoder.commands;
  }

  /** Bytes in the file so far; records wait in memory until there is a block of them. */
  get fileBytes(): number {
    return this.#writer.written;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#resetUs = -1;
    this.#catchUp();
    this.#encoder.end(this.#timeUs());
    this.#writer.write(this.#encoder.take());
    this.#writer[Symbol.dispose]();
    this.#mirror?.[Symbol.dispose]();
  }

  #createTap(): GpuTap {
    const writer = this.#writer;
    return {
      get isBusy() {
        return writer.isBusy;
      },
      attached: (budget, resume) => {
        this.#mirror = new PageMirror(Math.min(MIRROR_LIMIT, budget.limit / 2), budget);
        writer.onReady = resume;
      },
      monitorChanged: (scanout, monitor) => {
        this.#monitors.set(scanout, { timeUs: this.#timeUs(), monitor });
      },
      memoryChanged: ({ regions }) => {
        // A replay brings memory for its driver at the same place, so the recorded driver's is left out.
        this.#regions = regions.filter(({ guestAddress }) => guestAddress < DRIVER_ADDRESS);
      },
      negotiated: (features) => {
        this.#features = features;
      },
      pixels: (address, bytes, length) => {
        if (this.#disposed) return;
        this.#catchUp();
        this.#mirror?.update(address, bytes, 0, length, this.#changed);
      },
      command: (queue, request, length, responseSpace) => {
        if (this.#disposed) return;
        this.#catchUp();
        const timeUs = this.#timeUs();
        this.#encoder.command(timeUs, queue, responseSpace, request, length);
        if (this.#encoder.full || timeUs - this.#blockUs > BLOCK_MS * 1000) this.#write();
      },
      reset: () => {
        this.#resetUs = this.#timeUs();
      },
    };
  }

  #catchUp(): void {
    const encoder = this.#encoder;
    if (this.#resetUs >= 0) encoder.reset(this.#resetUs);
    if (this.#regions) encoder.memory(this.#regions);
    if (this.#features !== null) encoder.features(this.#features);
    for (const [scanout, { timeUs, monitor }] of this.#monitors) encoder.monitor(timeUs, scanout, monitor);
    this.#resetUs = -1;
    this.#regions = null;
    this.#features = null;
    if (this.#monitors.size > 0) this.#monitors.clear();
  }

  #timeUs(): number {
    return (this.#now() - this.#startMs) * 1000;
  }

  #write(): void {
    this.#blockUs = this.#timeUs();
    this.#writer.write(this.#encoder.take());
  }

  readonly #changed = (guestAddress: number, bytes: Uint8Array, from: number, length: number): void => {
    this.#encoder.write(guestAddress, bytes, from, length);
    if (this.#encoder.full) this.#write();
  };
}
