import {
  type WaylandDisplay,
  WlBuffer,
  type WlCompositor,
  type WlSurface,
} from '../../../../../display/wayland/client/index.ts';
import type { WaylandClipboard } from '../../../../../display/wayland/clipboard.ts';
import { Compositor } from '../../../../../display/wayland/compositor.ts';
import { GuestCursor } from '../../../../../display/wayland/guest-cursor.ts';
import type { SeatTarget } from '../../../../../display/wayland/seat/attached-surface.ts';
import type { WaylandSeats } from '../../../../../display/wayland/seat/seats.ts';
import { SurfaceBuffer } from '../../../../../display/wayland/surface.ts';
import { Damage } from '../../../../../src/core/damage.ts';
import { EMPTY_RECT, MutableRect } from '../../../../../src/core/geometry.ts';
import type { InputSink } from '../../../../../src/core/input.ts';
import { createMemfd } from '../../../../../src/sys/memfd.ts';
import { type FakeObject, type FakeRequest, FakeServer } from '../fake-server.ts';
import { SinkLog } from '../sink-log.ts';

export const POINTER = 1;
export const KEYBOARD = 2;
export const TOUCH = 4;

/** The compositor's side of a seat. */
export class FakeSeat {
  readonly name: number;
  /** Set when the client binds the seat and gets its devices; the newest of each. */
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
  /** Full-screen shortcuts so far, and whether they are answered. */
  toggles: number;
  hasFullscreen: boolean;
  readonly cursor: GuestCursor;
  readonly placement: MutableRect;
  readonly canvas: { width: number; height: number };
}

/** A guest's cursor image: hotspot in its pixels, `scale` in units of the window per pixel. */
export interface FakeImage {
  readonly buffer: SurfaceBuffer;
  readonly hotspotX: number;
  readonly hotspotY: number;
  readonly scale: number;
}

/** A buffer without memory, whose wl_buffer exists on both sides. */
class FakeBuffer extends SurfaceBuffer {
  readonly #create: () => WlBuffer;

  constructor(width: number, height: number, create: () => WlBuffer) {
    super(width, height);
    this.#create = create;
  }

  override points(): null {
    return null;
  }

  protected override create(compositor: Compositor): void {
    this.adopt(compositor, this.#create());
  }

  protected override free(): void {
    // There is no memory to free.
  }
}

/**
 * Seats on a scripted compositor. Windows show the guest's picture at twice its size, 10 units from
 * their left edge.
 */
export class SeatRig implements Disposable {
  readonly server = new FakeServer();
  readonly sink = new SinkLog();
  host!: Compositor;
  display!: WaylandDisplay;
  compositor!: WlCompositor;
  seats!: WaylandSeats;
  readonly #seats: FakeSeat[] = [];
  readonly #windows: FakeWindow[] = [];

