import { readlinkSync } from 'node:fs';
import {
  VRING_AVAIL_ALIGN_SIZE,
  VRING_DESC_ALIGN_SIZE,
  VRING_USED_ALIGN_SIZE,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '../../../protocols/virtio-ring.ts';
import type { Log } from '../../core/log.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { EventFd } from '../../sys/eventfd.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Poll } from '../../sys/poll.ts';
import type { GuestMemory } from '../memory.ts';
import type { VirtioDevice } from '../virtio/device.ts';
import { MAX_QUEUE_SIZE, type RingBytes, Virtqueue } from '../virtio/queue.ts';
import { VhostUserError } from './errors.ts';
import type { RingAddresses } from './messages.ts';

/**
 * The settings of one ring, and its queue while it runs: from `start` to `stop`, which the back end calls.
 * Setters take effect at once where the protocol lets a running ring change, and throw VhostUserError `ring`
 * where it does not.
 */
export class Ring implements Disposable {
  readonly index: number;
  readonly #device: VirtioDevice;
  readonly #log: Log;
  #size = 0;
  #base = 0;
  #addresses: RingAddresses | null = null;
  #kick: EventFd | null = null;
  #call: EventFd | null = null;
  #error: EventFd | null = null;
  #queue: Virtqueue | null = null;
  /** The mappings of the areas while it runs. */
  #areas: DisposableStack | null = null;
  #poll: Poll | null = null;
  /** The last SET_VRING_ENABLE; null before the first. */
  enabled: boolean | null = null;

  constructor(index: number, device: VirtioDevice, log: Log) {
    this.index = index;
    this.#device = device;
    this.#log = log;
  }

  /** The queue while the ring runs. */
  get queue(): Virtqueue | null {
    return this.#queue;
  }

  /** There is a kick descriptor: the front end wants the ring started. */
  get hasKick(): boolean {
    return this.#kick !== null;
  }

  /** The available index from which the ring resumes, or will resume. */
  get base(): number {
    return this.#queue?.base ?? this.#base;
  }

  setSize(size: number): void {
    this.#mustBeStopped('size');
    if (size < 1 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0) {
      throw new VhostUserError(
        'ring',
        `ring ${this.index} cannot have ${size} descriptors; powers of two up to ${MAX_QUEUE_SIZE} are supported`,
      );
    }
    this.#size = size;
  }

  setBase(base: number): void {
    this.#mustBeStopped('base');
    if (base > 0xffff)
      throw new VhostUserError('ring', `ring ${this.index} cannot start at index ${base}, which has more than 16 bits`);
    this.#base = base;
  }

