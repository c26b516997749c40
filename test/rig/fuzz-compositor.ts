/**
 * Hostile compositors: real windows show a guest that draws, on compositors that send events that are valid, random,
 * out of order, cut or malformed. Everything follows from one seed, except for the turn in which an event arrives.
 */
import { WaylandClipboard } from '../../display/wayland/clipboard.ts';
import { Compositor } from '../../display/wayland/compositor.ts';
import { type CompositorListener, WaylandOutput } from '../../display/wayland/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR } from '../../protocols/drm-fourcc.ts';
import type { ArgumentTable, MessageTable } from '../../protocols/wayland/wire.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { MemoryBudget } from '../../src/core/budget.ts';
import { Damage } from '../../src/core/damage.ts';
import type { Framebuffer } from '../../src/core/framebuffer.ts';
import type { GuestInput } from '../../src/core/input.ts';
import type { Source, SourceSink } from '../../src/core/source.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { EventFd } from '../../src/sys/eventfd.ts';
import type { BorrowedFd } from '../../src/sys/fd.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { ClipboardError, type Copied } from '../../src/core/clipboard.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { encodeMessage, type WireValue } from '../unit/display/wayland/client/codec.ts';
import { accept, dmabufHost } from '../unit/display/wayland/dmabuf-host.ts';
import { FakeHost } from '../unit/display/wayland/fake-host.ts';
import type { FakeObject } from '../unit/display/wayland/fake-server.ts';
import type { Random } from './random.ts';

const SCANOUTS = 3;
const EVENTS_PER_COMPOSITOR = 1500;
const INTERESTING = [
  ...[0, 1, 2, 3, 4, 8, 15, 16, 17, 119, 120, 180, 255, 256, 640, 1000, 4096, 65_535, 65_536],
  ...[2 ** 23, 2 ** 30, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 120, 2 ** 32 - 1],
];
const STRINGS = ['text/plain', 'image/png', '', 'a', 'seat0', 'wl_output', '\x1b[2J\x07', 'größer', 'x'.repeat(3000)];
/** Globals beside those of every FakeHost, in their highest versions. */
const OPTIONAL: Readonly<Record<string, number>> = {
  wp_viewporter: 1,
  wp_presentation: 1,
  wp_fractional_scale_manager_v1: 1,
  wp_tearing_control_manager_v1: 1,
  wp_cursor_shape_manager_v1: 1,
  zxdg_decoration_manager_v1: 1,
  zxdg_output_manager_v1: 3,
  xdg_activation_v1: 1,
  xdg_toplevel_icon_manager_v1: 1,
  zwp_idle_inhibit_manager_v1: 1,
  zwp_pointer_constraints_v1: 1,
  zwp_relative_pointer_manager_v1: 1,
  zwp_keyboard_shortcuts_inhibit_manager_v1: 1,
  wl_data_device_manager: 3,
  zwp_tablet_manager_v2: 1,
};
/** Required globals, in which a compositor may have any version up to this one. */
const REQUIRED: Readonly<Record<string, number>> = {
  wl_compositor: 6,
  wl_shm: 1,
  wl_output: 4,
  wl_seat: 9,
  xdg_wm_base: 6,
};

export interface CompositorFuzzResult {
  messages: number;
  compositors: number;
  /** Frames that the guest was told were shown. */
  frames: number;
  /** Close reason -> number of connections that ended with it. */
  readonly ends: Map<string, number>;
  readonly faults: string[];
}

/** Runs one hostile compositor after the other, with the same windows, until `messages` were sent. */
export async function fuzzCompositors(random: Random, messages: number): Promise<CompositorFuzzResult> {
  const result: CompositorFuzzResult = { messages: 0, compositors: 0, frames: 0, ends: new Map(), faults: [] };
  while (result.messages < messages && result.faults.length === 0) {
    using session = new Session(random, result);
    for (let i = 0; i < 10; i++) await session.runCompositor();
  }
  return result;
}

