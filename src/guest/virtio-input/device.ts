import { BUS_VIRTUAL, EV, SYN_REPORT } from '../../../protocols/input-event-codes.ts';
import * as wire from '../../../protocols/virtio-input.ts';
import { virtio_input_event } from '../../../protocols/virtio-input.ts';
import { VIRTIO_ID_INPUT } from '../../../protocols/virtio-ring.ts';
import { Pump } from '../../sys/pump.ts';
import type { Chain } from '../virtio/chain.ts';
import type { VirtioDevice, VirtioTransport } from '../virtio/device.ts';
import type { Virtqueue } from '../virtio/queue.ts';

/** What a device is, as its config space describes it to the driver. */
export interface InputDescription {
  /** ASCII, like the serial. Linux reads at most 63 characters. */
  readonly name: string;
  readonly serial: string;
  /** Tells the devices of this project apart where names are not looked at. */
  readonly product: number;
  /** INPUT_PROP_* */
  readonly properties: readonly number[];
  /** Codes by event type. */
  readonly events: ReadonlyMap<number, readonly number[]>;
  /** The largest value of each absolute axis; the smallest is 0. */
  readonly axisMax: ReadonlyMap<number, number>;
}

const { select: SELECT, subsel: SUBSEL, size: SIZE, u: ANSWER } = wire.virtio_input_config.offset;
const VERSION = 1;

/**
 * The config space of an input device (virtio 1.3, 5.8.4): the driver selects what it wants to know by writing
 * two bytes, and reads the answer behind them.
 */
class ConfigSpace {
  readonly bytes = new Uint8Array(wire.virtio_input_config.size);
  readonly #answers = new Map<number, Uint8Array>();

  constructor(description: InputDescription) {
    const { name, serial, product, properties, events, axisMax } = description;
    this.#answer(wire.VIRTIO_INPUT_CFG_ID_NAME, 0, Buffer.from(name, 'ascii'));
    this.#answer(wire.VIRTIO_INPUT_CFG_ID_SERIAL, 0, Buffer.from(serial, 'ascii'));
    this.#answer(
      wire.VIRTIO_INPUT_CFG_ID_DEVIDS,
      0,
      wire.virtio_input_devids.encode({ bustype: BUS_VIRTUAL, product, version: VERSION }),
    );
    this.#answer(wire.VIRTIO_INPUT_CFG_PROP_BITS, 0, bitmap(properties));
    for (const [type, codes] of events) this.#answer(wire.VIRTIO_INPUT_CFG_EV_BITS, type, bitmap(codes));
    for (const axis of events.get(EV.ABS) ?? []) {
      this.#answer(wire.VIRTIO_INPUT_CFG_ABS_INFO, axis, wire.virtio_input_absinfo.encode({ max: axisMax.get(axis)! }));
    }
  }

  /** Only the selection is taken from `bytes`: QEMU writes the whole space back. */
  write(offset: number, bytes: Uint8Array): void {
    const select = bytes[SELECT - offset] ?? this.bytes[SELECT]!;
    const subsel = bytes[SUBSEL - offset] ?? this.bytes[SUBSEL]!;
    const answer = this.#answers.get(key(select, subsel));
    this.bytes.fill(0);
    this.bytes[SELECT] = select;
    this.bytes[SUBSEL] = subsel;
    if (!answer) return;
    this.bytes[SIZE] = answer.length;
    this.bytes.set(answer, ANSWER);
  }

  #answer(select: number, subsel: number, answer: Uint8Array): void {
    this.#answers.set(key(select, subsel), answer);
  }
}

function key(select: number, subsel: number): number {
  return (select << 8) | subsel;
}

function bitmap(bits: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(bits.length === 0 ? 0 : (Math.max(...bits) >> 3) + 1);
  for (const bit of bits) bytes[bit >> 3]! |= 1 << (bit & 7);
  return bytes;
}

/** More than any group can have. */
const CAPACITY = 1024;
const WORDS = virtio_input_event.size / 4;

