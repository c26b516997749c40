import { BUS_VIRTUAL, EV } from '../../../protocols/input-event-codes.ts';
import * as wire from '../../../protocols/virtio-input.ts';

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