/** Windows and the guest in them, which outlive compositors. */
class Session implements Disposable {
  readonly #random: Random;
  readonly #result: CompositorFuzzResult;
  readonly #stack = new DisposableStack();
  readonly #guest: Guest;
  readonly #fds: readonly BorrowedFd[];
  readonly #clipboard: WaylandClipboard;
  #copied: Copied | null = null;
  #listeners: CompositorListener[] = [];

  constructor(random: Random, result: CompositorFuzzResult) {
    this.#random = random;
    this.#result = result;
    this.#fds = [this.#stack.use(createMemfd('fuzz', 65_536)), this.#stack.use(EventFd.create())];
    this.#guest = new Guest(random, result);
    this.#clipboard = this.#stack.use(new WaylandClipboard(() => undefined));
    this.#clipboard.onCopied((copied) => (this.#copied = copied));
  }

  async runCompositor(): Promise<void> {
    const random = this.#random;
    const result = this.#result;
    result.compositors++;
    using host = new FakeHost(hostOptions(random));
    host.releases = random.chance(0.8);
    host.copies = random.chance(0.2);
    if (random.chance(0.7)) accept(host);
    else if (random.chance(0.5))
      host.server.on('zwp_linux_buffer_params_v1.create', ({ object }) => object.send('failed'));
    const compositor = await this.#connect(host);
    const closed = new Promise<{ code: string; message: string }>((resolve) => compositor.onClosed(resolve));
    const events = new Events(random, host, this.#fds);
    const count = random.below(EVENTS_PER_COMPOSITOR);
    for (let sent = 0; sent < count && !compositor.display.closeReason;) {
      if (random.chance(0.3)) host.repaint();
      if (random.chance(0.2) && host.toplevels.length > 0 && !host.toplevel.isDestroyed)
        host.configure(random.below(2000), random.below(2000));
      for (let i = random.below(40); i >= 0; i--, sent++, result.messages++) events.send();
      if (random.chance(0.05)) await events.sendInPieces();
      for (let i = random.below(4); i > 0; i--) this.#guest.act();
      if (random.chance(0.1)) this.#copyOrPaste();
      await turn();
      host.server.requests.length = 0;
    }
    if (random.chance(0.3)) events.sendNoise();
    host[Symbol.dispose]();
    const { code, message } = await closed;

    result.ends.set(code, (result.ends.get(code) ?? 0) + 1);
    // What no window can do is a fault of the compositor: it may ask for windows larger than any buffer.
    const isExpected = ['malformed', 'refused', 'gone', 'stalled'].includes(code) || /wl_shm_pool/.test(message);
    if (!isExpected) result.faults.push(message);
  }

  /** The guest does, while its windows may have the keyboard. */
  #copyOrPaste(): void {
    const read = async (): Promise<Uint8Array> => {
      await turn();
      if (this.#random.chance(0.2)) throw new ClipboardError('gone', 'it is gone');
      return new Uint8Array(100_000);
    };
    if (this.#random.chance(0.5))
      this.#clipboard.offer(this.#random.chance(0.2) ? null : { types: new Set(['text', 'png']), read });
    this.#copied?.read(this.#random.pick(['text', 'png'])).catch((error: unknown) => {
      if (!(error instanceof ClipboardError)) this.#result.faults.push(`a read failed with ${String(error)}`);
    });
  }

