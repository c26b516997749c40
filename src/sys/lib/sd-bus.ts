/**
 * sd-bus of libsystemd, if it is installed: D-Bus connections to a bus or to a single peer, with file descriptors.
 * Nothing here blocks, and no C function calls back: messages are taken one by one from the event loop.
 *
 * sd-bus checks every message (header, signature, UTF-8, nesting) before it is handed out, and takes none above 128 MiB.
 */
import koffi from 'koffi';
import { DisposableStack } from '../disposable-stack.ts';
import { errnoName, SysError } from '../errors.ts';
import { type BorrowedFd, dupFd, OwnedFd } from '../fd.ts';
import { viewOf } from '../libc.ts';
import { Poll, type PollEvents } from '../poll.ts';
import { Pump } from '../pump.ts';
import { optionalLibrary } from './library.ts';

/* systemd/sd-bus-protocol.h */
export const METHOD_CALL = 1;
export const METHOD_RETURN = 2;
export const METHOD_ERROR = 3;
export const SIGNAL = 4;

/* poll.h, as sd_bus_get_events returns it. */
const POLLIN = 1;
const POLLOUT = 4;

const LOCAL = 'org.freedesktop.DBus.Local';

type Pointer = Uint8Array;

class SdBus {
  readonly newBus: (bus: Pointer) => number;
  readonly setFd: (bus: number, input: number, output: number) => number;
  readonly setAddress: (bus: number, address: string) => number;
  readonly setBusClient: (bus: number, isClient: number) => number;
  readonly setServer: (bus: number, isServer: number, id: readonly number[]) => number;
  readonly negotiateFds: (bus: number, negotiate: number) => number;
  readonly start: (bus: number) => number;
  readonly isReady: (bus: number) => number;
  readonly closeUnref: (bus: number) => number;
  readonly getFd: (bus: number) => number;
  readonly getEvents: (bus: number) => number;
  readonly process: (bus: number, message: Pointer) => number;
  readonly send: (bus: number, message: number, cookie: Pointer) => number;
  readonly newCall: (
    bus: number,
    message: Pointer,
    destination: string | null,
    path: string,
    interfaceName: string,
    member: string,
  ) => number;
  readonly newReturn: (call: number, message: Pointer) => number;
  readonly newErrno: (call: number, message: Pointer, error: number, details: number) => number;
  readonly newSignal: (bus: number, message: Pointer, path: string, interfaceName: string, member: string) => number;
  readonly ref: (message: number) => number;
  readonly unref: (message: number) => number;
  readonly setExpectReply: (message: number, expects: number) => number;
  readonly getExpectReply: (message: number) => number;
  readonly getType: (message: number, type: Pointer) => number;
  readonly getReplyCookie: (message: number, cookie: Pointer) => number;
  readonly getErrno: (message: number) => number;
  readonly getMember: (message: number) => string | null;
  readonly getInterface: (message: number) => string | null;
  readonly getPath: (message: number) => string | null;
  readonly getSender: (message: number) => string | null;
  readonly getSignature: (message: number, complete: number) => string | null;
  readonly appendNumber: (message: number, type: number, value: Pointer) => number;
  readonly appendString: (message: number, type: number, value: string) => number;
  readonly appendArray: (message: number, type: number, bytes: Pointer, length: number) => number;
  readonly open: (message: number, type: number, contents: string) => number;
  readonly close: (message: number) => number;
  readonly readNumber: (message: number, type: number, value: Pointer) => number;
  readonly readString: (message: number, type: number, value: (string | null)[]) => number;
  readonly readArray: (message: number, type: number, address: Pointer, length: Pointer) => number;
  readonly enter: (message: number, type: number, contents: string | null) => number;
  readonly exit: (message: number) => number;
  readonly skip: (message: number, types: string | null) => number;
  readonly peekType: (message: number, type: Pointer, contents: (string | null)[]) => number;

