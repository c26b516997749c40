import { setImmediate } from 'node:timers/promises';
import { VIRTIO_GPU_RESP, virtio_gpu_ctrl_hdr } from '../../../protocols/virtio-gpu.ts';
import type { MemoryBudget } from '../../core/budget.ts';
import type { Log } from '../../core/log.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { ScanoutId, Source, SourceSink } from '../../core/source.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { socketPair } from '../../sys/socket.ts';
import { VhostUserServer } from '../vhost-user/server.ts';
import { type GpuStats, VirtioGpu } from '../virtio-gpu/device.ts';
import { MAX_COMMAND, type RecordingEvent, RecordingError } from './format.ts';
import { FrontEndError } from './front-end-channel.ts';
import { type QueueUsedCallback, ReplayFrontEnd } from './front-end.ts';
import { type RecordingInput, RecordingReader } from './recording-reader.ts';

/** The most commands in the rings at a time. */
const MAX_IN_FLIGHT = 64;

const PROGRESS_MS = 50;

/** How much of one turn of the event loop the records may take, ms: a file can have millions that need no answer. */
const SHARE_MS = 2;

/** More records than there are before the first command of a real session. */
const MAX_BEFORE_START = 1000;

export interface ReplayProgress {
  /** How much of the recording has been read, 0 to 1. */
  readonly fraction: number;
  readonly commands: number;
  /** The position in the recorded session. */
  readonly timeMs: number;
}

export interface ReplaySummary {
  readonly commands: number;
  readonly flushes: number;
  /** Commands that were answered with a VIRTIO_GPU_RESP_ERR. */
  readonly errors: number;
  /** How long the replay took. */
  readonly durationMs: number;
}

export type ReplayOptions = RecordingInput & {
  /** `recorded`: at the guest's speed; `fast`: as soon as there is room in the rings. Default `recorded`. */
  readonly speed?: 'recorded' | 'fast';
  /** Called at most every 50 ms, and at the end. */
  readonly onProgress?: (progress: ReplayProgress) => void;
  /** The monitor that was offered to the recorded guest on a scanout changed after the start; null is unplugged. */
  readonly onMonitor?: (scanout: number, monitor: Monitor | null) => void;
  /** The host memory that the recording can cause, its guest's memory included, in bytes; default 1 GiB. */
  readonly maxGuestMemory?: number;
  readonly log?: Log;
};

/**
 * A recorded guest as a Source:
 *
 *     using replay = Replay.open({ file: 'session.scanout' });
 *     using bridge = new Bridge(replay);
 *     bridge.show(0, output);
 *     await replay.finished;
 *
 * It runs the real device behind a real vhost-user back end, driven over a socket and rings by a front end
 * that repeats what the recorded one did. It starts to play when it is connected to a sink, and its last
 * picture stays until it is disposed.
 */
export class Replay implements Source {
  /** The monitors offered to the recorded guest at its start, by scanout. */
  readonly monitors: ReadonlyMap<number, Monitor>;
  /**
   * Resolves when every command has been answered. Rejects with RecordingError if the file is damaged (all
   * before the damage was played), FrontEndError `closed` if the replay was disposed before its end.
   */
  readonly finished: Promise<ReplaySummary>;
  readonly #gpu: VirtioGpu;
  readonly #options: ReplayOptions;
  readonly #resources: DisposableStack;
  readonly #reader: RecordingReader;
  readonly #frontEnd: ReplayFrontEnd;
  #resolve!: (summary: ReplaySummary) => void;
  #reject!: (reason: unknown) => void;
  #features = ~0n;
  #started = false;
  #failure: FrontEndError | null = null;
  #wake: (() => void) | null = null;
  #timer: NodeJS.Timeout | undefined;
  #startMs = 0;
  #progressMs = 0;
  #timeUs = 0;
  #submitted = 0;
  /** That of the last command. */
  #queue = 0;
  #inFlight = 0;
  #errors = 0;