  /** Shows the windows on the compositor. */
  async #connect(host: FakeHost): Promise<Compositor> {
    const compositor = await Compositor.connect({
      socket: host.server.connect(),
      useExplicitSync: true,
      clipboard: this.#clipboard,
      log: () => undefined,
    });
    compositor.onClosed(() => {
      for (const listener of this.#listeners) listener.disconnected();
    });
    if (this.#listeners.length > 0) {
      for (const listener of this.#listeners) listener.connected(compositor);
      return compositor;
    }
    const made = Array.from({ length: SCANOUTS }, (_, scanout) =>
      WaylandOutput.create(compositor, {
        ...{ scanout, title: 'fuzz', fullscreen: this.#random.chance(0.2), zoom: this.#random.pick([0.5, 1, 3]) },
        ...{
          tearing: true,
          inhibitIdle: true,
          offText: 'nothing to show',
          activationToken: 'token',
          copyPicture: () => this.#clipboard.copy(Uint8Array.of(1)),
          isOptional: scanout > 0,
          log: () => undefined,
          onClosed: () => undefined,
        },
      }),
    );
    this.#listeners = made.map(({ listener }) => listener);
    for (const { output } of made) this.#stack.use(output);
    this.#guest.showOn(made.map(({ output }) => output));
    return compositor;
  }

  [Symbol.dispose](): void {
    this.#guest[Symbol.dispose]();
    this.#stack[Symbol.dispose]();
  }
}

/** A guest that draws, flips, moves its cursor and throws framebuffers away. */
class Guest implements Source {
  readonly scanouts = SCANOUTS;
  readonly budget = new MemoryBudget(Infinity);
  readonly #random: Random;
  readonly #result: CompositorFuzzResult;
  readonly #pictures: GuestPicture[] = [];
  readonly #waiting: number[] = Array.from({ length: SCANOUTS }, () => 0);
  readonly #shown: (Framebuffer | null)[] = Array.from({ length: SCANOUTS }, () => null);
  #bridge: Bridge | null = null;
  #sink!: SourceSink;

  constructor(random: Random, result: CompositorFuzzResult) {
    this.#random = random;
    this.#result = result;
    for (const [width, height] of [
      [64, 48],
      [64, 48],
      [33, 1],
      [300, 200],
      [16, 16],
    ] as const)
      this.#pictures.push(new GuestPicture(width, height, random.pick([DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888])));
  }

  showOn(outputs: readonly WaylandOutput[]): void {
    const input = inputThatChecks(this.#result.faults);
    const bridge = new Bridge(this, { zeroCopy: 'off', keepLast: this.#random.chance(0.3), input });
    this.#bridge = bridge;
    outputs.forEach((output, scanout) => bridge.show(scanout, output));
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
  }

  setMonitor(_scanout: number, monitor: { width: number; height: number; refreshMhz: number } | null): void {
    if (monitor && !(monitor.width > 0 && monitor.height > 0 && monitor.refreshMhz > 0))
      this.#result.faults.push(`a monitor of ${JSON.stringify(monitor)}`);
  }

  act(): void {
    const random = this.#random;
    const scanout = random.below(SCANOUTS);
    const picture = random.pick(this.#pictures);
    const framebuffer = random.chance(0.5) ? picture.asDmabuf : picture.framebuffer;
    switch (random.below(8)) {
      case 0:
        this.#sink.cursor(scanout, framebuffer, random.below(20), random.below(20), random.below(9999) - 99, 0);
        break;
      case 1:
        this.#sink.cursorMoved(scanout, random.below(2 ** 32) - 2 ** 31, random.below(2 ** 32) - 2 ** 31);
        break;
      case 2:
        if (random.chance(0.2)) this.#show(scanout, null);
        if (random.chance(0.1)) this.#sink.halted();
        break;
      case 3:
        for (const each of [picture.asDmabuf, picture.framebuffer]) if (random.chance(0.2)) this.#destroy(each);
        break;
      default:
        this.#show(scanout, framebuffer);
        this.#flush(scanout, framebuffer);
    }
  }

  [Symbol.dispose](): void {
    this.#bridge?.[Symbol.dispose]();
    for (const picture of this.#pictures) picture[Symbol.dispose]();
  }

  #show(scanout: number, framebuffer: Framebuffer | null): void {
    this.#shown[scanout] = framebuffer;
    const { width, height } = framebuffer ?? { width: 0, height: 0 };
    const x = this.#random.below(width);
    this.#sink.scanout(scanout, framebuffer, { x, y: 0, width: width - x, height });
  }

  #flush(scanout: number, { width, height }: Framebuffer): void {
    // A driver waits for its flips. A compositor may stop them for as long as the deadlines of windows.
    if (this.#waiting[scanout]! > 3) return;
    this.#waiting[scanout]!++;
    const damage = new Damage();
    damage.add(0, 0, width, height);
    const done = (): void => {
      this.#waiting[scanout]!--;
      this.#result.frames++;
    };
    this.#sink.flush(scanout, damage, { isFenced: this.#random.chance(0.8), done });
  }

  #destroy(framebuffer: Framebuffer): void {
    this.#shown.forEach((shown, scanout) => {
      if (shown?.id === framebuffer.id) this.#show(scanout, null);
    });
    this.#sink.destroyed(framebuffer);
  }
}

interface FuzzEvent {
  readonly object: FakeObject;
  readonly bytes: Buffer;
  readonly fds: readonly BorrowedFd[];
  /** It destroys the object. */
  readonly isLast: boolean;
}

/** Events to the objects that the client has. */
class Events {
  readonly #random: Random;
  readonly #host: FakeHost;
  readonly #fds: readonly BorrowedFd[];
  /** Names of globals that were added. */
  readonly #globals: number[] = [];

  constructor(random: Random, host: FakeHost, fds: readonly BorrowedFd[]) {
    this.#random = random;
    this.#host = host;
    this.#fds = fds;
  }

  send(): void {
    if (this.#random.chance(0.02)) this.#changeGlobals();
    const { object, bytes, fds, isLast } = this.#event();
    this.#host.server.client.raw(bytes, fds);
    if (isLast) this.#host.server.client.destroyed(object);
  }

  /** Sends one event cut in two, with turns between the pieces. */
  async sendInPieces(): Promise<void> {
    const { client } = this.#host.server;
    const { object, bytes, fds, isLast } = this.#event();
    const cut = 1 + this.#random.below(bytes.length - 1);
    // No answer may come between the pieces.
    client.pause();
    client.raw(bytes.subarray(0, cut), fds);
    await turn();
    client.raw(bytes.subarray(cut));
    if (isLast) client.destroyed(object);
    client.resume();
  }

  /** Sends what ends the connection: a mutilated event, noise, an error, or the end of an object that is in use. */
  sendNoise(): void {
    const random = this.#random;
    const { client } = this.#host.server;
    const { bytes, fds } = this.#event();
    switch (random.below(6)) {
      case 0:
        bytes.writeUInt32LE(random.pick(INTERESTING), random.below(bytes.length >> 2) * 4);
        client.raw(bytes, fds);
        break;
      case 1:
        client.raw(bytes.subarray(0, 1 + random.below(bytes.length)), fds);
        break;
      case 2:
        client.raw(random.bytes(1 + random.below(64)));
        break;
      case 3:
        for (let i = 0; i < 20; i++) client.raw(bytes, [...fds, ...Array.from({ length: 60 }, () => this.#fds[0]!)]);
        break;
      case 4:
        client.display.send('delete_id', random.pick([...client.objects.values()]));
        break;
      default:
        client.refuse(random.pick([...client.objects.values()]), random.below(9), random.pick(STRINGS));
    }
  }

  /** Monitors and seats come and go. */
  #changeGlobals(): void {
    const random = this.#random;
    const { server } = this.#host;
    if (this.#globals.length > 0 && random.chance(0.5)) {
      server.removeGlobal(this.#globals.splice(random.below(this.#globals.length), 1)[0]!);
    } else if (this.#globals.length < 20) {
      const name = random.pick(['wl_output', 'wl_seat']);
      this.#globals.push(server.addGlobal(name, 1 + random.below(REQUIRED[name]!)));
    }
  }

  #event(): FuzzEvent {
    const { client } = this.#host.server;
    const all = [...client.objects.values()];
    for (;;) {
      const object = this.#random.pick(all);
      const { events } = object.interface;
      if (events.length === 0) continue;
      const event = this.#random.pick(events);
      if (this.#isPossible(object, event, all)) return this.#encode(object, event);
    }
  }

  #isPossible({ interface: { name }, version }: FakeObject, event: MessageTable, all: readonly FakeObject[]): boolean {
    // These may end the connection, and a window that the user has closed stays closed.
    if (name === 'wl_display' || name === 'wl_registry') return false;
    if (event.name === 'close' && !this.#random.chance(0.01)) return false;
    if (event.since > version) return false;
    return event.args.every(
      ({ type, interface: wanted, nullable }) =>
        type !== 'object' || nullable === true || all.some((each) => each.interface.name === wanted),
    );
  }

  #encode(object: FakeObject, event: MessageTable): FuzzEvent {
    const values = event.args.map((argument) => this.#value(argument));
    return {
      object,
      isLast: event.destructor === true,
      bytes: encodeMessage(object.id, object.interface.events.indexOf(event), event.args, values),
      fds: event.args.filter(({ type }) => type === 'fd').map(() => this.#random.pick(this.#fds)),
    };
  }

  #value({ type, interface: interfaceName, nullable }: ArgumentTable): WireValue {
    const random = this.#random;
    const { client } = this.#host.server;
    switch (type) {
      case 'string':
        return random.pick(STRINGS);
      case 'array':
        return random.chance(0.5)
          ? random.bytes(random.below(40))
          : new Uint8Array(Uint32Array.from({ length: random.below(12) }, () => random.below(20)).buffer);
      case 'fd':
        return 0;
      case 'new_id':
        return client.newObject(interfaceName!, 1).id;
      case 'object': {
        const fitting = [...client.objects.values()].filter((each) => each.interface.name === interfaceName);
        return nullable && (fitting.length === 0 || random.chance(0.3)) ? 0 : random.pick(fitting).id;
      }
      default:
        return random.pick(INTERESTING);
    }
  }
}

function hostOptions(random: Random): ConstructorParameters<typeof FakeHost>[0] {
  const dmabuf = dmabufHost({
    version: 1 + random.below(5),
    modifiers: random.pick([[DRM_FORMAT_MOD_LINEAR], [DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR], [7n]]),
  });
  const required = Object.entries(REQUIRED).map(([name, version]) => [name, 1 + random.below(version)] as const);
  const optional = Object.entries(OPTIONAL).map(([name, version]) => [name, random.chance(0.7) ? version : 0] as const);
  return {
    ...dmabuf,
    globals: { ...Object.fromEntries([...required, ...optional]), ...(random.chance(0.7) ? dmabuf.globals : {}) },
    scale: random.pick([1, 2]),
    onBind: (object: FakeObject) => {
      dmabuf.onBind!(object);
      if (object.interface.name === 'wl_seat') object.send('capabilities', random.below(8));
    },
  };
}

/** What reaches the guest must be numbers. */
function inputThatChecks(faults: string[]): GuestInput {
  const check = (...values: readonly (number | string | boolean)[]): void => {
    if (values.some((value) => typeof value === 'number' && !Number.isFinite(value)))
      faults.push(`input: ${values.join(' ')}`);
  };
  return {
    ...{ key: check, pointerMovedTo: check, pointerMovedBy: check, button: check, wheel: check },
    ...{ touchDown: check, touchMoved: check, touchUp: check, touchCancelled: check, frame: check, releaseAll: check },
    ...{
      leds: 0,
      onLeds: () => () => undefined,
      isRelative: () => false,
      scanoutSized: check,
      taken: () => Promise.resolve(),
    },
  };
}

function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