  constructor() {
    const library = koffi.load('libsystemd.so.0');
    const bind = (name: string, result: string, ...parameters: unknown[]): never =>
      library.func(name, result, parameters as string[]) as never;
    const object = 'uintptr_t';
    const pointer = 'void *';
    const out = koffi.out(koffi.pointer('str'));
    const id128 = koffi.array('uint8_t', 16);
    // Passed by value: a union of 16 bytes, which has the class of two integers.
    const id = koffi.struct({ bytes: id128 });
    this.newBus = bind('sd_bus_new', 'int', pointer);
    this.setFd = bind('sd_bus_set_fd', 'int', object, 'int', 'int');
    this.setAddress = bind('sd_bus_set_address', 'int', object, 'str');
    this.setBusClient = bind('sd_bus_set_bus_client', 'int', object, 'int');
    const setServer: (bus: number, isServer: number, value: { bytes: readonly number[] }) => number = bind(
      'sd_bus_set_server',
      'int',
      object,
      'int',
      id,
    );
    this.setServer = (bus, isServer, bytes) => setServer(bus, isServer, { bytes });
    this.negotiateFds = bind('sd_bus_negotiate_fds', 'int', object, 'int');
    this.start = bind('sd_bus_start', 'int', object);
    this.isReady = bind('sd_bus_is_ready', 'int', object);
    this.closeUnref = bind('sd_bus_close_unref', object, object);
    this.getFd = bind('sd_bus_get_fd', 'int', object);
    this.getEvents = bind('sd_bus_get_events', 'int', object);
    this.process = bind('sd_bus_process', 'int', object, pointer);
    this.send = bind('sd_bus_send', 'int', object, object, pointer);
    this.newCall = bind('sd_bus_message_new_method_call', 'int', object, pointer, 'str', 'str', 'str', 'str');
    this.newReturn = bind('sd_bus_message_new_method_return', 'int', object, pointer);
    this.newErrno = bind('sd_bus_message_new_method_errno', 'int', object, pointer, 'int', object);
    this.newSignal = bind('sd_bus_message_new_signal', 'int', object, pointer, 'str', 'str', 'str');
    this.ref = bind('sd_bus_message_ref', object, object);
    this.unref = bind('sd_bus_message_unref', object, object);
    this.setExpectReply = bind('sd_bus_message_set_expect_reply', 'int', object, 'int');
    this.getExpectReply = bind('sd_bus_message_get_expect_reply', 'int', object);
    this.getType = bind('sd_bus_message_get_type', 'int', object, pointer);
    this.getReplyCookie = bind('sd_bus_message_get_reply_cookie', 'int', object, pointer);
    this.getErrno = bind('sd_bus_message_get_errno', 'int', object);
    this.getMember = bind('sd_bus_message_get_member', 'str', object);
    this.getInterface = bind('sd_bus_message_get_interface', 'str', object);
    this.getPath = bind('sd_bus_message_get_path', 'str', object);
    this.getSender = bind('sd_bus_message_get_sender', 'str', object);
    this.getSignature = bind('sd_bus_message_get_signature', 'str', object, 'int');
    this.appendNumber = bind('sd_bus_message_append_basic', 'int', object, 'int', pointer);
    this.appendString = bind('sd_bus_message_append_basic', 'int', object, 'int', 'str');
    this.appendArray = bind('sd_bus_message_append_array', 'int', object, 'int', pointer, 'size_t');
    this.open = bind('sd_bus_message_open_container', 'int', object, 'int', 'str');
    this.close = bind('sd_bus_message_close_container', 'int', object);
    this.readNumber = bind('sd_bus_message_read_basic', 'int', object, 'int', pointer);
    this.readString = bind('sd_bus_message_read_basic', 'int', object, 'int', out);
    this.readArray = bind('sd_bus_message_read_array', 'int', object, 'int', pointer, pointer);
    this.enter = bind('sd_bus_message_enter_container', 'int', object, 'int', 'str');
    this.exit = bind('sd_bus_message_exit_container', 'int', object);
    this.skip = bind('sd_bus_message_skip', 'int', object, 'str');
    this.peekType = bind('sd_bus_message_peek_type', 'int', object, pointer, out);
  }
}

const loadSdBus = optionalLibrary(() => new SdBus());

/** Whether libsystemd is installed. */
export function hasSdBus(): boolean {
  return loadSdBus() !== null;
}

/** What one call passes: read and used before the next. */
const slot = new Uint8Array(16);
const slotView = new DataView(slot.buffer);
const lengthSlot = new Uint8Array(8);
const lengthView = new DataView(lengthSlot.buffer);
const text: (string | null)[] = [null];

function addressIn(view: DataView): number {
  return Number(view.getBigUint64(0, true));
}

function check(operation: string, result: number): number {
  if (result < 0) throw new SysError(operation, errnoName(-result));
  return result;
}