  /** `globals` are added with version 1. */
  static async open(
    globals: readonly string[] = [],
    compositorVersion = 6,
    clipboard: WaylandClipboard | null = null,
  ): Promise<SeatRig> {
    const rig = new SeatRig();
    rig.server.addGlobal('wl_compositor', compositorVersion);
    for (const name of ['wl_subcompositor', 'wl_shm', ...globals]) rig.server.addGlobal(name, 1);
    rig.server.addGlobal('xdg_wm_base', 6);
    rig.server.on('wl_registry.bind', (request) => rig.#bound(request));
    const device = ({ object, name, args }: FakeRequest): void => {
      const kind = name.slice('wl_seat.get_'.length) as 'pointer' | 'keyboard' | 'touch';
      rig.#seats.find(({ seat }) => seat === object)![kind] = args.id as FakeObject;
    };
    for (const kind of ['pointer', 'keyboard', 'touch']) rig.server.on(`wl_seat.get_${kind}`, device);
    rig.host = await Compositor.connect({
      socket: rig.server.connect(),
      useExplicitSync: false,
      clipboard,
      log: () => undefined,
    });
    rig.display = rig.host.display;
    rig.compositor = rig.host.surfaces;
    rig.seats = rig.host.seats;
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

  /** Attaches a window for the next scanout, from 0. */
  async addWindow(input: InputSink | null = this.sink): Promise<FakeWindow> {
    const surface = this.compositor.createSurface();
    const grabs: boolean[] = [];
    const target: SeatTarget = {
      scanout: this.#windows.length,
      input,
      toGuest(x, y, out) {
        out.x = (x - 10) / 2;
        out.y = y / 2;
      },
      grabChanged: (isGrabbed) => void grabs.push(isGrabbed),
      toggleFullscreen: () => {
        window.toggles++;
        return window.hasFullscreen;
      },
      copyPicture: () => false,
    };
    const shown = { cursor: new GuestCursor(), placement: new MutableRect(), canvas: { width: 1, height: 1 } };
    await this.settle();
    const window: FakeWindow = {
      ...{ surface, far: this.far(surface), grabs, toggles: 0, hasFullscreen: true },
      ...shown,
    };
    this.seats.attach(surface, target);
    await this.settle();
    this.#windows.push(window);
    return window;
  }

  /** Sets the guest's cursor in the window; null hides it. */
  setCursor(window: FakeWindow, image: FakeImage | null): void {
    const { cursor, placement, canvas } = window;
    if (image && placement.width !== canvas.width * image.scale) {
      placement.set(0, 0, canvas.width * image.scale, canvas.height * image.scale);
      cursor.attach(this.host, window);
    } else if (placement.width === 0) {
      placement.set(0, 0, canvas.width, canvas.height);
      cursor.attach(this.host, window);
    }
    const plane = { handle: image?.buffer ?? null, src: EMPTY_RECT, dst: EMPTY_RECT };
    cursor.show({
      ...{ canvas, primary: { handle: null, src: EMPTY_RECT, dst: EMPTY_RECT }, cursor: plane, isCursorNew: true },
      ...{
        hotspotX: image?.hotspotX ?? 0,
        hotspotY: image?.hotspotY ?? 0,
        damage: new Damage(),
        acquire: null,
        release: null,
      },
    });
  }

  /** Detaches the window, as when it closes. */
  detach({ surface, cursor }: FakeWindow): void {
    this.seats.detach(surface);
    cursor.detach();
  }

  image(scale = 1, width = 64, height = 64): FakeImage {
    return { buffer: this.buffer(width, height), hotspotX: 5, hotspotY: 7, scale };
  }

  buffer(width: number, height: number): SurfaceBuffer {
    return new FakeBuffer(width, height, () => {
      const buffer = this.compositor.connection.objects.create(WlBuffer, 1);
      this.server.client.newObject('wl_buffer', 1, buffer.id);
      return buffer;
    });
  }

  /** The server's side of the object. */
  far({ id }: { readonly id: number }): FakeObject {
    return this.server.client.objects.get(id)!;
  }

  /** Resolves when events have arrived, and the requests that answer them. */
  async settle(): Promise<void> {
    await this.display.roundtrip();
    await this.display.roundtrip();
  }

  /** What the guest was sent since the last call. */
  async heard(): Promise<string[]> {
    await this.settle();
    return this.sink.lines.splice(0);
  }

  /** The requests since the last call: names, with the arguments that are numbers or null. */
  async asked(): Promise<string[]> {
    await this.settle();
    const said = this.server.requests.splice(0).filter(({ name }) => !/^wl_(display|registry)\./.test(name));
    return said.map(({ name, args }) =>
      [
        name,
        ...Object.values(args)
          .filter((value) => typeof value === 'number' || value === null)
          .map(String),
      ].join(' '),
    );
  }

  [Symbol.dispose](): void {
    this.seats[Symbol.dispose]();
    for (const { cursor } of this.#windows) cursor[Symbol.dispose]();
    this.host[Symbol.dispose]();
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