  setAddresses(addresses: RingAddresses, memory: GuestMemory | null): void {
    if (
      addresses.descriptors % VRING_DESC_ALIGN_SIZE !== 0 ||
      addresses.available % VRING_AVAIL_ALIGN_SIZE !== 0 ||
      addresses.used % VRING_USED_ALIGN_SIZE !== 0
    ) {
      throw new VhostUserError('ring', `the addresses of ring ${this.index} are not aligned`);
    }
    if (this.#queue !== null && memory !== null) this.#remap(memory, addresses);
    this.#addresses = addresses;
  }

  /** Consumes `fd`, which must be an eventfd. */
  setKick(fd: OwnedFd | null): void {
    if (fd === null)
      throw new VhostUserError('ring', `ring ${this.index} has no kick descriptor; polling a ring is not supported`);
    const kick = adoptEventFd(fd, this.index);
    this.#dropKick();
    this.#kick = kick;
    if (this.#queue !== null) this.#watch(kick);
  }

  /** Consumes `fd`, which must be an eventfd; null if the driver polls. */
  setCall(fd: OwnedFd | null): void {
    const call = fd === null ? null : adoptEventFd(fd, this.index);
    this.#call?.[Symbol.dispose]();
    this.#call = call;
    // Without this, the driver would notice chains pushed before only with the next one.
    if (this.#queue !== null) call?.signal();
  }

  /** Consumes `fd`, which must be an eventfd. */
  setError(fd: OwnedFd | null): void {
    const error = fd === null ? null : adoptEventFd(fd, this.index);
    this.#error?.[Symbol.dispose]();
    this.#error = error;
  }

  /** Maps the ring and watches for kicks. VhostUserError `ring` if a setting is missing, GuestMemoryError `ring` if it is not in memory. */
  start(memory: GuestMemory, features: { readonly eventIdx: boolean; readonly indirect: boolean }): Virtqueue {
    const kick = this.#kick;
    if (kick === null || this.#size === 0 || this.#addresses === null)
      throw new VhostUserError(
        'ring',
        `cannot start ring ${this.index}: its kick descriptor, size or addresses were not sent`,
      );
    using stack = new DisposableStack();
    const bytes = this.#map(memory, this.#addresses, stack);
    const queue = new Virtqueue(
      {
        size: this.#size,
        base: this.#base,
        ...features,
        call: () => this.#call?.signal(),
        onBroken: (reason) => {
          this.#error?.signal();
          this.#log('error', `guest broke ring ${this.index}: ${reason}`);
        },
      },
      memory,
      bytes,
    );
    this.#watch(kick);
    this.#queue = queue;
    this.#areas = stack.move();
    return queue;
  }

  /** Maps a running ring in a new memory table. GuestMemoryError `ring`, and nothing has changed, if it is not in there. */
  remap(memory: GuestMemory): void {
    if (this.#addresses !== null) this.#remap(memory, this.#addresses);
  }

  #remap(memory: GuestMemory, addresses: RingAddresses): void {
    using stack = new DisposableStack();
    const bytes = this.#map(memory, addresses, stack);
    this.#queue?.remap(memory, bytes);
    this.#areas?.[Symbol.dispose]();
    this.#areas = stack.move();
  }

  /** The queue must not be used after this. Descriptors stay for the next start. */
  stop(): void {
    if (this.#queue === null) return;
    this.#base = this.#queue.base;
    this.#queue.stop();
    this.#queue = null;
    this.#unwatch();
    this.#areas?.[Symbol.dispose]();
    this.#areas = null;
  }

  /** Stops, and drops the kick descriptor: the next start needs a new one. */
  halt(): void {
    this.stop();
    this.#dropKick();
  }

  [Symbol.dispose](): void {
    this.halt();
    this.#error?.[Symbol.dispose]();
    this.#call?.[Symbol.dispose]();
  }

  #map(memory: GuestMemory, { descriptors, available, used }: RingAddresses, stack: DisposableStack): RingBytes {
    return {
      descriptors: stack.use(memory.ring(descriptors, vringDescSize(this.#size))).bytes,
      available: stack.use(memory.ring(available, vringAvailSize(this.#size))).bytes,
      used: stack.use(memory.ring(used, vringUsedSize(this.#size))).bytes,
    };
  }

  #watch(kick: EventFd): void {
    this.#poll = Poll.readable(kick, () => {
      if (kick.consume()) this.#device.kicked(this.index);
    });
  }

  #unwatch(): void {
    this.#poll?.[Symbol.dispose]();
    this.#poll = null;
  }

  #dropKick(): void {
    this.#unwatch();
    this.#kick?.[Symbol.dispose]();
    this.#kick = null;
  }

  #mustBeStopped(what: string): void {
    if (this.#queue !== null)
      throw new VhostUserError('ring', `the ${what} of ring ${this.index} cannot change while it runs`);
  }
}

/** Refuses other descriptors: a pipe whose other end is closed would stay readable for ever, or fail. */
function adoptEventFd(fd: OwnedFd, ring: number): EventFd {
  if (readlinkSync(`/proc/self/fd/${fd.fd}`) !== 'anon_inode:[eventfd]') {
    fd[Symbol.dispose]();
    throw new VhostUserError('ring', `the descriptor for ring ${ring} is not an eventfd`);
  }
  return EventFd.adopt(fd);
}
