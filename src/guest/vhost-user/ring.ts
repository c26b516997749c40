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
  readonly #onFailed: (error: unknown) => void;
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

  /** `onFailed` gets whatever is thrown when the ring is kicked. */
  constructor(index: number, device: VirtioDevice, log: Log, onFailed: (error: unknown) => void) {
    this.index = index;
    this.#device = device;
    this.#log = log;
    this.#onFailed = onFailed;
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

  /** Consumes `fd`, which must be an eventfd and no semaphore. */
  setKick(fd: OwnedFd | null): void {
    if (fd === null)
      throw new VhostUserError('ring', `ring ${this.index} has no kick descriptor; polling a ring is not supported`);
    const kick = adoptEventFd(fd, this.index);
    if (kick.isSemaphore()) {
      kick[Symbol.dispose]();
      throw new VhostUserError('ring', `the kick descriptor of ring ${this.index} is a semaphore, or read by others`);
    }
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

  /** Maps the ring and watches for kicks. VhostUserError `ring` if a setting is missing or it is not aligned, GuestMemoryError `ring` if it is not in memory. */
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

  /** Maps a running ring in a new memory table. GuestMemoryError or VhostUserError `ring`, and nothing has changed, if it is not in there or not aligned. */
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
    const area = (address: number, length: number, align: number): Uint8Array => {
      const { bytes } = stack.use(memory.ring(address, length));
      if (bytes.byteOffset % align !== 0)
        throw new VhostUserError('ring', `ring ${this.index} is not aligned in the file that guest memory is in`);
      return bytes;
    };
    return {
      descriptors: area(descriptors, vringDescSize(this.#size), VRING_DESC_ALIGN_SIZE),
      available: area(available, vringAvailSize(this.#size), VRING_AVAIL_ALIGN_SIZE),
      used: area(used, vringUsedSize(this.#size), VRING_USED_ALIGN_SIZE),
    };
  }

  #watch(kick: EventFd): void {
    this.#poll = Poll.readable(kick, () => {
      try {
        if (kick.consume()) this.#device.kicked(this.index);
      } catch (error) {
        this.#onFailed(error);
      }
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
  using stack = new DisposableStack();
  stack.use(fd);
  if (readlinkSync(`/proc/self/fd/${fd.fd}`) !== 'anon_inode:[eventfd]')
    throw new VhostUserError('ring', `the descriptor for ring ${ring} is not an eventfd`);
  stack.move();
  return EventFd.adopt(fd);
}
