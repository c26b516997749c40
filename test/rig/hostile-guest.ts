import { VIRTIO_GPU_CMD } from '../../protocols/virtio-gpu.ts';
import { VHOST_USER } from '../../protocols/vhost-user.ts';
import type { DriverRegion } from '../../src/guest/replay/driver-memory.ts';
import { FrontEndError } from '../../src/guest/replay/front-end-channel.ts';
import { RecordingReader, type RecordingInput } from '../../src/guest/replay/recording-reader.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { FrontEnd } from './front-end.ts';
import type { Random } from './random.ts';

export type FuzzStep =
  | { readonly kind: 'write'; readonly address: number; readonly bytes: Uint8Array }
  | { readonly kind: 'command'; readonly queue: number; readonly bytes: Uint8Array; readonly responseSpace: number };

export interface FuzzSession {
  readonly memory: readonly DriverRegion[];
  readonly steps: readonly FuzzStep[];
}

/** Called while a HostileGuest plays. */
export interface HostileGuestListener {
  /** A batch of commands was answered, or swallowed by a broken ring. */
  batch?(): void;
  /** A reset is about to begin. */
  resetting?(): void;
  /** The device was reset and has no driver. */
  reset?(): void;
}

const BATCH = 32;

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

/**
 * A guest and its VMM that play a mutated session: changed fields, dropped and repeated commands, descriptors that
 * point anywhere, other memory tables, resets, malformed messages. Everything follows from `random`.
 */
export class HostileGuest {
  /** Commands that were sent; broken rings swallow some. */
  sent = 0;
  connections = 0;
  resets = 0;
  readonly #random: Random;
  readonly #memory: readonly DriverRegion[];
  readonly #listener: HostileGuestListener;
  readonly #steps: readonly FuzzStep[];
  readonly #commands: number;

  constructor(random: Random, session: FuzzSession, listener: HostileGuestListener = {}) {
    this.#random = random;
    this.#memory = session.memory;
    this.#listener = listener;
    this.#steps = mutate(session.steps, random);
    this.#commands = this.#steps.filter(({ kind }) => kind === 'command').length;
  }

  /** Whether as many commands were sent as the session has. */
  get isDone(): boolean {
    return this.sent >= this.#commands;
  }

  /**
   * Plays the session over `socket`, which is consumed, from its first step on and again after each reset. Vanishes
   * with commands in flight at its end, after a malformed message, or when `signal` is aborted. Rejects if the back end
   * refuses what is allowed.
   */
  async play(socket: OwnedFd, signal?: AbortSignal): Promise<void> {
    const random = this.#random;
    this.connections++;
    using frontEnd = FrontEnd.create({
      socket,
      memory: this.#memory,
      queueSizes: [random.pick([16, 64, 256]), random.pick([2, 16])],
      maxSegment: random.pick([24, 4096, 65536]),
    });
    signal?.addEventListener('abort', () => frontEnd[Symbol.dispose](), { once: true });
    try {
      await frontEnd.negotiate();
      await frontEnd.start(random.features());
      await this.#batches(frontEnd);
    } catch (error) {
      // Only `#malformed` breaks the protocol, and the connection is closed then.
      if (!(error instanceof FrontEndError && (error.code === 'closed' || frontEnd.channel.closed))) throw error;
    }
  }

  async #batches(frontEnd: FrontEnd): Promise<void> {
    const random = this.#random;
    const steps = this.#steps;
    for (let at = 0; at < steps.length && !frontEnd.channel.closed;) {
      for (const end = Math.min(at + 1 + random.below(BATCH), steps.length); at < end; at++)
        this.#step(frontEnd, steps[at]!);
      const hostile = random.chance(0.02);
      if (hostile) this.#hostileRing(frontEnd);
      frontEnd.forceKick(0);
      frontEnd.forceKick(1);
      // The kicks came before this message, so they are noticed when its reply is here.
      await frontEnd.channel.get(VHOST_USER.GET_FEATURES);
      this.#listener.batch?.();
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
  }

  #otherMemory(): readonly DriverRegion[] {
    return this.#random.chance(0.7)
      ? this.#memory
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
    this.#listener.resetting?.();
    await frontEnd.stop();
    this.#listener.reset?.();
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
