import { isAbsolute, join } from 'node:path';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import { Connection, throwLater } from './connection.ts';
import { escaped, Malformed, type WaylandCloseReason, WaylandError } from './errors.ts';
import type { WlRegistry } from './generated/wayland.ts';
import type { WaylandClass, WaylandObject } from './object.ts';

/** The most globals a compositor may offer at one time; real compositors stay far below. */
const MAX_GLOBALS = 4096;

/** An object that the compositor offers to bind. */
export interface WaylandGlobal {
  /** Identifies the global within the connection. */
  readonly name: number;
  readonly interface: string;
  /** The highest version that the compositor supports. */
  readonly version: number;
}

export interface ConnectOptions {
  /**
   * Path of the compositor's socket, its name below XDG_RUNTIME_DIR, or a connected socket, which is consumed.
   * Without it, WAYLAND_SOCKET (a connected socket that this process inherited), WAYLAND_DISPLAY or `wayland-0` is
   * used, as libwayland does.
   */
  readonly socket?: string | OwnedFd;
  /** Aborts `connect` while the compositor does not answer. */
  readonly signal?: AbortSignal;
}

type Listener<Argument> = (argument: Argument) => void;

/**
 * A connection to a compositor and the globals it offers. It keeps the process alive until it is disposed or the
 * compositor ends it; both release all resources and destroy all objects.
 */
export class WaylandDisplay implements Disposable {
  readonly #connection: Connection;
  readonly #registry: WlRegistry;
  readonly #globals = new Map<number, WaylandGlobal>();
  readonly #added = new Set<Listener<WaylandGlobal>>();
  readonly #removed = new Set<Listener<WaylandGlobal>>();
  readonly #closed = new Set<Listener<WaylandCloseReason>>();

