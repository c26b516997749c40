/**
 * Drives a real device through a real vhost-user socket and rings with mutated sessions: changed fields, dropped and
 * repeated commands, descriptors that point anywhere, resets, and front ends that vanish. Everything follows from one
 * seed.
 */
import {
  virtio_gpu_ctrl_hdr,
  virtio_gpu_resp_display_info,
  VIRTIO_GPU_CMD,
  VIRTIO_GPU_RESP,
} from '../../protocols/virtio-gpu.ts';
import { VHOST_USER } from '../../protocols/vhost-user.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { Flush, SourceSink } from '../../src/core/source.ts';
import { RecordingReader, type RecordingInput } from '../../src/guest/replay/recording-reader.ts';
import { FrontEnd } from './front-end.ts';
import { FrontEndError } from '../../src/guest/replay/front-end-channel.ts';
import type { DriverRegion } from '../../src/guest/replay/driver-memory.ts';
import { VhostUserServer } from '../../src/guest/vhost-user/server.ts';
import { VirtioGpu } from '../../src/guest/virtio-gpu/device.ts';
import { SysError } from '../../src/sys/errors.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { Random } from './random.ts';

export type FuzzStep =
  | { readonly kind: 'write'; readonly address: number; readonly bytes: Uint8Array }
  | { readonly kind: 'command'; readonly queue: number; readonly bytes: Uint8Array; readonly responseSpace: number };

export interface FuzzSession {
  readonly memory: readonly DriverRegion[];
  readonly steps: readonly FuzzStep[];
}

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

const BATCH = 32;
const MAX_GUEST_MEMORY = 64 * 2 ** 20;

/** Numbers near the limits of fields and checks. */
const INTERESTING = [
  0, 1, 2, 3, 4, 7, 15, 16, 17, 255, 256, 4095, 4096, 4097, 16384, 16385, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x4000_0000,
  0x7fff_ffff, 0x8000_0000, 0xffff_f000, 0xffff_ffff,
];
const ADDRESSES = [
  0,
  1,
  0x1000,
  0x10_0000,
  0xffff_f000,
  2 ** 32,
  5 * 2 ** 30,
  2 ** 46,
  2 ** 46 + 2 ** 28 - 8,
  2 ** 52,
  2 ** 53 - 1,
];

/** Up to `limit` commands of a recording, and as many memory writes; pixels have no influence on what can break. */
export function sessionOf(input: RecordingInput, limit: number): FuzzSession {
  using reader = RecordingReader.open(input);
  let memory: readonly DriverRegion[] = [];
  const steps: FuzzStep[] = [];
  let commands = 0;
  let writes = 0;
  for (let event = reader.next(); event !== null && commands < limit; event = reader.next()) {
    if (event.kind === 'memory') memory = event.regions;
    if (event.kind === 'write' && writes++ < limit)
      steps.push({ kind: 'write', address: event.guestAddress, bytes: event.bytes.slice() });
    if (event.kind === 'command') {
      commands++;
      steps.push({
        kind: 'command',
        queue: event.queue,
        bytes: event.bytes.slice(),
        responseSpace: event.responseSpace,
      });
    }
  }
  return { memory, steps };
}

export async function fuzz(options: FuzzOptions): Promise<FuzzResult> {
  const random = new Random(options.seed);
  const total = { sent: 0, handled: 0, refused: 0, connections: 0, resets: 0, faults: new Array<string>() };
  while (total.sent < options.commands && total.faults.length === 0) {
    using guest = new FuzzedGuest(random, random.pick(options.sessions));
    await guest.run();
    total.sent += guest.sent;
    total.handled += guest.device.stats.commands;
    total.refused += guest.device.stats.errors;
    total.connections += guest.connections;
    total.resets += guest.resets;
    total.faults.push(...guest.faults);
  }
  return total;
}

