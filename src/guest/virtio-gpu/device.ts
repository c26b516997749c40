import { VIRTIO_ID_GPU } from '../../../protocols/virtio-ring.ts';
import {
  VIRTIO_GPU_EVENT_DISPLAY,
  VIRTIO_GPU_F,
  VIRTIO_GPU_MAX_SCANOUTS,
  virtio_gpu_config,
} from '../../../protocols/virtio-gpu.ts';
import { UsageError } from '../../core/errors.ts';
import { MutableRect } from '../../core/geometry.ts';
import { type Log, logOnce } from '../../core/log.ts';
import { MemoryBudget } from '../../core/budget.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId, Source, SourceSink } from '../../core/source.ts';
import type { GuestMemory } from '../memory.ts';
import type { VirtioDevice, VirtioTransport } from '../virtio/device.ts';
import type { Virtqueue } from '../virtio/queue.ts';
import { CommandQueue } from './command-queue.ts';
import { BLOB_COMMANDS, CONTROL_COMMANDS, CURSOR_COMMANDS, type GpuState } from './commands.ts';
import { Scanouts } from './scanouts.ts';
import { Resources } from './resources.ts';
import type { GpuTap } from './tap.ts';

const CONTROL_QUEUE = 0;
const CURSOR_QUEUE = 1;

export interface VirtioGpuOptions {
  /** 1 to 16; default 1. */
  readonly scanouts?: number;
  /** The host memory that the guest can cause to be allocated, in bytes; default 512 MiB. */
  readonly maxGuestMemory?: number;
  /** Whether resources that are guest blobs are offered; default true. */
  readonly blobs?: boolean;
  readonly log?: Log;
  /** Sees every command and the pixels it uses; a Recorder has one. */
  readonly tap?: GpuTap;
  /**
   * Called when the guest asks for its monitors (GET_DISPLAY_INFO), which is answered once the promise settles,
   * either way. For outputs whose monitors have to be queried: call `setMonitor` before it settles.
   */
  readonly refreshMonitors?: () => Promise<void>;
}

export interface GpuStats {
  commands: number;
  flushes: number;
  transfers: number;
  /** Commands that were answered with an error, or could not be answered. */
  errors: number;
  resources: number;
  storeBytes: number;
}

/**
 * A virtio GPU without 3D (virtio 1.3, 5.7). Pixels stay in the guest's memory wherever that is possible; the
 * device describes them to one sink, usually a Bridge.
 *
 * The commands of a queue run in order and change nothing if they fail. What they may take of a turn of the event loop
 * is bounded. In steady state (set scanout, transfer, flush, cursor) nothing is allocated.
 */
export class VirtioGpu implements VirtioDevice, Source {
  readonly id = VIRTIO_ID_GPU;
  readonly queueCount = 2;
  readonly features: bigint;
  readonly config = new Uint8Array(virtio_gpu_config.size);
  /** Bounds the host memory that this guest causes; other allocations on its behalf are charged to it too. */
  readonly budget: MemoryBudget;
  readonly #configView = new DataView(this.config.buffer);
  readonly #tap: GpuTap | null;
  readonly #state: GpuState;
  readonly #queues: readonly CommandQueue[];
  #transport: VirtioTransport | null = null;

