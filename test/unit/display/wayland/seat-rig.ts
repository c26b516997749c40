import { WaylandDisplay, WlBuffer, WlCompositor, type WlSurface } from '../../../../display/wayland/client/index.ts';
import { WaylandSeats } from '../../../../display/wayland/seat/seats.ts';
import type { SeatTarget } from '../../../../display/wayland/seat/target.ts';
import type { InputSink } from '../../../../src/core/input.ts';
import { scanoutId } from '../../../../src/core/source.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { type FakeObject, type FakeRequest, FakeServer } from './fake-server.ts';
import { SinkLog } from './sink-log.ts';

export const POINTER = 1;
export const KEYBOARD = 2;
export const TOUCH = 4;

/** The compositor's side of a seat. */
export class FakeSeat {
  readonly name: number;
  /** Set when the client binds it, and asks for each; the last of each. */
  seat!: FakeObject;
  pointer!: FakeObject;
  keyboard!: FakeObject;
  touch!: FakeObject;

  constructor(name: number) {
    this.name = name;
  }
}

export interface FakeWindow {
  readonly surface: WlSurface;
  readonly far: FakeObject;
  readonly grabs: boolean[];
}

/** Seats on a scripted compositor. Windows show the guest's picture at twice its size, 10 units from the left. */
export class SeatRig implements Disposable {
  readonly server = new FakeServer();
  readonly sink = new SinkLog();
  display!: WaylandDisplay;
  compositor!: WlCompositor;
  seats!: WaylandSeats;
  readonly #seats: FakeSeat[] = [];
  #windows = 0;

  /** `globals`: of version 1, beside the compositor. */
  static async open(globals: readonly string[] = [], compositorVersion = 6): Promise<SeatRig> {
    const rig = new SeatRig();
    rig.server.addGlobal('wl_compositor', compositorVersion);
    for (const name of globals) rig.server.addGlobal(name, 1);
    rig.server.on('wl_registry.bind', (request) => rig.#bound(request));
    const device = ({ object, name, args }: FakeRequest): void => {
      const kind = name.slice('wl_seat.get_'.length) as 'pointer' | 'keyboard' | 'touch';
      rig.#seats.find(({ seat }) => seat === object)![kind] = args.id as FakeObject;
    };
    for (const kind of ['pointer', 'keyboard', 'touch']) rig.server.on(`wl_seat.get_${kind}`, device);
    rig.display = await WaylandDisplay.connect({ socket: rig.server.connect() });
    rig.compositor = rig.display.bind(WlCompositor, 6)!;
    rig.seats = new WaylandSeats(rig.display, rig.compositor);
    return rig;
  }

  async addSeat(version: number, capabilities: number): Promise<FakeSeat> {
    const seat = new FakeSeat(this.server.addGlobal('wl_seat', version));
    this.#seats.push(seat);
    await this.settle();
    seat.seat.send('capabilities', capabilities);
    await this.settle();
    if (capabilities & KEYBOARD) {
      using keymap = createMemfd('keymap', 4096);
      seat.keyboard.send('keymap', 1, keymap, 4096);
    }
    return seat;
  }

  /** A window of scanout 0, 1, ..., attached. */
  async addWindow(input: InputSink | null = this.sink): Promise<FakeWindow> {
    const surface = this.compositor.createSurface();
    const grabs: boolean[] = [];
    const target: SeatTarget = {
      scanout: scanoutId(this.#windows++),
      input,
      toGuest(x, y, out) {
        out.x = (x - 10) / 2;
        out.y = y / 2;
      },
      grabChanged: (isGrabbed) => void grabs.push(isGrabbed),
    };
    this.seats.attach(surface, target);
    await this.settle();
    return { surface, far: this.far(surface), grabs };
  }

  /** A buffer both sides believe in. */
  buffer(): WlBuffer {
    const buffer = this.compositor.connection.objects.create(WlBuffer, 1);
    this.server.client.newObject('wl_buffer', 1, buffer.id);
    return buffer;
  }

  /** The server's side of an object. */
  far({ id }: { readonly id: number }): FakeObject {
    return this.server.client.objects.get(id)!;
  }

  /** Events have arrived, and what was asked in answer to them. */
  async settle(): Promise<void> {
    await this.display.roundtrip();
    await this.display.roundtrip();
  }

  /** What the guest got since it was asked last. */
  async heard(): Promise<string[]> {
    await this.settle();
    return this.sink.lines.splice(0);
  }

  /** Requests since it was asked last: names, with arguments that are numbers, or null. */
  async asked(): Promise<string[]> {
    await this.settle();
    const said = this.server.requests.splice(0).filter(({ name }) => !/^wl_(display|registry)\./.test(name));
    return said.map(({ name, args }) => [name, ...Object.values(args).filter((value) => typeof value === 'number' || value === null).map(String)].join(' '));
  }

  [Symbol.dispose](): void {
    this.seats[Symbol.dispose]();
    this.display[Symbol.dispose]();
    this.server[Symbol.dispose]();
  }

  #bound({ args }: FakeRequest): void {
    const seat = this.#seats.find(({ name }) => name === args.name);
    if (seat) seat.seat = args.id as FakeObject;
  }
}

/** A wl_array of keys. */
export function keys(...codes: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(codes).buffer);
}
