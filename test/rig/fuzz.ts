/** Drives a real device through a real vhost-user socket and rings with hostile guests. Everything follows from one seed. */
import { readAll } from './bytes-of.ts';
import {
  virtio_gpu_ctrl_hdr,
  virtio_gpu_resp_display_info,
  VIRTIO_GPU_CMD,
  VIRTIO_GPU_RESP,
} from '../../protocols/virtio-gpu.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { Flush, SourceSink } from '../../src/core/source.ts';
import { FrontEndError } from '../../src/guest/replay/front-end-channel.ts';
import { VhostUserServer } from '../../src/guest/vhost-user/server.ts';
import { VirtioGpu } from '../../src/guest/virtio-gpu/device.ts';
import { SysError } from '../../src/sys/errors.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { FrontEnd } from './front-end.ts';
import { type FuzzSession, HostileGuest } from './hostile-guest.ts';
import { Random } from './random.ts';

export interface FuzzOptions {
  readonly seed: number;
  /** Commands to send at least. */
  readonly commands: number;
  readonly sessions: readonly FuzzSession[];
}

export interface FuzzResult {
  /** Commands that were sent; broken rings swallow some. */
  readonly sent: number;
  readonly handled: number;
  readonly refused: number;
  readonly connections: number;
  readonly resets: number;
  /** What must not happen and did. */
  readonly faults: readonly string[];
}

const MAX_GUEST_MEMORY = 64 * 2 ** 20;

export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const random = new Random(options.seed);
  const total = { sent: 0, handled: 0, refused: 0, connections: 0, resets: 0, faults: new Array<string>() };
  while (total.sent < options.commands && total.faults.length === 0) {
    using guest = new FuzzedGuest(random, random.pick(options.sessions));
    await guest.run();
    total.sent += guest.hostile.sent;
    total.handled += guest.device.stats.commands;
    total.refused += guest.device.stats.errors;
    total.connections += guest.hostile.connections;
    total.resets += guest.hostile.resets;
    total.faults.push(...guest.faults);
  }
  return total;
}

/** A screen that reads pixels and finishes flushes late, in any order. */
export class LazySink implements SourceSink {
  readonly #random: Random;
  readonly #waiting: Flush[] = [];
  #shown: Framebuffer | null = null;
  /** The sum of what was read, so that reading is not optimized away. */
  sum = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  scanout(_id: number, framebuffer: Framebuffer | null): void {
    this.#shown = framebuffer;
  }

  flush(_id: number, _damage: unknown, flush: Flush | null): void {
    this.#look(this.#shown);
    if (flush !== null) this.#waiting.push(flush);
    if (this.#random.chance(0.5)) this.finishSome(this.#random.below(this.#waiting.length + 1));
  }

  cursor(_id: number, framebuffer: Framebuffer | null): void {
    this.#look(framebuffer);
  }

  cursorMoved(): void {
    this.sum++;
  }

  halted(): void {
    this.#look(this.#shown);
  }

  destroyed(framebuffer: Framebuffer): void {
    if (this.#shown === framebuffer) this.#shown = null;
  }

  finishSome(count = this.#waiting.length): void {
    for (let i = 0; i < count; i++) this.#waiting.splice(this.#random.below(this.#waiting.length), 1)[0]!.done();
  }

  /** Reads one byte of every page: missing memory would raise SIGSEGV or SIGBUS. */
  #look(framebuffer: Framebuffer | null): void {
    if (framebuffer?.backing.kind !== 'pages') return;
    try {
      this.sum += readAll(framebuffer.backing.pixels());
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
    }
  }
}

/** One device, and the front ends that connect to it. */
class FuzzedGuest implements Disposable {
  readonly device: VirtioGpu;
  readonly hostile: HostileGuest;
  readonly faults: string[] = [];
  readonly #session: FuzzSession;
  readonly #sink: LazySink;

  constructor(random: Random, session: FuzzSession) {
    this.#session = session;
    this.#sink = new LazySink(random);
    const scanouts = random.pick([1, 2, 16]);
    this.device = new VirtioGpu({
      scanouts,
      maxGuestMemory: MAX_GUEST_MEMORY,
      log: (level, message) => this.#logged(level, message),
    });
    this.device.connect(this.#sink);
    this.hostile = new HostileGuest(random, session, {
      resetting: () => {
        if (random.chance(0.5)) this.#sink.finishSome();
      },
      reset: () => this.#expectNothingKept('reset'),
    });
  }

  async run(): Promise<void> {
    while (!this.hostile.isDone && this.faults.length === 0) await this.#connection();
    this.#sink.finishSome();
    await this.#checkWorks();
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
    this.#sink.finishSome();
  }

  async #connection(): Promise<void> {
    const [ours, theirs] = socketPair();
    using server = VhostUserServer.adopt(theirs, this.device, { log: () => undefined });
    try {
      await this.hostile.play(ours);
    } catch (error) {
      if (!(error instanceof FrontEndError)) throw error;
      this.faults.push(`front end: ${error.code} ${error.message}`);
    }
  }

  /** Checks that the device works for an honest driver, and that it kept nothing of the others. */
  async #checkWorks(): Promise<void> {
    const [ours, theirs] = socketPair();
    using server = VhostUserServer.adopt(theirs, this.device, { log: () => undefined });
    using frontEnd = FrontEnd.create({ socket: ours, memory: this.#session.memory });
    this.#expectNothingKept('the last front end');
    await frontEnd.connect();
    const request = virtio_gpu_ctrl_hdr.encode({ type: VIRTIO_GPU_CMD.GET_DISPLAY_INFO });
    const response = await frontEnd.request(0, request, virtio_gpu_resp_display_info.size);
    const { hdr } = virtio_gpu_resp_display_info.decode(response);
    if (hdr.type !== VIRTIO_GPU_RESP.OK_DISPLAY_INFO)
      this.faults.push(`GET_DISPLAY_INFO answered 0x${hdr.type.toString(16)}`);
    if (!server.connected) this.faults.push('an honest front end was disconnected');
  }

  #expectNothingKept(after: string): void {
    const { resources } = this.device.stats;
    if (resources !== 0) this.faults.push(`${resources} resources after ${after}`);
    if (this.device.budget.used !== 0)
      this.faults.push(`${this.device.budget.used} bytes of guest memory after ${after}`);
  }

  #logged(level: string, message: string): void {
    // The device logs unexpected exceptions of commands as errors.
    if (level === 'error') this.faults.push(message);
  }
}
