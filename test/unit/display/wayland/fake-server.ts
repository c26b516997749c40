import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { Poll } from '../../../../src/sys/poll.ts';
import { acceptUnix, listenUnix, socketPair } from '../../../../src/sys/socket.ts';
import { FakeClient, type FakeObject, type FakeRequest } from './client/fake-client.ts';

export { FakeClient, FakeObject, type FakeRequest, type FakeValue } from './client/fake-client.ts';

interface FakeGlobal {
  readonly interface: string;
  readonly version: number;
}

/**
 * A compositor for tests to script, in their own process and over a real socket. By itself it
 * announces globals, binds them, answers `sync` and confirms destructors; a test adds the rest with
 * `on` and by sending events. A malformed request is an uncaught exception.
 *
 *     using server = new FakeServer();
 *     server.addGlobal('wl_compositor', 6);
 *     server.on('wl_surface.frame', ({ args }) => (args.callback as FakeObject).send('done', 7));
 *     using display = await WaylandDisplay.connect({ socket: server.connect() });
 */
export class FakeServer implements Disposable {
  /** All that have connected, in order, including those that are gone. */
  readonly clients: FakeClient[] = [];
  /** All requests so far, in order. */
  readonly requests: FakeRequest[] = [];
  /** If false, a test confirms destructors with `client.destroyed(object)`. */
  confirmsDestructors = true;
  readonly #globals = new Map<number, FakeGlobal>();
  readonly #registries: FakeObject[] = [];
  readonly #handlers = new Map<string, (request: FakeRequest) => void>();
  readonly #waiting = new Map<string, ((request: FakeRequest) => void)[]>();
  #listener: { readonly fd: OwnedFd; readonly poll: Poll } | null = null;
  #nextName = 1;

  /** Connects a client. Returns its end of the socket, which the caller owns. */
  connect(): OwnedFd {
    const [near, far] = socketPair();
    this.#accept(near);
    return far;
  }

  /** Accepts clients at `path`. */
  listen(path: string): void {
    const fd = listenUnix(path);
    const poll = Poll.readable(fd, () => {
      for (let socket = acceptUnix(fd); socket !== null; socket = acceptUnix(fd)) this.#accept(socket);
    });
    this.#listener = { fd, poll };
  }

  /** The newest client. */
  get client(): FakeClient {
    return this.clients.at(-1)!;
  }

  /** Adds a global, also for the clients that are connected. Returns its name. */
  addGlobal(interfaceName: string, version: number): number {
    const name = this.#nextName++;
    this.#globals.set(name, { interface: interfaceName, version });
    for (const registry of this.#liveRegistries()) registry.send('global', name, interfaceName, version);
    return name;
  }

  removeGlobal(name: number): void {
    this.#globals.delete(name);
    for (const registry of this.#liveRegistries()) registry.send('global_remove', name);
  }

  /** Sets the one handler of requests with this name, for example `wl_surface.commit`. */
  on(name: string, handler: (request: FakeRequest) => void): void {
    this.#handlers.set(name, handler);
  }

  /** Resolves with the next request that has this name. */
  next(name: string): Promise<FakeRequest> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(name) ?? [];
      waiting.push(resolve);
      this.#waiting.set(name, waiting);
    });
  }

  /** Resolves with the first request of this name that matches, from now on or from an index of `requests`. Unlike a loop over `next` it misses none that come together. */
  async first(
    name: string,
    matches: (request: FakeRequest) => boolean,
    from = this.requests.length,
  ): Promise<FakeRequest> {
    for (let i = from; ; i++) {
      while (i >= this.requests.length) await this.next(name);
      const request = this.requests[i]!;
      if (request.name === name && matches(request)) return request;
    }
  }

  /** Names of all requests so far, without those to wl_display and wl_registry. */
  get requestNames(): string[] {
    return this.requests.map(({ name }) => name).filter((name) => !/^wl_(display|registry)\./.test(name));
  }

  [Symbol.dispose](): void {
    this.#listener?.poll[Symbol.dispose]();
    this.#listener?.fd[Symbol.dispose]();
    for (const client of this.clients) client[Symbol.dispose]();
  }

  #accept(socket: OwnedFd): void {
    this.clients.push(new FakeClient(socket, (request) => this.#handle(request)));
  }

  #handle(request: FakeRequest): void {
    const { client, object, name, args } = request;
    this.requests.push(request);
    if (name === 'wl_display.sync') (args.callback as FakeObject).send('done', 0);
    if (name === 'wl_display.get_registry') this.#announce(args.registry as FakeObject);
    this.#handlers.get(name)?.(request);
    const waiting = this.#waiting.get(name);
    this.#waiting.delete(name);
    for (const resolve of waiting ?? []) resolve(request);
    const isDestructor = object.interface.requests.find((each) => name.endsWith(`.${each.name}`))?.destructor;
    if (isDestructor && this.confirmsDestructors && !client.isClosed) client.destroyed(object);
  }

  #announce(registry: FakeObject): void {
    this.#registries.push(registry);
    for (const [name, global] of this.#globals) registry.send('global', name, global.interface, global.version);
  }

  #liveRegistries(): FakeObject[] {
    return this.#registries.filter(({ client }) => !client.isClosed);
  }
}
