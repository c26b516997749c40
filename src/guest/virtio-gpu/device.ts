import { VIRTIO_ID_GPU } from '../../../protocols/virtio-ring.ts';
import {
  VIRTIO_GPU_CMD,
  VIRTIO_GPU_EVENT_DISPLAY,
  VIRTIO_GPU_F,
  VIRTIO_GPU_MAX_SCANOUTS,
  commandName,
  virtio_gpu_config,
  virtio_gpu_ctrl_hdr,
} from '../../../protocols/virtio-gpu.ts';
import { UsageError } from '../../core/errors.ts';
import { MutableRect } from '../../core/geometry.ts';
import { type Log, type LogOnce, logOnce } from '../../core/log.ts';
import { MemoryBudget } from '../../core/budget.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId, Source, SourceSink } from '../../core/source.ts';
import type { GuestMemory } from '../memory.ts';
import type { Chain } from '../virtio/chain.ts';
import type { VirtioDevice, VirtioTransport } from '../virtio/device.ts';
import type { Virtqueue } from '../virtio/queue.ts';
import { BLOB_COMMANDS, CONTROL_COMMANDS, CURSOR_COMMANDS, type Command, type GpuState } from './commands.ts';
import { VirtioGpuError, responseOf } from './errors.ts';
import { Answers } from './fences.ts';
import { Reply, Request } from './message.ts';
import { Scanouts } from './scanouts.ts';
import { Resources } from './resources.ts';
import type { GpuTap } from './tap.ts';

const CONTROL_QUEUE = 0;
const KNOWN_COMMANDS: ReadonlySet<number> = new Set(Object.values(VIRTIO_GPU_CMD));

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
 * Commands run in order when the guest kicks, each to its end, and change nothing if they fail. In steady state
 * (set scanout, transfer, flush, cursor) nothing is allocated.
 */
export class VirtioGpu implements VirtioDevice, Source {
  readonly id = VIRTIO_ID_GPU;
  readonly queueCount = 2;
  readonly features: bigint;
  readonly config = new Uint8Array(virtio_gpu_config.size);
  /** Bounds the host memory that this guest causes; other allocations on its behalf are charged to it too. */
  readonly budget: MemoryBudget;
  readonly #configView = new DataView(this.config.buffer);
  /** A guest can cause any number of messages, of few kinds. */
  readonly #logOnce: LogOnce;
  readonly #tap: GpuTap | null;
  readonly #commands: readonly ReadonlyMap<number, Command>[];
  readonly #state: GpuState;
  /** The command that is being handled. */
  #request = new Request();
  readonly #reply = new Reply();
  readonly #queues: (Virtqueue | null)[] = [null, null];
  readonly #answers: (Answers | null)[] = [null, null];
  readonly #refreshMonitors: (() => Promise<void>) | null;
  /** The GET_DISPLAY_INFO that waits for `refreshMonitors` and holds the control queue back. */
  #held: Chain | null = null;
  /** The copy of it; a request changes places with `#request` when it is held. Null if nothing is ever held. */
  #heldRequest: Request | null;
  #transport: VirtioTransport | null = null;
  #handled = 0;
  #errors = 0;

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
    this.#logOnce = logOnce(log);
    this.#tap = tap;
    this.#refreshMonitors = options.refreshMonitors ?? null;
    this.#heldRequest = this.#refreshMonitors && new Request();
    this.#commands = [blobs ? new Map([...CONTROL_COMMANDS, ...BLOB_COMMANDS]) : CONTROL_COMMANDS, CURSOR_COMMANDS];
    const offered = [VIRTIO_GPU_F.EDID, VIRTIO_GPU_F.RESOURCE_UUID, ...(blobs ? [VIRTIO_GPU_F.RESOURCE_BLOB] : [])];
    this.features = offered.reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
    const scanouts = new Scanouts(count);
    const resources = new Resources(scanouts, this.budget, log);
    this.#state = { resources, scanouts, tap, log: this.#logOnce, rect: new MutableRect(), flushes: 0, transfers: 0 };
    virtio_gpu_config.field.num_scanouts.set(this.#configView, 0, count);
  }

  get scanouts(): number {
    return this.#state.scanouts.count;
  }