/** Of a read: 0 means that there is no such value. */
function checkRead(operation: string, result: number): void {
  if (check(operation, result) === 0) throw new SysError(operation, 'ENXIO');
}

const code = (type: string): number => type.charCodeAt(0);

/** A value of D-Bus: a number, a string, a descriptor, which is duplicated when it is sent, or an array. */
export type BusValue = number | bigint | boolean | string | BorrowedFd | Uint8Array | readonly BusValue[];

/**
 * A message. One that was received is valid during the call that hands it out; its values are read in order. A value of
 * another type than asked for is a SysError ENXIO, and what follows it cannot be read.
 */
export class BusMessage {
  /** Of the sd_bus_message, for BusConnection. */
  readonly address: number;
  readonly #library: SdBus;

  constructor(library: SdBus, address: number) {
    this.#library = library;
    this.address = address;
  }

  get type(): number {
    this.#library.getType(this.address, slot);
    return slot[0]!;
  }

  get path(): string {
    return this.#library.getPath(this.address) ?? '';
  }

  get interface(): string {
    return this.#library.getInterface(this.address) ?? '';
  }

  get member(): string {
    return this.#library.getMember(this.address) ?? '';
  }

  /** The types of all values. */
  get signature(): string {
    return this.#library.getSignature(this.address, 1) ?? '';
  }

  /** The sender's unique name on a bus; empty from a peer. */
  get sender(): string {
    return this.#library.getSender(this.address) ?? '';
  }