/** A screen that reads pixels and finishes flushes late, in any order. */
class LazySink implements SourceSink {
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
      const { bytes } = framebuffer.backing.pixels();
      for (let at = 0; at < bytes.length; at += 4096) this.sum += bytes[at]!;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
    }
  }
}

/** One device, and the front ends that connect to it. */
class FuzzedGuest implements Disposable {
  readonly device: VirtioGpu;
  readonly faults: string[] = [];
  sent = 0;
  connections = 0;
  resets = 0;
  readonly #random: Random;
  readonly #session: FuzzSession;
  readonly #sink: LazySink;

  constructor(random: Random, session: FuzzSession) {
    this.#random = random;
    this.#session = session;
    this.#sink = new LazySink(random);
    const scanouts = random.pick([1, 2, 16]);
    this.device = new VirtioGpu({
      scanouts,
      maxGuestMemory: MAX_GUEST_MEMORY,
      log: (level, message) => this.#logged(level, message),
    });
    this.device.connect(this.#sink);
  }

  async run(): Promise<void> {
    const steps = mutate(this.#session.steps, this.#random);
    const commands = steps.filter(({ kind }) => kind === 'command').length;
    while (this.sent < commands && this.faults.length === 0) await this.#connection(steps);
    this.#sink.finishSome();
    await this.#checkWorks();
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
    this.#sink.finishSome();
  }

  /** Plays steps from the first on, again after each reset, until the front end goes away. */
  async #connection(steps: readonly FuzzStep[]): Promise<void> {
    const random = this.#random;
    this.connections++;
    const [ours, theirs] = socketPair();
    using server = VhostUserServer.adopt(theirs, this.device, { log: () => undefined });
    using frontEnd = FrontEnd.create({
      socket: ours,
      memory: this.#session.memory,
      queueSizes: [random.pick([16, 64, 256]), random.pick([2, 16])],
      maxSegment: random.pick([24, 4096, 65536]),
    });
    try {
      await frontEnd.negotiate();
      await frontEnd.start(random.features());
      for (let at = 0; at < steps.length && server.connected;) {
        for (const end = Math.min(at + 1 + random.below(BATCH), steps.length); at < end; at++)
          this.#step(frontEnd, steps[at]!);
        const hostile = random.chance(0.02);
        if (hostile) this.#hostileRing(frontEnd);
        frontEnd.forceKick(0);
        frontEnd.forceKick(1);
        // The kicks came before this message, so they are handled when its reply is here.
        await frontEnd.channel.get(VHOST_USER.GET_FEATURES);
        if (random.chance(hostile ? 0.7 : 0.01)) {
          await this.#reset(frontEnd);
          at = 0;
        }
        if (random.chance(0.01)) await frontEnd.setMemory(this.#otherMemory());
        if (random.chance(0.005)) {
          await this.#malformed(frontEnd);
          return;
        }
      }
    } catch (error) {
      if (!(error instanceof FrontEndError)) throw error;
      // Only `#malformed` breaks the protocol, and the connection is closed then.
      if (!frontEnd.channel.closed) this.faults.push(`front end: ${error.code} ${error.message}`);
    }
  }

  #otherMemory(): readonly DriverRegion[] {
    return this.#random.chance(0.7)
      ? this.#session.memory
      : [{ guestAddress: 0x10_0000, size: 4096 * (1 + this.#random.below(64)) }];
  }

  #step(frontEnd: FrontEnd, step: FuzzStep): void {
    if (step.kind === 'write') {
      if (step.address + step.bytes.length <= frontEnd.memory.end) frontEnd.memory.write(step.address, step.bytes);
      return;
    }
    this.sent++;
    if (frontEnd.submit(step.queue, step.bytes, step.responseSpace) >= 0) return;
    // The ring is full of commands without an answer, or broken. A random reset will empty it.
    frontEnd.forceKick(step.queue);
  }

  async #reset(frontEnd: FrontEnd): Promise<void> {
    this.resets++;
    if (this.#random.chance(0.5)) this.#sink.finishSome();
    await frontEnd.stop();
    this.#expectNothingKept('reset');
    await frontEnd.start(this.#random.features());
  }

  /** Writes into a ring what no honest driver would. */
  #hostileRing(frontEnd: FrontEnd): void {
    const random = this.#random;
    const ring = frontEnd.ring(random.below(2));
    const address = (): number =>
      random.chance(0.5) ? frontEnd.driver.address + random.below(2 ** 20) : random.pick(ADDRESSES);
    for (let i = random.below(ring.size); i >= 0; i--) {
      ring.setDescriptor(
        random.below(ring.size),
        address(),
        random.chance(0.5) ? random.below(8192) : random.pick(INTERESTING),
        random.below(8),
        random.below(ring.size * 2),
      );
    }
    if (random.chance(0.2)) ring.setAvailIdx(random.below(0x1_0000));
    for (let i = random.below(4); i >= 0; i--)
      ring.publish(random.chance(0.9) ? random.below(ring.size) : random.below(0x1_0000));
  }

  /** Sends a mostly malformed vhost-user message. The back end has to refuse it or close the connection. */
  async #malformed(frontEnd: FrontEnd): Promise<void> {
    const random = this.#random;
    const size = random.chance(0.7) ? random.below(64) : random.below(0x2_0000);
    const bytes = random.bytes(12 + Math.min(size, 4096));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, random.below(50), true);
    view.setUint32(4, random.chance(0.9) ? 1 : random.below(16), true);
    view.setUint32(8, size, true);
    frontEnd.channel.sendRaw(bytes);
    // The back end waits for the rest of an incomplete message until the stream ends.
    if (size === bytes.length - 12) await frontEnd.channel.get(VHOST_USER.GET_FEATURES);
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

/** The session with some steps changed, dropped, repeated or moved. */
function mutate(steps: readonly FuzzStep[], random: Random): FuzzStep[] {
  const mutated: FuzzStep[] = [];
  const rate = random.pick([0.02, 0.1, 0.4]);
  for (const step of steps) {
    if (!random.chance(rate)) {
      mutated.push(step);
      continue;
    }
    switch (random.below(6)) {
      case 0:
        break;
      case 1:
        mutated.push(step, step);
        break;
      case 2:
        mutated.splice(random.below(mutated.length + 1), 0, step);
        break;
      default:
        mutated.push(step.kind === 'command' ? mutateCommand(step, random) : step);
    }
  }
  return mutated;
}

function mutateCommand(step: FuzzStep & { kind: 'command' }, random: Random): FuzzStep {
  let { queue, responseSpace } = step;
  let bytes = step.bytes.slice();
  const view = new DataView(bytes.buffer);
  for (let i = random.below(4); i >= 0; i--) {
    const word = random.below(Math.max(bytes.length >> 2, 1)) * 4;
    switch (random.below(8)) {
      case 0:
        queue = 1 - queue;
        break;
      case 1:
        responseSpace = random.pick([0, 1, 23, 24, 25, 407, 408, 1064, 4096]);
        break;
      case 2:
        bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
        break;
      case 3:
        if (bytes.length >= 8) view.setUint32(word, view.getUint32(random.below(bytes.length >> 2) * 4, true), true);
        break;
      case 4:
        if (bytes.length >= 4) view.setUint32(0, random.pick(Object.values(VIRTIO_GPU_CMD)), true);
        break;
      default:
        if (bytes.length >= 4)
          view.setUint32(word, random.chance(0.3) ? random.below(8) : random.pick(INTERESTING), true);
    }
  }
  if (random.chance(0.1)) bytes = bytes.slice(0, random.below(bytes.length + 1));
  if (random.chance(0.05)) bytes = new Uint8Array(Buffer.concat([bytes, random.bytes(random.below(300))]));
  if (bytes.length + responseSpace === 0) responseSpace = 24;
  return { ...step, queue, responseSpace, bytes };
}