  get stats(): GpuStats {
    const { resources, flushes, transfers } = this.#state;
    return {
      commands: this.#handled,
      flushes,
      transfers,
      errors: this.#errors,
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
    this.queueStopped(index);
    this.#queues[index] = queue;
    this.#answers[index] = new Answers(queue, () => this.#logOnce('error', 'a flush was reported done twice'));
  }

  queueStopped(index: number): void {
    if (index === CONTROL_QUEUE) this.#answerHeld();
    this.#answers[index]?.stop();
    this.#answers[index] = null;
    this.#queues[index] = null;
  }

  halted(): void {
    this.#state.scanouts.halt();
  }

  kicked(index: number): void {
    const queue = this.#queues[index];
    const answers = this.#answers[index];
    if (!queue || !answers || (this.#held && index === CONTROL_QUEUE)) return;
    // A guest that adds chains as fast as they are taken must not block the event loop.
    for (let turn = 0; turn < queue.size; turn++) {
      const chain = queue.pop();
      if (!chain) return;
      this.#request.copyFrom(chain);
      if (this.#refreshMonitors && index === CONTROL_QUEUE && this.#request.type === VIRTIO_GPU_CMD.GET_DISPLAY_INFO) {
        this.#hold(chain, this.#refreshMonitors());
        return;
      }
      this.#handle(index, chain, this.#request, answers);
    }
    this.#continueLater(index, queue);
  }

  reset(): void {
    this.#tap?.reset();
    this.#queues.forEach((_, index) => this.queueStopped(index));
    this.#state.resources.clear();
    virtio_gpu_config.field.events_read.set(this.#configView, 0, 0);
  }

  [Symbol.dispose](): void {
    this.reset();
  }

  /** Separate from `kicked`, because a function that contains a closure allocates on every call. */
  #continueLater(index: number, queue: Virtqueue): void {
    setImmediate(() => {
      if (this.#queues[index] === queue) this.kicked(index);
    });
  }

  /** Holds back the command in `#request`, and the control queue with it, so that commands keep their order. */
  #hold(chain: Chain, until: Promise<void>): void {
    const resume = () => {
      if (this.#held !== chain) return;
      this.#answerHeld();
      this.kicked(CONTROL_QUEUE);
    };
    this.#held = chain;
    const spare = this.#heldRequest!;
    this.#heldRequest = this.#request;
    this.#request = spare;
    until.then(resume, resume);
  }

  #answerHeld(): void {
    const chain = this.#held;
    const answers = this.#answers[CONTROL_QUEUE];
    this.#held = null;
    if (chain && answers) this.#handle(CONTROL_QUEUE, chain, this.#heldRequest!, answers);
  }

  /** `request` is the copy of what `chain` carries; guest memory is not read again. */
  #handle(index: number, chain: Chain, request: Request, answers: Answers): void {
    const reply = this.#reply;
    this.#handled++;
    this.#tap?.command(index, request.bytes, request.length, chain.writable);
    const answer = answers.begin(chain);
    if (request.isFenced) answers.fence(answer);
    reply.start(request);
    try {
      // Cursor commands need no response and mostly leave no room for one. A control command without room for its response is not run.
      if (index === CONTROL_QUEUE && chain.writable < virtio_gpu_ctrl_hdr.size)
        throw new VirtioGpuError('invalid-parameter', 'no room for a response');
      if (!request.hasHeader) throw new VirtioGpuError('unsupported', `a request of ${request.length} bytes`);
      const command = this.#commands[index]!.get(request.type);
      if (!command) throw new VirtioGpuError('unsupported', 'not supported');
      request.needs(command.size);
      command.run(this.#state, request, reply, answer);
    } catch (error) {
      this.#failed(request, error);
    }
    answer.finish(reply.writeTo(chain));
  }

  #failed(request: Request, error: unknown): void {
    this.#errors++;
    this.#reply.fail(responseOf(error));
    const name = request.hasHeader ? commandName(request.type) : 'request';
    // Command numbers that mean nothing are of one kind: there are 2^32 of them.
    const kind = KNOWN_COMMANDS.has(request.type) ? name : 'unknown';
    if (error instanceof VirtioGpuError)
      this.#logOnce('warn', `refused the guest's ${name}: ${error.message}`, `${kind} ${error.code}`);
    else this.#logOnce('error', `the guest's ${name} failed: ${String(error)}`, kind);
  }
}
