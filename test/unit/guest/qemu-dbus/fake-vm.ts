import * as uapi from '../../../../protocols/qemu-display1.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { BusConnection, type BusMessage, type BusValue, METHOD_ERROR, SIGNAL } from '../../../../src/sys/lib/sd-bus.ts';
import { socketPair } from '../../../../src/sys/socket.ts';

export interface FakeConsole {
  readonly type?: 'Graphic' | 'Text';
  readonly label?: string;
  readonly isAbsolute?: boolean;
  readonly modifiers?: number;
  readonly touches?: number;
}

/** One call that QEMU got: its interface without `org.qemu.Display1.`, member and values. */
export type Call = readonly [string, ...unknown[]];

const READERS: Readonly<Record<string, (call: BusMessage) => unknown>> = {
  u: (call) => call.u32(),
  i: (call) => call.i32(),
  s: (call) => call.string(),
  as: (call) => call.strings(),
};

/** QEMU's side of its D-Bus display, peer to peer, as QEMU 10.0 behaves. */
export class FakeVm implements Disposable {
  readonly calls: Call[] = [];
  /** The interfaces that the listener of each console offers. */
  readonly interfaces: string[][] = [];
  /** Calls of GetManagedObjects that are answered as before QEMU has exported anything. */
  unexported = 1;
  isGone = false;
  /** What the guest has copied: its type, and the data. */
  copied: readonly [string, Uint8Array] = [uapi.CLIPBOARD_TEXT, new Uint8Array(0)];
  /** Calls, as in `calls`, that get an error. */
  readonly refused = new Set<string>();
  readonly #consoles: readonly FakeConsole[];
  readonly #name: string;
  #main: BusConnection | null = null;
  readonly #listeners = new Map<number, BusConnection>();
  readonly #registered = new Map<number, () => void>();

  constructor(consoles: readonly FakeConsole[] = [{}], name = 'fake VM') {
    this.#consoles = consoles;
    this.#name = name;
  }

  readonly connect = (): Promise<OwnedFd> => {
    if (this.isGone) return Promise.reject(new Error('there is no QEMU'));
    const [ours, theirs] = socketPair();
    this.serve(theirs);
    return Promise.resolve(ours);
  };

  /** Has a client at the other end of the socket, which it owns, instead of the one before. */
  serve(socket: OwnedFd): void {
    this.#main?.[Symbol.dispose]();
    this.#main = BusConnection.peer(
      socket,
      { received: (call) => this.#receive(call), closed: () => (this.#main = null) },
      'server',
    );
  }

  /** Joins a bus as QEMU does, behind others that have its name; resolves when that is done. */
  join(address: string): Promise<void> {
    const main = BusConnection.bus(address, {
      received: (call) => this.#receive(call),
      closed: () => (this.#main = null),
    });
    this.#main = main;
    const bus = {
      destination: 'org.freedesktop.DBus',
      path: '/org/freedesktop/DBus',
      interface: 'org.freedesktop.DBus',
    };
    return new Promise((resolve) => main.call(bus, 'RequestName', 'su', [uapi.BUS_NAME, 0], () => resolve()));
  }

  /** Resolves when console `id` has a listener whose properties were read. */
  registered(id = 0): Promise<void> {
    if (this.interfaces[id]) return Promise.resolve();
    return new Promise((resolve) => this.#registered.set(id, resolve));
  }

  /** Calls the listener of a console as QEMU does; resolves with null, or the errno of its error. */
  call(
    id: number,
    interfaceName: string,
    member: string,
    signature: string,
    values: readonly BusValue[],
  ): Promise<string | null> {
    const target = { path: uapi.LISTENER_PATH, interface: interfaceName };
    return new Promise((resolve) =>
      this.listener(id).call(target, member, signature, values, (reply) =>
        resolve(reply.type === METHOD_ERROR ? reply.errno : null),
      ),
    );
  }

  /** Calls the client's clipboard; resolves with the data of a Request, null for another reply, or the errno of its error. */
  clipboard(member: string, signature = '', values: readonly BusValue[] = []): Promise<string | null> {
    const target = { path: uapi.CLIPBOARD_PATH, interface: uapi.CLIPBOARD };
    return new Promise((resolve) =>
      this.#main!.call(target, member, signature, values, (reply) => {
        if (reply.type === METHOD_ERROR) resolve(reply.errno);
        else if (member !== 'Request') resolve(null);
        else resolve(`${reply.string()}: ${Buffer.from(reply.copyOfBytes(2 ** 25)!).toString()}`);
      }),
    );
  }

