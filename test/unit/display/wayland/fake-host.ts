import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { type FakeObject, FakeServer } from './fake-server.ts';

/** The globals of a full compositor, with their versions. */
const EVERYTHING: Readonly<Record<string, number>> = {
  wl_compositor: 6,
  wl_subcompositor: 1,
  wl_shm: 1,
  wl_output: 4,
  xdg_wm_base: 6,
  wp_viewporter: 1,
  wp_presentation: 1,
  zxdg_decoration_manager_v1: 1,
};

export interface FakeHostOptions {
  /** Versions that replace those of `EVERYTHING`; 0 leaves a global out. */
  readonly globals?: Readonly<Record<string, number>>;
  /** Pixels of its one monitor; default 1920x1080. */
  readonly mode?: readonly [width: number, height: number];
  /** Scale of its monitor; default 1. */
  readonly scale?: number;
  /** Size in the first configure; by default the window chooses. */
  readonly size?: readonly [width: number, height: number];
  /** The states of that configure. */
  readonly states?: readonly number[];
  /** Of xdg_toplevel.configure_bounds, before that configure. */
  readonly bounds?: readonly [width: number, height: number];
  /** Called for each global that the client binds. */
  readonly onBind?: (object: FakeObject) => void;
  /** Extends the compositor before a client connects. */
  readonly prepare?: (server: FakeServer) => void;
}

type Committed = Map<FakeObject, { buffer: FakeObject | null; damage: number[][] }>;

/**
 * The compositor's side of windows: it configures them, records what their surfaces show, and draws
 * its screen when the test calls `repaint`.
 */
export class FakeHost implements Disposable {
  readonly server = new FakeServer();
  readonly #options: FakeHostOptions;
  readonly committed: Committed = new Map();
  readonly #pending: Committed = new Map();
  /** Surfaces whose next commit has a wl_surface.attach. */
  readonly #attached = new Set<FakeObject>();
  readonly toplevels: FakeObject[] = [];
  readonly #xdgSurfaces = new Map<FakeObject, FakeObject>();
  #callbacks: FakeObject[] = [];
  #feedbacks: FakeObject[] = [];
  /** While true, `repaint` draws nothing and sends no events. */
  isHidden = false;
  /** Releases a buffer as soon as its surface shows another. */
  releases = true;
  /** Releases a buffer as soon as it is committed, as compositors do that copy wl_shm buffers. */
  copies = false;
  #serial = 0;
  #sequence = 0;

