import * as wire from '../../../protocols/vhost-user.ts';
import { EventFd } from '../../sys/eventfd.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { Poll } from '../../sys/poll.ts';
import { type DriverMemory, DriverQueue, type DriverQueueOptions, type UsedCallback } from './driver-queue.ts';
import { type FrontEndChannel, FrontEndError } from './front-end-channel.ts';
import { userAddress } from './memory-table.ts';
import { DRIVER_ADDRESS } from './driver-memory.ts';

interface Waiter {
  resolve(response: Uint8Array): void;
  reject(error: FrontEndError): void;
}

/** A driver's queue with its two eventfds; lives from one `start` of a front end to its `stop`. */
export class FrontEndQueue implements Disposable {
  /** The ring itself, for raw access. */
  readonly ring: DriverQueue;
  /** We signal it, the device waits for it. */
  readonly kickFd: EventFd;
  /** The device's interrupt. */
  readonly callFd: EventFd;
  onUsed: UsedCallback | null;
  readonly #resources: DisposableStack;
  readonly #waiters = new Map<number, Waiter>();

  constructor(memory: DriverMemory, options: DriverQueueOptions, onUsed: UsedCallback | null) {
    using resources = new DisposableStack();
    this.ring = new DriverQueue(memory, options);
    this.onUsed = onUsed;
    this.kickFd = resources.use(EventFd.create());
    this.callFd = resources.use(EventFd.create());
    resources.use(Poll.readable(this.callFd, () => this.#interrupted()));
    this.#resources = resources.move();
  }

  /** Tells the back end where the ring is, empty, and how to be called. Rejects FrontEndError. */
  async start(channel: FrontEndChannel, index: number): Promise<void> {
    const user = userAddress(DRIVER_ADDRESS);
    const { desc, avail, used } = this.ring.at;
    const addresses = { desc_user_addr: user + desc, avail_user_addr: user + avail, used_user_addr: user + used };
    const number = wire.VhostUserU64.encode({ u64: BigInt(index) });
    await channel.set(wire.VHOST_USER.SET_VRING_NUM, wire.vhost_vring_state.encode({ index, num: this.ring.size }));
    await channel.set(wire.VHOST_USER.SET_VRING_BASE, wire.vhost_vring_state.encode({ index, num: 0 }));
    await channel.set(wire.VHOST_USER.SET_VRING_ADDR, wire.vhost_vring_addr.encode({ index, ...addresses }));
    await channel.set(wire.VHOST_USER.SET_VRING_CALL, number, [this.callFd]);
    await channel.set(wire.VHOST_USER.SET_VRING_KICK, number, [this.kickFd]);
  }

  /** See DriverQueue; call `kick` afterwards. */
  submit(request: Uint8Array, responseSpace: number, length = request.length): number {
    return this.ring.submit(request, responseSpace, length);
  }

  /** Tells the device of what was submitted, if it wants to know. */
  kick(): void {
    if (this.ring.takeKick()) this.kickFd.signal();
  }

  /** Kicks, wanted or not. */
  forceKick(): void {
    this.ring.takeKick();
    this.kickFd.signal();
  }

  /** Submits, kicks, and resolves with a copy of the response. Rejects FrontEndError `full`, `reset`, `closed`. */
  request(request: Uint8Array, responseSpace: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const token = this.submit(request, responseSpace);
      if (token < 0) {
        reject(new FrontEndError('full', 'the ring is full'));
        return;
      }
      this.#waiters.set(token, { resolve, reject });
      this.kick();
    });
  }

  /** Takes used chains back now, without waiting for the interrupt. How many there were. */
  poll(): number {
    return this.ring.drain(this.#used);
  }

  rejectAll(error: FrontEndError): void {
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }

  #interrupted(): void {
    this.callFd.consume();
    this.poll();
  }

  readonly #used: UsedCallback = (token, response, written) => {
    const waiter = this.#waiters.size > 0 ? this.#waiters.get(token) : undefined;
    if (waiter === undefined) {
      this.onUsed?.(token, response, written);
      return;
    }
    this.#waiters.delete(token);
    waiter.resolve(response.slice());
  };
}