  listener(id: number): BusConnection {
    return this.#listeners.get(id)!;
  }

  /** Tells that properties of a console changed. */
  change(id: number, interfaceName: string, name: string, type: string, value: BusValue): void {
    this.#main!.signal(`${uapi.ROOT_PATH}/Console_${id}`, uapi.PROPERTIES, 'PropertiesChanged', (signal) => {
      signal.append('s', [interfaceName]);
      signal.container('a', '{sv}', () => property(signal, name, type, value));
      signal.append('as', [[]]);
    });
  }

  /** QEMU ends. */
  kill(): void {
    this.isGone = true;
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#main?.[Symbol.dispose]();
    this.#main = null;
    for (const listener of this.#listeners.values()) listener[Symbol.dispose]();
    this.#listeners.clear();
    this.interfaces.length = 0;
  }

  #receive(call: BusMessage): void {
    const main = this.#main!;
    // NameAcquired.
    if (call.type === SIGNAL) return;
    if (call.member === 'GetManagedObjects') {
      if (this.unexported-- > 0) main.refuse(call, 53);
      else main.reply(call, (reply) => this.#fillObjects(reply));
      return;
    }
    if (call.member === 'RegisterListener') {
      const id = Number(/\d+$/.exec(call.path)![0]);
      this.#listen(id, call.fd());
      main.reply(call);
      return;
    }
    if (call.interface === uapi.PROPERTIES) {
      const value = call.string() === uapi.VM ? this.#name : 'Graphic';
      main.reply(call, (reply) => reply.container('v', 's', () => reply.append('s', [value])));
      return;
    }
    const values = (call.signature.match(/a?./g) ?? []).map((type) => READERS[type]?.(call) ?? (call.skip(type), type));
    const name = `${call.interface.replace('org.qemu.Display1.', '')}.${call.member}`;
    this.calls.push([name, ...values]);
    const answer = name === 'Clipboard.Request' ? this.copied : null;
    if (this.refused.has(name)) main.refuse(call, 1);
    else main.reply(call, (reply) => answer && reply.append('say', answer));
  }

  #listen(id: number, socket: OwnedFd): void {
    const listener = BusConnection.peer(socket, { received: () => undefined, closed: () => undefined }, 'server');
    this.#listeners.set(id, listener);
    const target = { path: uapi.LISTENER_PATH, interface: uapi.PROPERTIES };
    listener.call(target, 'GetAll', 's', [uapi.LISTENER], (reply) => {
      reply.dictionary((name) => {
        if (name === 'Interfaces') this.interfaces[id] = reply.strings();
      });
      this.#registered.get(id)?.();
    });
  }

  #fillObjects(reply: BusMessage): void {
    reply.container('a', '{oa{sa{sv}}}', () => {
      object(reply, `${uapi.ROOT_PATH}/VM`, [[uapi.VM, 'Name', 's', this.#name]]);
      this.#consoles.forEach((console, id) => {
        const { type = 'Graphic', label = `VGA ${id}`, isAbsolute = true, modifiers = 0, touches = 10 } = console;
        object(reply, `${uapi.ROOT_PATH}/Console_${id}`, [
          [uapi.CONSOLE, 'Type', 's', type],
          [uapi.CONSOLE, 'Label', 's', label],
          [uapi.CONSOLE, 'Width', 'u', 640],
          [uapi.CONSOLE, 'Interfaces', 'as', ['a', 'b']],
          [uapi.MOUSE, 'IsAbsolute', 'b', isAbsolute],
          [uapi.KEYBOARD, 'Modifiers', 'u', modifiers],
          [uapi.MULTI_TOUCH, 'MaxSlots', 'i', touches],
        ]);
      });
    });
  }
}

type Property = readonly [interfaceName: string, name: string, type: string, value: BusValue];

function object(reply: BusMessage, path: string, properties: readonly Property[]): void {
  reply.container('e', 'oa{sa{sv}}', () => {
    reply.append('o', [path]);
    reply.container('a', '{sa{sv}}', () => {
      for (const [interfaceName, name, type, value] of properties) {
        reply.container('e', 'sa{sv}', () => {
          reply.append('s', [interfaceName]);
          reply.container('a', '{sv}', () => property(reply, name, type, value));
        });
      }
    });
  });
}

function property(message: BusMessage, name: string, type: string, value: BusValue): void {
  message.container('e', 'sv', () => {
    message.append('s', [name]);
    message.container('v', type, () => message.append(type, [value]));
  });
}