  constructor(options: FakeHostOptions = {}) {
    this.#options = options;
    const { server } = this;
    for (const [name, version] of Object.entries({ ...EVERYTHING, ...options.globals }))
      if (version > 0) server.addGlobal(name, version);
    server.on('wl_registry.bind', ({ args }) => this.#bound(args.id as FakeObject));
    server.on('xdg_surface.get_toplevel', ({ object, args }) => {
      this.toplevels.push(args.id as FakeObject);
      this.#xdgSurfaces.set(args.id as FakeObject, object);
      if (options.bounds) this.toplevel.send('configure_bounds', ...options.bounds);
      this.configure(...(options.size ?? ([0, 0] as const)), options.states);
    });
    server.on('wl_surface.attach', ({ object, args }) => {
      this.#stateOf(object).buffer = args.buffer as FakeObject | null;
      this.#attached.add(object);
    });
    server.on(
      'wl_surface.damage_buffer',
      ({ object, args }) =>
        void this.#stateOf(object).damage.push([args.x, args.y, args.width, args.height] as number[]),
    );
    server.on('wl_surface.frame', ({ args }) => void this.#callbacks.push(args.callback as FakeObject));
    server.on('wp_presentation.feedback', ({ args }) => void this.#feedbacks.push(args.callback as FakeObject));
    server.on('wl_surface.commit', ({ object }) => this.#commit(object));
    options.prepare?.(server);
  }

  get toplevel(): FakeObject {
    return this.toplevels.at(-1)!;
  }

  /** The object that the newest client has bound to this global. */
  bound(name: string): FakeObject {
    return [...this.server.client.objects.values()].find((object) => object.interface.name === name)!;
  }

  /** Configures the newest window with this size. */
  configure(width: number, height: number, states: readonly number[] = []): void {
    const { toplevel } = this;
    toplevel.send('configure', width, height, new Uint8Array(new Uint32Array(states).buffer));
    this.#xdgSurfaces.get(toplevel)!.send('configure', ++this.#serial);
  }

  /** Sends the preferred scale, in 120ths. */
  fractionalScale(scale: number): void {
    this.bound('wp_fractional_scale_v1').send('preferred_scale', scale);
  }

  /** The subsurface of the newest window, which shows the guest's picture. */
  get picture(): FakeObject {
    const { requests } = this.server;
    // A title bar is made later than the window.
    const made = requests.slice(
      0,
      requests.findLastIndex(({ name }) => name === 'xdg_surface.get_toplevel'),
    );
    return made.findLast(({ name }) => name === 'wl_subcompositor.get_subsurface')!.args.surface as FakeObject;
  }

  /** Draws the screen: sends the frame callbacks and presentation feedbacks that were requested. */
  repaint(): void {
    if (this.isHidden) return;
    for (const callback of this.#callbacks.splice(0)) if (!callback.isDestroyed) callback.send('done', 0);
    this.#sequence++;
    for (const feedback of this.#feedbacks.splice(0))
      if (!feedback.isDestroyed) feedback.send('presented', 0, 5, 0, 16_666_667, 0, this.#sequence, 7);
  }

  /** Says of the frames that it was asked about that they were not presented. */
  discard(): void {
    for (const feedback of this.#feedbacks.splice(0)) if (!feedback.isDestroyed) feedback.send('discarded');
  }

  /** The pixels of a wl_shm buffer, row by row, as the compositor reads them. */
  pixels(buffer: FakeObject): Uint32Array {
    const { object: pool, args } = this.server.requests.findLast(
      (request) => request.name === 'wl_shm_pool.create_buffer' && request.args.id === buffer,
    )!;
    const { fd } = this.server.requests.findLast(
      (request) => request.name === 'wl_shm.create_pool' && request.args.id === pool,
    )!.args;
    const [offset, stride, width, height] = [args.offset, args.stride, args.width, args.height] as number[];
    using mapping = Mapping.file(fd as OwnedFd, offset!, stride! * height!, 'read');
    const words = new Uint32Array(mapping.bytes.slice().buffer);
    return Uint32Array.from(
      { length: width! * height! },
      (_, i) => words[Math.floor(i / width!) * (stride! / 4) + (i % width!)]!,
    );
  }

  /** The arguments of the last request with this name. */
  last(name: string): Readonly<Record<string, unknown>> | undefined {
    return this.server.requests.findLast((request) => request.name === name)?.args;
  }

  count(name: string): number {
    return this.server.requests.filter((request) => request.name === name).length;
  }

  [Symbol.dispose](): void {
    this.server[Symbol.dispose]();
  }

  #stateOf(surface: FakeObject): { buffer: FakeObject | null; damage: number[][] } {
    let state = this.#pending.get(surface);
    if (!state)
      this.#pending.set(surface, (state = { buffer: this.committed.get(surface)?.buffer ?? null, damage: [] }));
    return state;
  }

  #commit(surface: FakeObject): void {
    const state = this.#pending.get(surface);
    if (!state) return;
    this.#pending.delete(surface);
    const before = this.committed.get(surface)?.buffer ?? null;
    this.committed.set(surface, state);
    if (this.copies) {
      if (state.buffer && this.#attached.delete(surface)) state.buffer.send('release');
    } else if (before && before !== state.buffer && !before.isDestroyed && this.releases) {
      before.send('release');
    }
  }

  #bound(object: FakeObject): void {
    const { name } = object.interface;
    this.#options.onBind?.(object);
    if (name === 'wl_shm') for (const format of [0, 1]) object.send('format', format);
    if (name === 'wp_presentation') object.send('clock_id', 1);
    if (name === 'wl_output') {
      object.send('mode', 1, ...(this.#options.mode ?? [1920, 1080]), 60_000);
      if (object.version >= 2) object.send('scale', this.#options.scale ?? 1);
      if (object.version >= 2) object.send('done');
    }
  }
}