  private constructor(socket: OwnedFd) {
    this.#connection = new Connection(socket, (reason) => this.#notifyClosed(reason));
    this.#registry = this.#connection.display.getRegistry();
    this.#registry.listener = {
      global: (name, interfaceName, version) => this.#add({ name, interface: interfaceName, version }),
      globalRemove: (name) => this.#remove(name),
    };
  }

  /**
   * Connects, and resolves when all globals are known. The caller disposes the display. Rejects with WaylandError
   * `connect`, which says what was tried; with the close reason if the connection ends first; with the signal's
   * reason if it aborts. A socket that was passed in is closed in all these cases.
   */
  static async connect({ socket, signal }: ConnectOptions = {}): Promise<WaylandDisplay> {
    const display = new WaylandDisplay(socket instanceof OwnedFd ? socket : openSocket(socket, process.env));
    const abort = (): void => display[Symbol.dispose]();
    signal?.addEventListener('abort', abort);
    try {
      signal?.throwIfAborted();
      await display.roundtrip();
      signal?.throwIfAborted();
      // An error may have followed the answer in the same packet.
      if (display.closeReason) throw display.closeReason;
      return display;
    } catch (error) {
      display[Symbol.dispose]();
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** The globals that exist now, by their name. */
  get globals(): ReadonlyMap<number, WaylandGlobal> {
    return this.#globals;
  }

  /** Why the connection ended; null while it works. */
  get closeReason(): WaylandCloseReason | null {
    return this.#connection.closeReason;
  }

  /**
   * Binds `global`, by default the first one with this interface. The version is the highest that the caller
   * (`maxVersion`), the compositor and the generated class support. Null if there is no such global, or it was
   * removed. RangeError if `global` has another interface.
   */
  bind<T extends WaylandObject>(type: WaylandClass<T>, maxVersion: number, global = this.#first(type)): T | null {
    if (!global || this.#globals.get(global.name) !== global) return null;
    if (global.interface !== type.interface.name) {
      throw new RangeError(`cannot bind global ${global.name} as ${type.interface.name}: it is a ${global.interface}`);
    }
    return this.#registry.bind(global.name, type, Math.min(maxVersion, global.version, type.interface.version));
  }

  /**
   * Resolves when the compositor has handled all requests made so far and the events it sent in answer were
   * dispatched (wl_display.sync). Rejects with the close reason if the connection ends first.
   */
  roundtrip(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.closeReason) {
        reject(this.closeReason);
        return;
      }
      const stop = this.onClosed(reject);
      this.#connection.display.sync().listener = {
        done() {
          stop();
          resolve();
        },
      };
    });
  }

  /** Sends the waiting requests now instead of at the end of the callback. Does not throw: see `onClosed`. */
  flush(): void {
    this.#connection.flush();
  }

  /** Calls `listener` for each global added after `connect`. Returns a function that stops this. */
  onGlobalAdded(listener: (global: WaylandGlobal) => void): () => void {
    return listen(this.#added, listener);
  }

  /**
   * Calls `listener` when a global was removed: dispose the objects bound to it. Returns a function that stops this.
   */
  onGlobalRemoved(listener: (global: WaylandGlobal) => void): () => void {
    return listen(this.#removed, listener);
  }

  /**
   * Calls `listener` once when the connection has ended, by dispose as well as by an error, after all resources were
   * released. Returns a function that stops this.
   */
  onClosed(listener: (reason: WaylandCloseReason) => void): () => void {
    return listen(this.#closed, listener);
  }

  /** Closes the connection. Requests that were not sent are lost: call `flush` or `roundtrip` before if they matter. */
  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  #first({ interface: { name } }: WaylandClass): WaylandGlobal | undefined {
    for (const global of this.#globals.values()) if (global.interface === name) return global;
    return undefined;
  }

  #add(global: WaylandGlobal): void {
    const { name, version } = global;
    const what = `global ${name} (${escaped(global.interface)})`;
    if (version === 0) throw new Malformed(`${what} has version 0`);
    if (this.#globals.has(name)) throw new Malformed(`${what} has the name of another global`);
    if (this.#globals.size >= MAX_GLOBALS)
      throw new Malformed(`the compositor offers more than ${MAX_GLOBALS} globals`);
    this.#globals.set(name, global);
    for (const listener of [...this.#added]) listener(global);
  }

  #notifyClosed(reason: WaylandCloseReason): void {
    for (const listener of [...this.#closed]) {
      try {
        listener(reason);
      } catch (error) {
        throwLater(error);
      }
    }
  }

  #remove(name: number): void {
    const global = this.#globals.get(name);
    if (!global) throw new Malformed(`global ${name} does not exist`);
    this.#globals.delete(name);
    for (const listener of [...this.#removed]) listener(global);
  }
}

function listen<Argument>(listeners: Set<Listener<Argument>>, listener: Listener<Argument>): () => void {
  const entry: Listener<Argument> = (argument) => listener(argument);
  listeners.add(entry);
  return () => void listeners.delete(entry);
}

/**
 * Connects to the compositor's socket `name`, a path or a name below XDG_RUNTIME_DIR. Without a name, takes the
 * inherited socket of WAYLAND_SOCKET, and removes that variable from `env`; else connects to WAYLAND_DISPLAY or
 * `wayland-0`. The caller owns the result. WaylandError `connect`.
 */
export function openSocket(name: string | undefined, env: NodeJS.ProcessEnv): OwnedFd {
  if (name === undefined && env.WAYLAND_SOCKET !== undefined) return inheritSocket(env);
  const path = socketPath(name, env);
  try {
    return connectUnix(path);
  } catch (error) {
    throw new WaylandError('connect', `cannot connect to a Wayland compositor at ${path}: ${String(error)}`, {
      cause: error,
    });
  }
}

function inheritSocket(env: NodeJS.ProcessEnv): OwnedFd {
  const value = env.WAYLAND_SOCKET!;
  // Neither a later `connect` nor a child process may use the same socket.
  delete env.WAYLAND_SOCKET;
  try {
    if (!/^\d+$/.test(value)) throw new RangeError('it is not a number');
    return OwnedFd.inherit(Number(value));
  } catch (error) {
    throw new WaylandError('connect', `WAYLAND_SOCKET=${value} is not an open file descriptor: ${String(error)}`, {
      cause: error,
    });
  }
}

function socketPath(name: string | undefined, env: NodeJS.ProcessEnv): string {
  const display = name ?? (env.WAYLAND_DISPLAY || 'wayland-0');
  if (isAbsolute(display)) return display;
  const directory = env.XDG_RUNTIME_DIR ?? '';
  if (!isAbsolute(directory)) {
    const fault = directory === '' ? 'is not set' : `is not an absolute path (${directory})`;
    const remedy = 'set it, or give the full path of the socket';
    throw new WaylandError(
      'connect',
      `cannot look for the Wayland socket ${display}: XDG_RUNTIME_DIR ${fault}; ${remedy}`,
    );
  }
  return join(directory, display);
}
