import { BUS_VIRTUAL, EV, SYN_REPORT } from '../../../protocols/input-event-codes.ts';
import * as wire from '../../../protocols/virtio-input.ts';
import { virtio_input_event } from '../../../protocols/virtio-input.ts';
import { VIRTIO_ID_INPUT } from '../../../protocols/virtio-ring.ts';
import type { Chain } from '../virtio/chain.ts';
import type { VirtioDevice } from '../virtio/device.ts';
import type { Virtqueue } from '../virtio/queue.ts';

/** What a device tells a driver that asks what it is. */
export interface InputDescription {
  /** ASCII, as the serial; at most 63 characters are seen by Linux. */
  readonly name: string;
  readonly serial: string;
  /** Tells our devices apart where names do not count. */
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

/** The driver selects a question by writing two bytes, and reads the answer where it wrote. */
export class ConfigSpace {
  readonly bytes = new Uint8Array(wire.virtio_input_config.size);
  readonly #answers = new Map<number, Uint8Array>();

  constructor(description: InputDescription) {
    const { name, serial, product, properties, events, axisMax } = description;
    this.#answer(wire.VIRTIO_INPUT_CFG_ID_NAME, 0, Buffer.from(name, 'ascii'));
    this.#answer(wire.VIRTIO_INPUT_CFG_ID_SERIAL, 0, Buffer.from(serial, 'ascii'));
    this.#answer(wire.VIRTIO_INPUT_CFG_ID_DEVIDS, 0, wire.virtio_input_devids.encode({ bustype: BUS_VIRTUAL, product, version: VERSION }));
    this.#answer(wire.VIRTIO_INPUT_CFG_PROP_BITS, 0, bitmap(properties));
    for (const [type, codes] of events) this.#answer(wire.VIRTIO_INPUT_CFG_EV_BITS, type, bitmap(codes));
    for (const axis of events.get(EV.ABS) ?? []) {
      this.#answer(wire.VIRTIO_INPUT_CFG_ABS_INFO, axis, wire.virtio_input_absinfo.encode({ max: axisMax.get(axis)! }));
    }
  }

  /** Of what is written only the question counts: QEMU writes the whole space back. */
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

/** A power of two: positions only count up, and are cut. More than any group can have. */
const CAPACITY = 1024;
const WORDS = virtio_input_event.size / 4;

/**
 * Groups of events the driver has no buffers for yet, as they will lie in those. QEMU's queue has
 * four buffers, less than many a group: a group goes out in pieces, which the guest puts
 * together at its SYN_REPORT, but what has begun is always ended.
 */
export class EventBacklog {
  readonly #words = new Uint32Array(CAPACITY * WORDS);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  #first = 0;
  #count = 0;
  /** How many of them are in groups that have ended. */
  #ended = 0;

  /** Events in it. */
  get count(): number {
    return this.#count;
  }

  /** Whether a group of so many events, and its end, fit. */
  hasRoom(events: number): boolean {
    return this.#count + events + 1 <= CAPACITY;
  }