/**
 * Groups of events that the driver has no buffers for yet, laid out as they will be in those. QEMU's queue has
 * four buffers, fewer than many groups need: a group goes out in pieces, which the guest joins at its
 * SYN_REPORT. A group that has begun is always ended.
 */
export class EventBacklog {
  readonly #words = new Uint32Array(CAPACITY * WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  #first = 0;
  #count = 0;
  /** How many of the events are in groups that have ended. */
  #ended = 0;

  /** How many events it holds. */
  get count(): number {
    return this.#count;
  }

  /** Whether a group of `events` events fits, with its SYN_REPORT. */
  hasRoom(events: number): boolean {
    return this.#count + events + 1 <= CAPACITY;
  }

  /** Call only with room for it. `value` has 32 bits, signed or unsigned. */
  add(type: number, code: number, value: number): void {
    const at = ((this.#first + this.#count++) % CAPACITY) * WORDS;
    this.#words[at] = type | (code << 16);
    this.#words[at + 1] = value;
  }

  /** Ends the group with a SYN_REPORT, unless nothing was added to it. */
  endGroup(): void {
    if (this.#count === this.#ended) return;
    this.add(EV.SYN, SYN_REPORT, 0);
    this.#ended = this.#count;
  }

  /** Moves the first event into a buffer of the driver. False if the buffer is too small, and nothing was moved. */
  moveFirst(into: Chain): boolean {
    if (
      into.write(0, this.#bytes, this.#first * virtio_input_event.size, virtio_input_event.size) <
      virtio_input_event.size
    )
      return false;
    this.#first = (this.#first + 1) % CAPACITY;
    this.#count--;
    this.#ended--;
    return true;
  }

  clear(): void {
    this.#count = 0;
    this.#ended = 0;
  }
}

const EVENT_QUEUE = 0;
const STATUS_QUEUE = 1;
const LEDS = 16;
const { type: TYPE, code: CODE, value: VALUE } = virtio_input_event.field;

/**
 * A virtio input device (virtio 1.3, 5.8). It keeps the state of its keys and axes, and the state that it has
 * reported to the driver; it sends the difference:
 *
 *     state -> report -> backlog -> the driver's buffers
 *
 * A driver that takes no events for a while therefore loses short press/release pairs, but always learns that
 * a key is up. Groups with keys or touches are kept in order as long as there is room. Groups that only move
 * something wait while others are in the backlog, because the newest position replaces all before it.
 */
export abstract class VirtioInput implements VirtioDevice {
  readonly id = VIRTIO_ID_INPUT;
  readonly queueCount = 2;
  readonly features = 0n;
  readonly config: Uint8Array;
  readonly #configSpace: ConfigSpace;
  readonly #backlog = new EventBacklog();
  readonly #status = new Uint8Array(virtio_input_event.size);
  readonly #statusView = new DataView(this.#status.buffer);
  readonly #onLeds: (leds: number) => void;
  readonly #onTaken: () => void;
  /** A guest that adds chains as fast as they are taken must not block the event loop. */
  readonly #sending = new Pump(this.#guard(() => this.#send()));
  readonly #reading = new Pump(this.#guard(() => this.#read()));
  #eventQueue: Virtqueue | null = null;
  #statusQueue: Virtqueue | null = null;
  #transport: VirtioTransport | null = null;
  /** Something has changed since the last `frame`. */
  #isOpen = false;
  #leds = 0;

  constructor(description: InputDescription, onLeds: (leds: number) => void, onTaken: () => void) {
    this.#configSpace = new ConfigSpace(description);
    this.config = this.#configSpace.bytes;
    this.#onLeds = onLeds;
    this.#onTaken = onTaken;
  }

  /** See InputSink. */
  get leds(): number {
    return this.#leds;
  }

  /** The driver has been given every event. */
  get isTaken(): boolean {
    return this.#backlog.count === 0 && !this.hasReport;
  }

  /** Ends a frame: everything since the last one happened at the same time. */
  frame(): void {
    this.#isOpen = false;
    this.#sending.start();
  }

  abstract releaseAll(): void;

  attached(transport: VirtioTransport): void {
    this.#transport = transport;
  }

  detached(): void {
    this.#transport = null;
  }

  negotiated(): void {}

  memoryChanged(): void {}

  writeConfig(offset: number, bytes: Uint8Array): void {
    this.#configSpace.write(offset, bytes);
  }

  queueStarted(index: number, queue: Virtqueue): void {
    if (index === EVENT_QUEUE) this.#eventQueue = queue;
    else this.#statusQueue = queue;
  }

  queueStopped(index: number): void {
    if (index === EVENT_QUEUE) this.#eventQueue = null;
    else this.#statusQueue = null;
  }

  halted(): void {}

  kicked(index: number): void {
    if (index === EVENT_QUEUE) this.#sending.start();
    else this.#reading.start();
  }

  /** The next driver starts with nothing pressed: a key that is held now is reported from its next press on. */
  reset(): void {
    this.queueStopped(EVENT_QUEUE);
    this.queueStopped(STATUS_QUEUE);
    this.#backlog.clear();
    this.clear();
    this.#setLeds(0);
  }

  /** A driver takes events. Without one, distances and wheel steps are dropped. */
  protected get hasDriver(): boolean {
    return this.#eventQueue !== null;
  }

  /** Call before a change that the next `frame` ends. */
  protected begin(): void {
    this.#isOpen = true;
  }

  /** The reported state differs from the state. */
  protected abstract get hasReport(): boolean;

  /** Only positions and distances differ: later ones can replace them or be added to them. */
  protected abstract get canWait(): boolean;

  /** The most events that `report` would add now. */
  protected abstract get maxEvents(): number;

  /** Adds the events of one group, without its SYN_REPORT, that bring the driver closer to the current state. */
  protected abstract report(into: EventBacklog): void;

  /** Nothing is pressed and nothing has been reported; positions stay. */
  protected abstract clear(): void;

  /** Passes on what should not happen: it may happen in a turn of the event loop that belongs to no caller. */
  #guard(step: () => boolean): () => boolean {
    return () => {
      try {
        return step();
      } catch (error) {
        this.#transport?.failed(error);
        return false;
      }
    };
  }

  /** Whether more can be sent at once: a ring of buffers that are too small for an event goes back without one. */
  #send(): boolean {
    const queue = this.#eventQueue;
    if (!queue) return false;
    this.#collect();
    for (let turn = 0; turn <= queue.size && this.#backlog.count > 0; turn++) {
      const chain = queue.pop();
      if (!chain) return false;
      queue.push(chain, this.#backlog.moveFirst(chain) ? virtio_input_event.size : 0);
      if (this.#backlog.count === 0) this.#collect();
    }
    queue.callAgain();
    if (this.#backlog.count > 0) return true;
    this.#onTaken();
    return false;
  }

  #collect(): void {
    const backlog = this.#backlog;
    while (
      !this.#isOpen &&
      this.hasReport &&
      (backlog.count === 0 || !this.canWait) &&
      backlog.hasRoom(this.maxEvents)
    ) {
      this.report(backlog);
      backlog.endGroup();
    }
  }

  /** Takes one ring of status events. Whether there are more. */
  #read(): boolean {
    const queue = this.#statusQueue;
    for (let turn = 0; queue && turn < queue.size; turn++) {
      const chain = queue.pop();
      if (!chain) return false;
      const length = chain.read(0, this.#status, 0, virtio_input_event.size);
      queue.push(chain, 0);
      if (length === virtio_input_event.size) this.#applyStatus();
    }
    return queue !== null;
  }

  #applyStatus(): void {
    const code = CODE.get(this.#statusView, 0);
    if (TYPE.get(this.#statusView, 0) !== EV.LED || code >= LEDS) return;
    const bit = 1 << code;
    this.#setLeds(VALUE.get(this.#statusView, 0) === 0 ? this.#leds & ~bit : this.#leds | bit);
  }

  #setLeds(leds: number): void {
    if (leds === this.#leds) return;
    this.#leds = leds;
    this.#onLeds(leds);
  }
}