  /** Of a METHOD_ERROR: the errno that libsystemd has for it, such as EBADR for an unknown object or method. */
  get errno(): string {
    return errnoName(this.#library.getErrno(this.address));
  }

  get wantsReply(): boolean {
    return this.#library.getExpectReply(this.address) > 0;
  }

  /** Of a reply: what `BusConnection.call` returned. */
  get replyTo(): number {
    this.#library.getReplyCookie(this.address, slot);
    return Number(slotView.getBigUint64(0, true));
  }

  u32(): number {
    this.#read('u');
    return slotView.getUint32(0, true);
  }

  i32(): number {
    this.#read('i');
    return slotView.getInt32(0, true);
  }

  u64(): bigint {
    this.#read('t');
    return slotView.getBigUint64(0, true);
  }

  boolean(): boolean {
    this.#read('b');
    return slotView.getUint32(0, true) !== 0;
  }

  /** Types s, o and g. */
  string(type: 's' | 'o' | 'g' = 's'): string {
    checkRead('sd_bus_message_read_basic', this.#library.readString(this.address, code(type), text));
    return text[0] ?? '';
  }

  /** A duplicate of a descriptor, which the caller owns. SysError EMFILE. */
  fd(): OwnedFd {
    this.#read('h');
    using copy = dupFd({ fd: slotView.getInt32(0, true) });
    return OwnedFd.receive(copy.take());
  }

  /** The bytes of an array of type `ay`, which go with the message. */
  bytes(): { readonly address: number; readonly length: number } {
    check('sd_bus_message_read_array', this.#library.readArray(this.address, code('y'), slot, lengthSlot));
    return { address: addressIn(slotView), length: addressIn(lengthView) };
  }

  /** A copy of the bytes of an array of type `ay`; null, and none is made, if they are more than `most`. */
  copyOfBytes(most: number): Uint8Array | null {
    const { address, length } = this.bytes();
    if (length > most) return null;
    return length === 0 ? new Uint8Array(0) : new Uint8Array(viewOf(address, length)).slice();
  }

  /** The elements of an array of `u`. SysError E2BIG if they are more than `most`. */
  u32s(most: number): number[] {
    check('sd_bus_message_read_array', this.#library.readArray(this.address, code('u'), slot, lengthSlot));
    const length = addressIn(lengthView);
    if (length > 4 * most) throw new SysError('sd_bus_message_read_array', 'E2BIG');
    return length === 0 ? [] : [...new Uint32Array(viewOf(addressIn(slotView), length))];
  }

  /** Duplicates of the descriptors of an array of `h`, which the caller owns. SysError EMFILE, E2BIG if they are more than `most`. */
  fds(most: number): OwnedFd[] {
    using stack = new DisposableStack();
    const all: OwnedFd[] = [];
    this.array('h', () => {
      if (all.length === most) throw new SysError('sd_bus_message_enter_container', 'E2BIG');
      all.push(stack.use(this.fd()));
    });
    stack.move();
    return all;
  }

  strings(): string[] {
    const all: string[] = [];
    this.array('s', () => all.push(this.string()));
    return all;
  }

  /** Calls `element` for each element of an array whose elements have the type `contents`. */
  array(contents: string, element: () => void): void {
    checkRead('sd_bus_message_enter_container', this.#library.enter(this.address, code('a'), contents));
    while (this.#peek() !== 0) element();
    check('sd_bus_message_exit_container', this.#library.exit(this.address));
  }

  /** Calls `value` with the name of each entry of an array `a{sv}`; inside the variant, whose type it is given. */
  dictionary(value: (name: string, type: string) => void): void {
    this.array('{sv}', () => this.entry('sv', () => this.variant((type, name) => value(name, type), this.string())));
  }

  /** Calls `inside` inside an entry of a dictionary. */
  entry(contents: string, inside: () => void): void {
    checkRead('sd_bus_message_enter_container', this.#library.enter(this.address, code('e'), contents));
    inside();
    check('sd_bus_message_exit_container', this.#library.exit(this.address));
  }

  /** Calls `inside` with the type of a variant's value, which it reads or skips. */
  variant<T>(inside: (type: string, given: T) => void, given: T): void {
    this.#peek();
    const type = text[0] ?? '';
    checkRead('sd_bus_message_enter_container', this.#library.enter(this.address, code('v'), type));
    inside(type, given);
    check('sd_bus_message_exit_container', this.#library.exit(this.address));
  }

  /** Passes over values of these types. */
  skip(types: string): void {
    check('sd_bus_message_skip', this.#library.skip(this.address, types));
  }

  /** Adds values of the types of `signature`: basic ones, and arrays of them. */
  append(signature: string, values: readonly BusValue[]): this {
    let at = 0;
    for (const value of values) {
      const type = signature[at] === 'a' ? signature.slice(at, at + 2) : signature[at]!;
      at += type.length;
      this.#append(type, value);
    }
    return this;
  }

  /** Calls `inside` to add the contents of a container: `a` array, `e` entry of a dictionary, `v` variant, `r` struct. */
  container(type: 'a' | 'e' | 'v' | 'r', contents: string, inside: () => void): this {
    check('sd_bus_message_open_container', this.#library.open(this.address, code(type), contents));
    inside();
    check('sd_bus_message_close_container', this.#library.close(this.address));
    return this;
  }

  #read(type: string): void {
    checkRead('sd_bus_message_read_basic', this.#library.readNumber(this.address, code(type), slot));
  }

  /** The type of the next value, 0 at the end of a container; leaves its contents in `text`. */
  #peek(): number {
    const result = check('sd_bus_message_peek_type', this.#library.peekType(this.address, slot, text));
    return result === 0 ? 0 : slot[0]!;
  }

  #append(type: string, value: BusValue): void {
    const library = this.#library;
    if (type.startsWith('a') && type !== 'ay') {
      const element = type.slice(1);
      this.container('a', element, () => (value as readonly BusValue[]).forEach((each) => this.#append(element, each)));
      return;
    }
    let result: number;
    if (type === 'ay') {
      const bytes = value as Uint8Array;
      result = library.appendArray(this.address, code('y'), bytes, bytes.length);
    } else if (typeof value === 'string') {
      result = library.appendString(this.address, code(type), value);
    } else {
      setSlot(type, value as number | bigint | boolean | BorrowedFd);
      result = library.appendNumber(this.address, code(type), slot);
    }
    check(`sd_bus_message_append_basic of type ${type}`, result);
  }
}

function setSlot(type: string, value: number | bigint | boolean | BorrowedFd): void {
  if (typeof value === 'object') slotView.setInt32(0, value.fd, true);
  else if (typeof value === 'bigint') slotView.setBigUint64(0, value, true);
  else if (type === 'd') slotView.setFloat64(0, Number(value), true);
  else if (type === 't' || type === 'x') slotView.setBigInt64(0, BigInt(value), true);
  else if (type === 'i') slotView.setInt32(0, Number(value), true);
  else slotView.setUint32(0, Number(value), true);
}

/** Called from the event loop, never from a method of the connection. Any of these may dispose it. */
export interface BusListener {
  /** A call or a signal; a call that wants a reply must get one, by `reply` or `refuse`. What it throws ends the connection. */
  received(message: BusMessage): void;
  /** The end of the messages that have arrived, or of as many as are read at once. */
  drained?(): void;
  /** The peer is gone or broke the protocol. This is the last call. */
  closed(cause: Error): void;
}

/** Receives the reply to a call, a METHOD_RETURN or METHOD_ERROR. What it throws ends the connection. */
export type OnReply = (reply: BusMessage) => void;

/** Messages that are handed out before `drained` is called in between. */
const MOST_AT_ONCE = 64;

/** A D-Bus connection. Keeps the process alive until disposed, or until `closed`. */
export class BusConnection implements Disposable {
  readonly #library: SdBus;
  readonly #bus: number;
  readonly #listener: BusListener;
  readonly #waiting = new Map<number, OnReply>();
  readonly #pump = new Pump(() => this.#step());
  readonly #poll: Poll;
  #events: number;
  #count = 0;
  #isOpen = true;
  /** A message whose handling goes on. */
  #unfinished: { readonly message: number; readonly piece: () => boolean } | null = null;

  private constructor(library: SdBus, bus: number, listener: BusListener) {
    this.#library = library;
    this.#bus = bus;
    this.#listener = listener;
    this.#events = library.getEvents(bus);
    this.#poll = Poll.watch({ fd: check('sd_bus_get_fd', library.getFd(bus)) }, eventsOf(this.#events), () =>
      this.#pump.start(),
    );
  }

  /**
   * The client's or, for tests, the server's side of a connection to a single peer. Takes ownership of the socket, also
   * on failure. The client's whole handshake is sent at once. SysError ENOSYS without libsystemd.
   */
  static peer(socket: OwnedFd, listener: BusListener, side: 'client' | 'server' = 'client'): BusConnection {
    using owned = socket;
    return BusConnection.#open(listener, (library, bus) => {
      check('sd_bus_set_fd', library.setFd(bus, owned.fd, owned.fd));
      owned.take();
      if (side === 'server') {
        const id = Array.from({ length: 16 }, (_, index) => index + 1);
        check('sd_bus_set_server', library.setServer(bus, 1, id));
      }
    });
  }

  /** A client of the bus at an address such as `unix:path=/run/user/1000/bus`. SysError ENOENT, ECONNREFUSED, EINVAL for a malformed address. */
  static bus(address: string, listener: BusListener): BusConnection {
    return BusConnection.#open(listener, (library, bus) => {
      check('sd_bus_set_address', library.setAddress(bus, address));
      check('sd_bus_set_bus_client', library.setBusClient(bus, 1));
    });
  }

  static #open(listener: BusListener, configure: (library: SdBus, bus: number) => void): BusConnection {
    const library = loadSdBus();
    if (library === null)
      throw new SysError('dlopen', 'ENOSYS', 'libsystemd.so.0; install the package libsystemd0 to use D-Bus');
    check('sd_bus_new', library.newBus(slot));
    const bus = addressIn(slotView);
    try {
      check('sd_bus_negotiate_fds', library.negotiateFds(bus, 1));
      configure(library, bus);
      check('sd_bus_start', library.start(bus));
      return new BusConnection(library, bus, listener);
    } catch (error) {
      library.closeUnref(bus);
      throw error;
    }
  }

  /** The handshake is over: only now can descriptors be sent. */
  get isReady(): boolean {
    return this.#isOpen && this.#library.isReady(this.#bus) > 0;
  }

  /** The peer has not taken everything that was sent. */
  get isBehind(): boolean {
    return (this.#events & POLLOUT) !== 0;
  }

  /** Sends a call. Without `onReply` none is asked for. SysError ENOBUFS when the peer has stopped reading, ENOTCONN, EINVAL for a malformed name. */
  call(
    target: { readonly destination?: string; readonly path: string; readonly interface: string },
    member: string,
    signature = '',
    values: readonly BusValue[] = [],
    onReply: OnReply | null = null,
  ): void {
    const library = this.#library;
    if (!this.#isOpen) throw new SysError('sd_bus_send', 'ENOTCONN');
    const { destination = null, path, interface: name } = target;
    check('sd_bus_message_new_method_call', library.newCall(this.#bus, slot, destination, path, name, member));
    const cookie = this.#send(addressIn(slotView), (message) => {
      message.append(signature, values);
      if (!onReply) check('sd_bus_message_set_expect_reply', library.setExpectReply(message.address, 0));
    });
    if (onReply) this.#waiting.set(cookie, onReply);
  }

  /** Answers a call; `fill` adds the values. Does nothing for a call that wants no reply. */
  reply(call: BusMessage, fill: (reply: BusMessage) => void = () => undefined): void {
    if (!call.wantsReply) return;
    check('sd_bus_message_new_method_return', this.#library.newReturn(call.address, slot));
    this.#send(addressIn(slotView), fill);
  }

  /** Answers a call by an error of D-Bus that stands for an errno. */
  refuse(call: BusMessage, errno: number): void {
    if (!call.wantsReply) return;
    check('sd_bus_message_new_method_errno', this.#library.newErrno(call.address, slot, errno, 0));
    this.#send(addressIn(slotView), () => undefined);
  }

  /**
   * For a call that is much work: `piece` does a part of it and says whether there is more. Until then nothing else is
   * handed out, and the call stays valid. To be called from `received`. What `piece` throws ends the connection.
   */
  goOn(call: BusMessage, piece: () => boolean): void {
    this.#unfinished = { message: this.#library.ref(call.address), piece };
  }

  /** Answers a call later: the result, called once, does so, unless the peer is gone. It does not throw. */
  later(call: BusMessage): () => void {
    const library = this.#library;
    const held = new BusMessage(library, library.ref(call.address));
    return () => {
      try {
        if (this.#isOpen) this.reply(held);
      } catch (error) {
        // `closed` follows, if it has not come.
        if (!(error instanceof SysError)) throw error;
      } finally {
        library.unref(held.address);
      }
    };
  }

  signal(path: string, interfaceName: string, member: string, fill: (signal: BusMessage) => void): void {
    check('sd_bus_message_new_signal', this.#library.newSignal(this.#bus, slot, path, interfaceName, member));
    this.#send(addressIn(slotView), fill);
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#waiting.clear();
    this.#finish();
    this.#pump[Symbol.dispose]();
    this.#poll[Symbol.dispose]();
    this.#library.closeUnref(this.#bus);
  }

  /** Consumes `address`, a new message. Returns its number. */
  #send(address: number, fill: (message: BusMessage) => void): number {
    const library = this.#library;
    try {
      fill(new BusMessage(library, address));
      check('sd_bus_send', library.send(this.#bus, address, slot));
      return Number(slotView.getBigUint64(0, true));
    } finally {
      library.unref(address);
      this.#watch();
    }
  }

  #watch(): void {
    if (!this.#isOpen) return;
    const events = this.#library.getEvents(this.#bus);
    if (events < 0 || events === this.#events) return;
    this.#events = events;
    this.#poll.update(eventsOf(events));
  }

  #finish(): void {
    if (this.#unfinished) this.#library.unref(this.#unfinished.message);
    this.#unfinished = null;
  }

  /** Handles one message, or a part of one, or does a part of the work before it. */
  #step(): boolean {
    if (this.#unfinished) {
      try {
        if (!this.#unfinished.piece()) this.#finish();
      } catch (error) {
        this.#end(error as Error);
      }
      return this.#isOpen;
    }
    slot.fill(0, 0, 8);
    const result = this.#library.process(this.#bus, slot);
    const address = addressIn(slotView);
    if (result < 0) {
      this.#end(new SysError('sd_bus_process', errnoName(-result)));
      return false;
    }
    if (address !== 0) {
      try {
        this.#handle(new BusMessage(this.#library, address));
      } catch (error) {
        if (this.#isOpen) this.#end(error as Error);
      } finally {
        this.#library.unref(address);
      }
      if (!this.#isOpen) return false;
    }
    this.#watch();
    if (result === 0 || ++this.#count >= MOST_AT_ONCE) {
      this.#count = 0;
      this.#listener.drained?.();
    }
    return result > 0 && this.#isOpen;
  }

  #handle(message: BusMessage): void {
    const { type } = message;
    if (type === METHOD_RETURN || type === METHOD_ERROR) {
      const cookie = message.replyTo;
      const onReply = this.#waiting.get(cookie);
      this.#waiting.delete(cookie);
      onReply?.(message);
    } else if (type === SIGNAL && message.interface === LOCAL) {
      this.#end(new SysError('sd_bus_process', 'ECONNRESET', 'the peer has closed the connection'));
    } else {
      this.#listener.received(message);
    }
  }

  #end(cause: Error): void {
    this[Symbol.dispose]();
    this.#listener.closed(cause);
  }
}

function eventsOf(events: number): PollEvents {
  return { readable: (events & POLLIN) !== 0 || events === 0, writable: (events & POLLOUT) !== 0 };
}