  private constructor(options: ReplayOptions) {
    using resources = new DisposableStack();
    this.#options = options;
    const { log = () => undefined, maxGuestMemory = 2 ** 30 } = options;
    this.#reader = resources.use(RecordingReader.open(options));
    this.monitors = firstMonitors(options);
    const { scanouts } = this.#reader;
    this.#gpu = resources.use(new VirtioGpu({ scanouts, log, maxGuestMemory }));
    const [ours, theirs] = socketPair();
    resources.use(theirs);
    const { budget } = this.#gpu;
    this.#frontEnd = resources.use(ReplayFrontEnd.open({ socket: ours, memory: [], budget, maxSegment: MAX_COMMAND }));
    resources.use(VhostUserServer.adopt(theirs, this.#gpu, { log }));
    this.#frontEnd.onClosed = (error) => this.#fail(error);
    this.#frontEnd.onUsed = this.#used;
    this.#resources = resources.move();
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // A caller who does not look at the outcome must not get an unhandled rejection.
    this.finished.catch(() => undefined);
  }

  /** RecordingError `magic`, `version`, `truncated`, `malformed`; the file system's errors for a path. */
  static open(options: ReplayOptions): Replay {
    return new Replay(options);
  }

  get scanouts(): number {
    return this.#gpu.scanouts;
  }

  get budget(): MemoryBudget {
    return this.#gpu.budget;
  }

  get stats(): GpuStats {
    return this.#gpu.stats;
  }

  connect(sink: SourceSink): void {
    this.#gpu.connect(sink);
    if (this.#started) return;
    this.#started = true;
    this.#play().then(this.#resolve, this.#reject);
  }

  /** Has no effect on what is played: the recorded guest's commands are what they are. */
  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    this.#gpu.setMonitor(id, monitor);
  }

  [Symbol.dispose](): void {
    this.#fail(new FrontEndError('closed', 'the replay was disposed'));
    if (!this.#started) this.#reject(this.#failure);
    clearTimeout(this.#timer);
    this.#resources[Symbol.dispose]();
  }

  async #play(): Promise<ReplaySummary> {
    this.#startMs = performance.now();
    await this.#frontEnd.negotiate();
    let damage: RecordingError | null = null;
    let shareEnd = performance.now() + SHARE_MS;
    for (;;) {
      if (performance.now() > shareEnd) {
        await setImmediate();
        this.#check();
        shareEnd = performance.now() + SHARE_MS;
      }
      try {
        const event = this.#reader.next();
        if (event === null) break;
        await this.#do(event);
      } catch (error) {
        if (!(error instanceof RecordingError)) throw error;
        damage = error;
        break;
      }
    }
    while (this.#inFlight > 0) await this.#event();
    this.#progress(true);
    if (damage !== null) throw damage;
    return {
      commands: this.#submitted,
      flushes: this.#gpu.stats.flushes,
      errors: this.#errors,
      durationMs: performance.now() - this.#startMs,
    };
  }

  async #do(event: RecordingEvent): Promise<void> {
    if ('timeUs' in event) await this.#until(event.timeUs);
    switch (event.kind) {
      case 'memory':
        await this.#handled();
        await this.#frontEnd.setMemory(event.regions);
        return;
      case 'features':
        this.#features = event.features;
        return;
      case 'monitor':
        if (this.#submitted > 0) this.#options.onMonitor?.(event.scanout, event.monitor);
        return;
      case 'write':
        // The device reads pixels when it handles a command: earlier ones must not see later pixels.
        await this.#handled();
        if (event.guestAddress + event.bytes.length > this.#frontEnd.memory.end)
          throw new RecordingError('malformed', 'the recording writes outside guest memory');
        if (!this.#frontEnd.memory.write(event.guestAddress, event.bytes))
          throw new RecordingError(
            'too-large',
            `the recording needs more than ${this.budget.limit} bytes of memory; raise --max-memory if you trust it`,
          );
        return;
      case 'command':
        await this.#command(event.queue, event.bytes, event.responseSpace);
        return;
      case 'reset':
        await this.#handled();
        await this.#frontEnd.stop();
        this.#inFlight = 0;
        return;
      case 'end':
        return;
    }
  }

  async #command(queue: number, bytes: Uint8Array, responseSpace: number): Promise<void> {
    if (!this.#frontEnd.running) await this.#frontEnd.start(this.#features);
    // The device takes each queue's commands in order, but not those of one queue before those of another.
    if (queue !== this.#queue) await this.#handled();
    this.#queue = queue;
    while (this.#inFlight >= MAX_IN_FLIGHT) await this.#event();
    while (this.#frontEnd.submit(queue, bytes, responseSpace) < 0) {
      if (this.#inFlight === 0) throw new FrontEndError('full', `no room for a command of ${bytes.length} bytes`);
      await this.#event();
    }
    this.#inFlight++;
    this.#submitted++;
    this.#frontEnd.kick(queue);
    this.#progress(false);
  }

  /** Waits until the device has taken every command that was submitted; answers may come later. */
  async #handled(): Promise<void> {
    while (this.#gpu.stats.commands < this.#submitted) {
      await setImmediate();
      this.#check();
    }
  }

  /** Waits for an answer, a time-out or the end of the replay. */
  async #event(): Promise<void> {
    this.#check();
    await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#check();
  }

  async #until(timeUs: number): Promise<void> {
    this.#timeUs = timeUs;
    if (this.#options.speed === 'fast') return;
    const dueMs = this.#startMs + timeUs / 1000;
    for (let leftMs = dueMs - performance.now(); leftMs >= 1; leftMs = dueMs - performance.now()) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#wake?.(), Math.min(leftMs, 2 ** 31 - 1));
      await this.#event();
    }
  }

  readonly #used: QueueUsedCallback = (_queue, _token, response, written) => {
    this.#inFlight--;
    if (written >= virtio_gpu_ctrl_hdr.size) {
      const type = response[0]! | (response[1]! << 8);
      if (type >= VIRTIO_GPU_RESP.ERR_UNSPEC) this.#errors++;
    }
    this.#wake?.();
  };

  #progress(last: boolean): void {
    const { onProgress } = this.#options;
    const now = performance.now();
    if (onProgress === undefined || (!last && now - this.#progressMs < PROGRESS_MS)) return;
    this.#progressMs = now;
    onProgress({ fraction: this.#reader.fraction, commands: this.#submitted, timeMs: this.#timeUs / 1000 });
  }

  #fail(error: FrontEndError): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure;
  }
}

/** The monitors that were plugged in before the first command. */
function firstMonitors(input: RecordingInput): ReadonlyMap<number, Monitor> {
  using reader = RecordingReader.open(input);
  const monitors = new Map<number, Monitor>();
  try {
    for (let records = 0; records < MAX_BEFORE_START; records++) {
      const event = reader.next();
      if (event === null || event.kind === 'command' || event.kind === 'write') break;
      if (event.kind === 'monitor' && event.monitor !== null) monitors.set(event.scanout, event.monitor);
    }
  } catch (error) {
    // Playing reports the damage again, at its place in the session.
    if (!(error instanceof RecordingError)) throw error;
  }
  return monitors;
}
