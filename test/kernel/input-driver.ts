import { EV, SYN_REPORT } from '../../protocols/input-event-codes.ts';
import { virtio_input_event } from '../../protocols/virtio-input.ts';
import { FrontEndError } from '../../src/guest/replay/front-end-channel.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { connectUnix } from '../../src/sys/socket.ts';

const RAM = { guestAddress: 0x4000_0000, size: 2 ** 20 };
const QUEUE_SIZE = 64;
const NOTHING = new Uint8Array(0);

/** The events before a SYN_REPORT, each as `type code value` in numbers. */
export type Group = string[];

/** A VMM with a `vhost-user-input-pci` and its guest's driver, which collects events and gives each buffer back. */
export class InputDriver implements Disposable {
  readonly #frontEnd: FrontEnd;
  readonly #groups: Group[] = [];
  #group: Group = [];
  #onGroup: (() => void) | null = null;

  private constructor(socket: string) {
    this.#frontEnd = FrontEnd.create({
      socket: connectUnix(socket),
      memory: [RAM],
      queueSizes: [QUEUE_SIZE, QUEUE_SIZE],
    });
  }

  static async connect(socket: string): Promise<InputDriver> {
    const driver = new InputDriver(socket);
    await driver.#frontEnd.connect();
    for (let i = 0; i < QUEUE_SIZE; i++) void driver.#listen();
    return driver;
  }

  /** Resolves with the oldest group not returned yet. */
  async next(): Promise<Group> {
    while (this.#groups.length === 0) await new Promise<void>((resolve) => (this.#onGroup = resolve));
    return this.#groups.shift()!;
  }

  /** Tells the device to switch an LED. */
  async setLed(code: number, isOn: boolean): Promise<void> {
    await this.#frontEnd.request(1, virtio_input_event.encode({ type: EV.LED, code, value: isOn ? 1 : 0 }), 0);
  }

  [Symbol.dispose](): void {
    this.#frontEnd[Symbol.dispose]();
  }

  /** Receives events with one buffer until the front end is disposed. */
  async #listen(): Promise<void> {
    try {
      for (;;) this.#heard(await this.#frontEnd.request(0, NOTHING, virtio_input_event.size));
    } catch (error) {
      if (!(error instanceof FrontEndError)) throw error;
    }
  }

  #heard(event: Uint8Array): void {
    const { type, code, value } = virtio_input_event.decode(event);
    if (type !== EV.SYN || code !== SYN_REPORT) {
      this.#group.push(`${type} ${code} ${value | 0}`);
      return;
    }
    this.#groups.push(this.#group.splice(0));
    this.#onGroup?.();
  }
}