  /** UsageError for a number of scanouts that virtio does not allow. */
  constructor(options: VirtioGpuOptions = {}) {
    const {
      scanouts: count = 1,
      maxGuestMemory = 512 * 2 ** 20,
      blobs = true,
      log = () => undefined,
      tap = null,
    } = options;
    if (!Number.isInteger(count) || count < 1 || count > VIRTIO_GPU_MAX_SCANOUTS) {
      throw new UsageError(`cannot offer ${count} scanouts; a virtio GPU has 1 to ${VIRTIO_GPU_MAX_SCANOUTS}`);
    }
    this.budget = new MemoryBudget(maxGuestMemory);
    this.#tap = tap;
    const offered = [VIRTIO_GPU_F.EDID, VIRTIO_GPU_F.RESOURCE_UUID, ...(blobs ? [VIRTIO_GPU_F.RESOURCE_BLOB] : [])];
    this.features = offered.reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
    const scanouts = new Scanouts(count);
    const resources = new Resources(scanouts, this.budget, log, tap);
    const state = { resources, scanouts, rect: new MutableRect(), commands: 0, flushes: 0, transfers: 0, errors: 0 };
    this.#state = state;
    // A guest can cause any number of messages, of few kinds.
    const onFailed = (error: unknown): void => this.#transport?.failed(error);
    const shared = { state, tap, log: logOnce(log), onFailed };
    this.#queues = [
      new CommandQueue({
        ...shared,
        index: CONTROL_QUEUE,
        commands: blobs ? new Map([...CONTROL_COMMANDS, ...BLOB_COMMANDS]) : CONTROL_COMMANDS,
        mustAnswer: true,
        refreshMonitors: options.refreshMonitors ?? null,
      }),
      new CommandQueue({
        ...shared,
        index: CURSOR_QUEUE,
        commands: CURSOR_COMMANDS,
        mustAnswer: false,
        refreshMonitors: null,
      }),
    ];
    tap?.attached(this.budget, () => this.#queues.forEach((queue) => queue.run()));
    virtio_gpu_config.field.num_scanouts.set(this.#configView, 0, count);
  }

  get scanouts(): number {
    return this.#state.scanouts.count;
  }

  get stats(): GpuStats {
    const { resources, commands, flushes, transfers, errors } = this.#state;
    return {
      commands,
      flushes,
      transfers,
      errors,
      resources: resources.count,
      storeBytes: resources.storeBytes,
    };
  }

  connect(sink: SourceSink): void {
    this.#state.scanouts.connect(sink);
  }

  /** RangeError for a scanout that does not exist. */
  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    if (!Number.isInteger(id) || id < 0 || id >= this.scanouts)
      throw new RangeError(`there is no scanout ${id}; the device has ${this.scanouts}, counted from 0`);
    this.#tap?.monitorChanged(id, monitor);
    this.#state.scanouts.setMonitor(id, monitor);
    const { events_read } = virtio_gpu_config.field;
    events_read.set(this.#configView, 0, events_read.get(this.#configView, 0) | VIRTIO_GPU_EVENT_DISPLAY);
    this.#transport?.configChanged();
  }

  attached(transport: VirtioTransport): void {
    this.#transport = transport;
  }

  detached(): void {
    this.#transport = null;
  }

  negotiated(features: bigint): void {
    this.#tap?.negotiated(features);
  }

  /** Only events_clear counts: the driver acknowledges the events whose bits it writes. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    const { events_read, events_clear } = virtio_gpu_config.offset;
    for (let i = 0; i < bytes.length; i++) {
      const at = offset + i - events_clear;
      if (at >= 0 && at < virtio_gpu_config.fields.events_clear.size) this.config[events_read + at]! &= ~bytes[i]!;
    }
  }

  memoryChanged(memory: GuestMemory): void {
    this.#tap?.memoryChanged(memory);
    this.#state.resources.memoryChanged(memory);
  }

  queueStarted(index: number, queue: Virtqueue): void {
    this.#queues[index]!.start(queue);
  }

  queueStopped(index: number): void {
    this.#queues[index]!.stop();
  }

  halted(): void {
    this.#state.scanouts.halt();
  }

  kicked(index: number): void {
    this.#queues[index]!.run();
  }

  reset(): void {
    this.#queues.forEach((queue) => queue.stop());
    this.#tap?.reset();
    this.#state.resources.clear();
    virtio_gpu_config.field.events_read.set(this.#configView, 0, 0);
  }

  [Symbol.dispose](): void {
    this.reset();
  }
}
