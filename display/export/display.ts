import { VIRTIO_GPU_MAX_SCANOUTS } from '../../protocols/virtio-gpu.ts';
import { UsageError } from '../../src/core/errors.ts';
import type { MemoryBudget } from '../../src/core/budget.ts';
import { type Log, limitLog, logOnce } from '../../src/core/log.ts';
import { MAX_REFRESH_MHZ, virtualMonitor } from '../../src/core/monitor.ts';
import type { BufferSink, Output } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { Consumers, type ConsumerStats } from './consumers.ts';
import { GuestBuffers } from './guest-buffers.ts';
import { ExportOutput } from './output.ts';
import { ProducerChannel } from './producer-channel.ts';

const MAX_SIDE = 16384;
const DEFAULT_MODE = { width: 1280, height: 800, refreshMhz: 60_000 };

export interface ExportOptions {
  /** Where consumers connect: the path of a Unix socket. */
  readonly path: string;
  /** Of the socket's file, for example 0o660; default 0600. Consumers of other users are refused unless it or `gid` is given. */
  readonly mode?: number;
  /** The group of the socket's file. */
  readonly gid?: number;
  /** Where the VMM connects a virtio-serial port, by which guest programs announce pictures in buffers of their own. */
  readonly channel?: string;
  /** 1 to 16: as many as the guest has. */
  readonly scanouts: number;
  /** The monitor that the guest is offered; default 1280x800 at 60 Hz. */
  readonly monitor?: { readonly width: number; readonly height: number; readonly refreshMhz: number };
  /** Of the guest, which copies for consumers are charged to. */
  readonly budget: MemoryBudget;
  /** Default: nothing is logged. */
  readonly log?: Log;
}

export interface ExportStats {
  /** Buffers that can be imported, and those of them that guest programs export. */
  readonly buffers: number;
  readonly guestBuffers: number;
  readonly consumers: readonly ConsumerStats[];
}

/**
 * The guest's buffers for other processes, by id, over a Unix socket (docs/export.md):
 *
 *     using display = ExportDisplay.open({ path: '/run/vm/export.sock', scanouts: 1, budget: guest.budget });
 *     using bridge = new Bridge(guest, { buffers: display.buffers });
 *     bridge.show(0, display.outputs[0]!);
 */
export class ExportDisplay implements Disposable {
  /** One for each scanout. They stay the display's. */
  readonly outputs: readonly Output[];
  /** For the bridge: takes the buffers that guest programs export. */
  readonly buffers: BufferSink;
  readonly #consumers: Consumers;
  readonly #guestBuffers: GuestBuffers;
  readonly #stack: DisposableStack;

  private constructor(options: ExportOptions, stack: DisposableStack) {
    const { path, mode, gid, channel, scanouts, budget, monitor = DEFAULT_MODE } = options;
    const log = limitLog(options.log ?? (() => undefined));
    const { width, height, refreshMhz } = monitor;
    if (!(isWithin(width, MAX_SIDE) && isWithin(height, MAX_SIDE) && isWithin(refreshMhz, MAX_REFRESH_MHZ)))
      throw new UsageError(`export: ${width}x${height} at ${refreshMhz / 1000} Hz is no screen`);
    if (!isWithin(scanouts, VIRTIO_GPU_MAX_SCANOUTS))
      throw new RangeError(`export: ${scanouts} scanouts; 1 to ${VIRTIO_GPU_MAX_SCANOUTS} are possible`);
    const consumers = stack.use(
      Consumers.listen({ path, scanouts, log, ...(mode !== undefined && { mode }), ...(gid !== undefined && { gid }) }),
    );
    const guestBuffers = stack.use(new GuestBuffers(consumers, budget, logOnce(log)));
    const outputs = Array.from({ length: scanouts }, (_, scanout) => {
      const name = scanouts === 1 ? 'export' : `export-${scanout}`;
      return stack.use(new ExportOutput(name, scanout, virtualMonitor(name, width, height, refreshMhz), consumers));
    });
    consumers.streams.push(...outputs);
    if (channel !== undefined)
      stack.use(ProducerChannel.listen(channel, log, (ready, answer) => guestBuffers.ready(ready, answer)));
    this.outputs = outputs;
    this.buffers = guestBuffers;
    this.#consumers = consumers;
    this.#guestBuffers = guestBuffers;
    this.#stack = stack.move();
  }

  /** SysError of `listenUnix` for the sockets; UsageError for a mode out of range. */
  static open(options: ExportOptions): ExportDisplay {
    using stack = new DisposableStack();
    return new ExportDisplay(options, stack);
  }

  get stats(): ExportStats {
    return {
      buffers: this.#consumers.exports.count,
      guestBuffers: this.#guestBuffers.count,
      consumers: this.#consumers.stats,
    };
  }

  /** Disconnects every consumer. Dispose the bridge before. */
  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

function isWithin(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= max;
}
