import { isAbsolute, join } from 'node:path';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import { Connection, throwLater } from './connection.ts';
import { Malformed, type WaylandCloseReason, WaylandError } from './errors.ts';
import type { WlRegistry } from './generated/wayland.ts';
import type { WaylandClass, WaylandObject } from './object.ts';

/** What a compositor may offer at one time; none comes near. */
const MAX_GLOBALS = 4096;

/** Something the compositor offers. */
export interface WaylandGlobal {
  readonly name: number;
  readonly interface: string;
  /** The highest the compositor speaks. */
  readonly version: number;
}

export interface ConnectOptions {
  /**
   * Path of the compositor's socket, its name below XDG_RUNTIME_DIR, or a connected socket, which
   * is consumed. Without it WAYLAND_SOCKET and WAYLAND_DISPLAY say where.
   */
  readonly socket?: string | OwnedFd;
  /** Gives up waiting for a compositor that does not answer. */
  readonly signal?: AbortSignal;
}

type Listener<Argument> = (argument: Argument) => void;

/** A connection to a compositor, and what that offers. It keeps the process alive until disposed. */
export class WaylandDisplay implements Disposable {
  readonly #connection: Connection;
  readonly #registry: WlRegistry;
  readonly #globals = new Map<number, WaylandGlobal>();
  readonly #added = new Set<Listener<WaylandGlobal>>();
  readonly #removed = new Set<Listener<WaylandGlobal>>();
  readonly #closed = new Set<Listener<WaylandCloseReason>>();

  private constructor(socket: OwnedFd) {
    this.#connection = new Connection(socket, (reason) => emit(this.#closed, reason));
    this.#registry = this.#connection.display.getRegistry();
    this.#registry.listener = {
      global: (name, interfaceName, version) => this.#add({ name, interface: interfaceName, version }),
      globalRemove: (name) => this.#remove(name),
    };
  }

  /**
   * Connects, and resolves when all globals are known. Rejects with WaylandError `connect`, which
   * says where we looked; with the reason when the connection ends at once; with the signal's.
   */
  static async connect({ socket, signal }: ConnectOptions = {}): Promise<WaylandDisplay> {
    const display = new WaylandDisplay(socket instanceof OwnedFd ? socket : openSocket(socket, process.env));
    const abort = (): void => display[Symbol.dispose]();
    signal?.addEventListener('abort', abort);
    try {
      signal?.throwIfAborted();
      await display.roundtrip();
      signal?.throwIfAborted();
      return display;
    } catch (error) {
      display[Symbol.dispose]();
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** What the compositor offers now, by name. */
  get globals(): ReadonlyMap<number, WaylandGlobal> {
    return this.#globals;
  }

  /** Why the connection ended; null while it works. */
  get closeReason(): WaylandCloseReason | null {
    return this.#connection.closeReason;
  }

  /**
   * Binds `global`, or the first one of the interface, with the highest version that you
   * (`maxVersion`), the compositor and our tables know. Null if there is none (any more).
   */
  bind<T extends WaylandObject>(type: WaylandClass<T>, maxVersion: number, global = this.#first(type)): T | null {
    if (!global || this.#globals.get(global.name) !== global) return null;
    if (global.interface !== type.interface.name) throw new RangeError(`${global.interface} bound as ${type.interface.name}`);
    return this.#registry.bind(global.name, type, Math.min(maxVersion, global.version, type.interface.version));
  }

  /** Resolves when the compositor has handled all requests made so far, and its events were dispatched. Rejects with the close reason. */
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

  /** Sends requests now, not at the end of the event loop's turn. */
  flush(): void {
    this.#connection.flush();
  }

  /** A global that came after `connect`. Returns how to stop listening, as the other two. */
  onGlobalAdded(listener: (global: WaylandGlobal) => void): () => void {
    return listen(this.#added, listener);
  }

  /** Objects bound to it do nothing any more: dispose them. */
  onGlobalRemoved(listener: (global: WaylandGlobal) => void): () => void {
    return listen(this.#removed, listener);
  }

  /** The connection ended, by dispose too; it and all objects are released by then. */
  onClosed(listener: (reason: WaylandCloseReason) => void): () => void {
    return listen(this.#closed, listener);
  }

  /** Closes the connection. What was not sent is lost: `flush` first, or `roundtrip`. */
  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  #first({ interface: { name } }: WaylandClass): WaylandGlobal | undefined {
    for (const global of this.#globals.values()) if (global.interface === name) return global;
    return undefined;
  }

  #add(global: WaylandGlobal): void {
    if (this.#globals.has(global.name) || global.version === 0) throw new Malformed(`it is ${global.interface} ${global.name}, version ${global.version}`);
    if (this.#globals.size >= MAX_GLOBALS) throw new Malformed(`more than ${MAX_GLOBALS} globals`);
    this.#globals.set(global.name, global);
    emit(this.#added, global);
  }

  #remove(name: number): void {
    const global = this.#globals.get(name);
    if (!global) throw new Malformed(`there is no global ${name}`);
    this.#globals.delete(name);
    emit(this.#removed, global);
  }
}

function listen<Argument>(listeners: Set<Listener<Argument>>, listener: Listener<Argument>): () => void {
  const entry: Listener<Argument> = (argument) => listener(argument);
  listeners.add(entry);
  return () => void listeners.delete(entry);
}

function emit<Argument>(listeners: ReadonlySet<Listener<Argument>>, argument: Argument): void {
  for (const listener of [...listeners]) {
    try {
      listener(argument);
    } catch (error) {
      throwLater(error);
    }
  }
}

/**
 * A socket to the compositor: at `name`, a path or a name below XDG_RUNTIME_DIR. Without one as
 * the environment says: WAYLAND_SOCKET, a connected socket we inherited, which is taken out of
 * `env`; WAYLAND_DISPLAY; `wayland-0`. WaylandError `connect`.
 */
export function openSocket(name: string | undefined, env: NodeJS.ProcessEnv): OwnedFd {
  if (name === undefined && env.WAYLAND_SOCKET !== undefined) return inheritSocket(env);
  const path = socketPath(name, env);
  try {
    return connectUnix(path);
  } catch (error) {
    throw new WaylandError('connect', `no Wayland compositor at ${path}: ${String(error)}`, { cause: error });
  }
}

function inheritSocket(env: NodeJS.ProcessEnv): OwnedFd {
  const value = env.WAYLAND_SOCKET!;
  // Whoever comes next, a child for one, must not take it again.
  delete env.WAYLAND_SOCKET;
  try {
    if (!/^\d+$/.test(value)) throw new RangeError('not a number');
    return OwnedFd.inherit(Number(value));
  } catch (error) {
    throw new WaylandError('connect', `WAYLAND_SOCKET=${value} is no open file descriptor: ${String(error)}`, { cause: error });
  }
}

function socketPath(name: string | undefined, env: NodeJS.ProcessEnv): string {
  const display = name ?? (env.WAYLAND_DISPLAY || 'wayland-0');
  if (isAbsolute(display)) return display;
  const directory = env.XDG_RUNTIME_DIR ?? '';
  if (!isAbsolute(directory)) {
    const is = directory === '' ? 'is not set' : `is no absolute path (${directory})`;
    throw new WaylandError('connect', `no Wayland compositor: ${display} is looked for in XDG_RUNTIME_DIR, which ${is}; set it, or give the socket's full path`);
  }
  return join(directory, display);
}