  /** Only with room for it. `value` has 32 bits, signed or not. */
  add(type: number, code: number, value: number): void {
    const at = ((this.#first + this.#count++) % CAPACITY) * WORDS;
    this.#words[at] = type | (code << 16);
    this.#words[at + 1] = value;
  }

  /** Does nothing if nothing was added since the last end. */
  endGroup(): void {
    if (this.#count === this.#ended) return;
    this.add(EV.SYN, SYN_REPORT, 0);
    this.#ended = this.#count;
  }

  /** Moves the first event into a buffer of the driver. False if the buffer is too small for it. */
  moveFirst(into: Chain): boolean {
    if (into.write(0, this.#bytes, this.#first * virtio_input_event.size, virtio_input_event.size) < virtio_input_event.size) return false;
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
 * A virtio input device (virtio 1.3, 5.8). It knows what a person does with it, and what of that the
 * driver was told; the difference is what goes out. So a guest that takes no events for a while
 * misses what came and went meanwhile, and never that a key went up.
 *
 *     state -> report -> backlog -> the driver's buffers
 *
 * Groups with keys or touches in them are kept in order as long as there is room. Those that only
 * move something wait while others are on their way: the newest position is as good as all of them.
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
  #eventQueue: Virtqueue | null = null;
  #statusQueue: Virtqueue | null = null;
  /** Something was done and not ended by `frame` yet. */
  #isOpen = false;
  #leds = 0;

  constructor(description: InputDescription, onLeds: (leds: number) => void, onTaken: () => void) {
    this.#configSpace = new ConfigSpace(description);
    this.config = this.#configSpace.bytes;
    this.#onLeds = onLeds;
    this.#onTaken = onTaken;
  }

  /** As of InputSink. */
  get leds(): number {
    return this.#leds;
  }

  /** The driver was told everything that was done. */
  get isTaken(): boolean {
    return this.#backlog.count === 0 && !this.isBehind;
  }

  /** What was done since the last frame happened at the same time. */
  frame(): void {
    this.#isOpen = false;
    this.#send();
  }

  abstract releaseAll(): void;

  attached(): void {}

  detached(): void {}

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
    if (index === EVENT_QUEUE) this.#send();
    else if (this.#statusQueue) this.#takeStatus(this.#statusQueue);
  }

  /** The next driver starts with nothing pressed. What is held now counts from its next press on. */
  reset(): void {
    this.queueStopped(EVENT_QUEUE);
    this.queueStopped(STATUS_QUEUE);
    this.#backlog.clear();
    this.forget();
    this.#setLeds(0);
  }

  /** A driver takes events; distances count only then. */
  protected get isHeard(): boolean {
    return this.#eventQueue !== null;
  }

  /** Something is going to change until the next `frame`. */
  protected begin(): void {
    this.#isOpen = true;
  }

  /** There is something to report. */
  protected abstract get isBehind(): boolean;

  /** Only positions and distances are to be reported: what follows can take their place, or be added to them. */
  protected abstract get canWait(): boolean;

  /** How many events `report` adds at most, now. */
  protected abstract get mostEvents(): number;

  /** Adds one group that brings the driver up to date, or nearer to it, without its end. */
  protected abstract report(into: EventBacklog): void;

  /** The driver knows nothing and nothing is pressed; positions stay where they are. */
  protected abstract forget(): void;

  #send(): void {
    const queue = this.#eventQueue;
    if (!queue) return;
    this.#collect();
    // Buffers too small for an event are no reason to stay here for ever.
    for (let turn = 0; turn <= queue.size && this.#backlog.count > 0; turn++) {
      const chain = queue.pop();
      if (!chain) return;
      queue.push(chain, this.#backlog.moveFirst(chain) ? virtio_input_event.size : 0);
      if (this.#backlog.count === 0) this.#collect();
    }
    queue.callAgain();
    if (this.#backlog.count > 0) this.#comeBack(EVENT_QUEUE, queue);
    else this.#onTaken();
  }

  #collect(): void {
    const backlog = this.#backlog;
    while (!this.#isOpen && this.isBehind && (backlog.count === 0 || !this.canWait) && backlog.hasRoom(this.mostEvents)) {
      this.report(backlog);
      backlog.endGroup();
    }
  }

  #takeStatus(queue: Virtqueue): void {
    for (let turn = 0; turn < queue.size; turn++) {
      const chain = queue.pop();
      if (!chain) return;
      const length = chain.read(0, this.#status, 0, virtio_input_event.size);
      queue.push(chain, 0);
      if (length === virtio_input_event.size) this.#obey();
    }
    this.#comeBack(STATUS_QUEUE, queue);
  }

  #obey(): void {
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

  /** A guest that adds chains as fast as we take them must not keep others waiting. */
  #comeBack(index: number, queue: Virtqueue): void {
    setImmediate(() => {
      if (queue === this.#eventQueue || queue === this.#statusQueue) this.kicked(index);
    });
  }
}
