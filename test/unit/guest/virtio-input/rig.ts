import { EV, SYN_REPORT } from '../../../../protocols/input-event-codes.ts';
import { virtio_input_event } from '../../../../protocols/virtio-input.ts';
import { vringAvailSize, vringDescSize, vringUsedSize } from '../../../../protocols/virtio-ring.ts';
import { GuestMemory } from '../../../../src/guest/memory.ts';
import { BufferPool } from '../../../../src/guest/replay/driver-memory.ts';
import { DriverQueue } from '../../../../src/guest/replay/driver-queue.ts';
import type { VirtioInput } from '../../../../src/guest/virtio-input/device.ts';
import { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import { DisposableStack } from '../../../../src/sys/disposable-stack.ts';
import { Mapping, PAGE_SIZE } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';

const RAM = 0x4000_0000;
const RAM_SIZE = 2 ** 20;
const USER = 0x7f00_0000_0000;
/** What QEMU gives a vhost-user-input-pci. */
const QUEUE_SIZE = 4;
const NOTHING = new Uint8Array(0);

/** Events as `type code value` in decimal: those up to a SYN_REPORT, without it. */
export type Group = string[];

/**
 * The driver of an input device, with real rings between them, in this thread. Like Linux, it gives every buffer back
 * once it has the event, unless it is paused.
 */
export class InputDriver implements Disposable {
  readonly #groups: Group[] = [];
  readonly #device: VirtioInput;
  readonly #stack = new DisposableStack();
  readonly #memory: GuestMemory;
  readonly #queues: Virtqueue[] = [];
  readonly #rings: DriverQueue[] = [];
  readonly #stopped: number[] = [0, 0];
  #group: Group = [];
  #isPaused = false;

  constructor(device: VirtioInput) {
    this.#device = device;
    const memfd = this.#stack.use(createMemfd('guest', RAM_SIZE));
    const ram = this.#stack.use(Mapping.file(memfd, 0, RAM_SIZE, 'read-write'));
    this.#memory = this.#stack.use(
      GuestMemory.map([{ guestAddress: RAM, size: RAM_SIZE, userAddress: USER, mmapOffset: 0 }], [memfd.dup()]),
    );
    const pool = new BufferPool(PAGE_SIZE, RAM_SIZE);
    const memory = { address: RAM, bytes: ram.bytes, view: ram.view, pool };
    for (let index = 0; index < 2; index++)
      this.#rings.push(
        new DriverQueue(memory, { size: QUEUE_SIZE, indirect: false, eventIdx: true, maxSegment: PAGE_SIZE }),
      );
    device.attached({
      configChanged: () => true,
      failed: (error) => {
        throw error;
      },
    });
    device.negotiated();
    device.memoryChanged();
    this.start();
    for (let i = 0; i < QUEUE_SIZE; i++) this.#giveBuffer();
    if (this.#rings[0]!.takeKick()) device.kicked(0);
  }

  /** Starts the queues as a VMM does when its guest runs; also after `stop`. */
  start(): void {
    const onBroken = (reason: string) => {
      throw new Error(reason);
    };
    this.#rings.forEach((ring, index) => {
      const options = {
        size: QUEUE_SIZE,
        base: this.#stopped[index]!,
        eventIdx: true,
        indirect: true,
        call: () => undefined,
        onBroken,
      };
      const queue = new Virtqueue(options, this.#memory, this.#areas(ring));
      this.#queues[index] = queue;
      this.#device.queueStarted(index, queue);
      this.#device.kicked(index);
    });
  }

  /** Stops the queues as a VMM does when its guest is paused. */
  stop(): void {
    this.#queues.forEach((queue, index) => {
      this.#device.queueStopped(index);
      this.#stopped[index] = queue.base;
      queue.stop();
    });
    this.#device.halted();
  }

  /** Gives no buffers back from now on. */
  pause(): void {
    this.#isPaused = true;
  }

  /** Gives back the buffers that it kept. */
  resume(): void {
    this.#isPaused = false;
  }

  /** Takes the groups that have arrived. */
  take(): Group[] {
    let taken = 0;
    do {
      if (this.#rings[0]!.takeKick()) this.#device.kicked(0);
      taken = this.#isPaused ? 0 : this.#drain();
      for (let i = 0; i < taken; i++) this.#giveBuffer();
    } while (taken > 0);
    return this.#groups.splice(0);
  }

  /** Sends a status event, as Linux does for an LED. */
  status(bytes: Uint8Array): void {
    if (this.#rings[1]!.submit(bytes, 0) < 0) throw new Error('the ring is full');
    this.#device.kicked(1);
    this.#rings[1]!.drain(() => undefined);
  }

  led(code: number, value: number): void {
    this.status(virtio_input_event.encode({ type: EV.LED, code, value }));
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#device.reset();
    this.#device.detached();
    this.#stack[Symbol.dispose]();
  }

  #drain(): number {
    return this.#rings[0]!.drain((_token, response, written) => {
      if (written !== virtio_input_event.size) throw new Error(`an event of ${written} bytes`);
      const { type, code, value } = virtio_input_event.decode(response);
      if (type === EV.SYN && code === SYN_REPORT) this.#groups.push(this.#group.splice(0));
      else this.#group.push(`${type} ${code} ${value | 0}`);
    });
  }

  #giveBuffer(): void {
    if (this.#rings[0]!.submit(NOTHING, virtio_input_event.size) < 0) throw new Error('the ring is full');
  }

  #areas({ at, size }: DriverQueue): { descriptors: Uint8Array; available: Uint8Array; used: Uint8Array } {
    const area = (offset: number, length: number) => this.#stack.use(this.#memory.ring(USER + offset, length)).bytes;
    return {
      descriptors: area(at.desc, vringDescSize(size)),
      available: area(at.avail, vringAvailSize(size)),
      used: area(at.used, vringUsedSize(size)),
    };
  }
}
