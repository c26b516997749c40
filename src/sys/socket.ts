/**
 * Unix stream sockets (unix(7)): how to listen and connect, one sendmsg or recvmsg with file
 * descriptors, and a connection that queues what the kernel does not take at once.
 */
import { chmodSync, chownSync, fchmodSync, lstatSync, unlinkSync } from 'node:fs';
import * as uapi from '../../protocols/linux-socket.ts';
import { EAGAIN, EINTR, SysError, errnoName } from './errors.ts';
import { type BorrowedFd, OwnedFd, dupFd } from './fd.ts';
import {
  accept4,
  bindSocket,
  connect,
  errno,
  getsockopt,
  listen,
  recvmsg,
  sendmsg,
  socket,
  socketpair,
} from './libc.ts';
import { NativeBuffer } from './native-buffer.ts';
import { Poll } from './poll.ts';

const BACKLOG = 16;
const STREAM = uapi.SOCK_STREAM | uapi.SOCK_CLOEXEC | uapi.SOCK_NONBLOCK;

/**
 * Listens at `path`, non-blocking. The socket file has file mode `mode` (default 0600) and group `gid` before
 * anything can connect. A socket file that no process listens on is replaced. The caller removes the
 * file when done, by a SocketFile. SysError EADDRINUSE if a process listens there or the file is not a socket,
 * ENAMETOOLONG beyond 107 bytes, EACCES, ENOENT; Node's EPERM for a group that this process may not give the file to.
 */
export function listenUnix(path: string, options: { readonly mode?: number; readonly gid?: number } = {}): OwnedFd {
  const mode = options.mode ?? 0o600;
  const name = encodeAddress('bind', path);
  const fd = openStream();
  try {
    // bind() gives the file the socket's mode minus the umask: never more than asked for.
    fchmodSync(fd.fd, options.gid === undefined ? mode : mode & 0o700);
    if (!tryBind(fd, name, path)) {
      removeStale(path);
      if (!tryBind(fd, name, path)) throw new SysError('bind', 'EADDRINUSE', path);
    }
    if (options.gid !== undefined) chownSync(path, -1, options.gid);
    chmodSync(path, mode);
    if (listen(fd.fd, BACKLOG) < 0) throw SysError.fromErrno('listen', errno(), path);
    return fd;
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
}

/**
 * The file of a listening socket. Disposing it removes the file, unless another one has taken its
 * place: a bridge that was started later, or one that replaced this socket. Dispose it before the
 * socket is closed; until then the kernel gives its inode number to no other file.
 */
export class SocketFile implements Disposable {
  readonly #path: string;
  readonly #device: bigint;
  readonly #inode: bigint;

  private constructor(path: string) {
    const { dev, ino } = lstatSync(path, { bigint: true });
    this.#path = path;
    this.#device = dev;
    this.#inode = ino;
  }

  /** The file that `listenUnix` has just made at `path`. Throws Node's error if there is none any more. */
  static at(path: string): SocketFile {
    return new SocketFile(path);
  }

  [Symbol.dispose](): void {
    try {
      const { dev, ino } = lstatSync(this.#path, { bigint: true });
      if (dev === this.#device && ino === this.#inode) unlinkSync(this.#path);
    } catch {
      // Gone already, or its directory may no longer be written to: there is nothing to give back.
    }
  }
}

/**
 * The next waiting connection, non-blocking and close-on-exec; null if there is none. After
 * SysError EMFILE the connection still waits and the listener stays readable: pause its poll.
 */
export function acceptUnix(listener: BorrowedFd): OwnedFd | null {
  for (;;) {
    const fd = accept4(listener.fd, 0, 0, uapi.SOCK_CLOEXEC | uapi.SOCK_NONBLOCK);
    if (fd >= 0) return OwnedFd.adopt(fd);
    const failure = errno();
    if (failure === EAGAIN) return null;
    if (failure !== EINTR && errnoName(failure) !== 'ECONNABORTED') throw SysError.fromErrno('accept4', failure);
  }
}

/** SysError ENOENT, ECONNREFUSED (no process listens), EAGAIN (the backlog is full), ENAMETOOLONG. */
export function connectUnix(path: string): OwnedFd {
  const name = encodeAddress('connect', path);
  const fd = openStream();
  if (connect(fd.fd, name, name.length) < 0) {
    const error = SysError.fromErrno('connect', errno(), path);
    fd[Symbol.dispose]();
    throw error;
  }
  return fd;
}

export interface Credentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Who connected a socket that `acceptUnix` returned, as the kernel noted then (unix(7), SO_PEERCRED). SysError ENOTSOCK. */
export function peerCredentials(socket: BorrowedFd): Credentials {
  const value = new Uint8Array(uapi.ucred.size);
  const length = new Uint8Array(Uint32Array.of(value.length).buffer);
  if (getsockopt(socket.fd, uapi.SOL_SOCKET, uapi.SO_PEERCRED, value, length) < 0)
    throw SysError.fromErrno('getsockopt(SO_PEERCRED)', errno());
  return uapi.ucred.decode(value);
}

/** Two connected stream sockets, non-blocking and close-on-exec. */
export function socketPair(): [OwnedFd, OwnedFd] {
  const pair = new Int32Array(2);
  if (socketpair(uapi.AF_UNIX, STREAM, 0, new Uint8Array(pair.buffer)) < 0)
    throw SysError.fromErrno('socketpair', errno());
  return [OwnedFd.adopt(pair[0]!), OwnedFd.adopt(pair[1]!)];
}

function openStream(): OwnedFd {
  const fd = socket(uapi.AF_UNIX, STREAM, 0);
  if (fd < 0) throw SysError.fromErrno('socket', errno());
  return OwnedFd.adopt(fd);
}

function encodeAddress(syscall: string, path: string): Uint8Array {
  const encoded = Buffer.from(path);
  if (encoded.length === 0 || encoded.includes(0))
    throw new SysError(syscall, 'EINVAL', 'a socket path must not be empty or contain a zero byte');
  if (encoded.length >= uapi.UNIX_PATH_MAX) {
    throw new SysError(
      syscall,
      'ENAMETOOLONG',
      `socket path of ${encoded.length} bytes, at most ${uapi.UNIX_PATH_MAX - 1} fit: ${path}`,
    );
  }
  const name = new Uint8Array(uapi.sockaddr_un.size);
  new DataView(name.buffer).setUint16(uapi.sockaddr_un.offset.sun_family, uapi.AF_UNIX, true);
  name.set(encoded, uapi.sockaddr_un.offset.sun_path);
  return name;
}

/** False if the path is taken. */
function tryBind(fd: BorrowedFd, name: Uint8Array, path: string): boolean {
  if (bindSocket(fd.fd, name, name.length) === 0) return true;
  const error = SysError.fromErrno('bind', errno(), path);
  if (error.code === 'EADDRINUSE') return false;
  throw error;
}

/** Unlinks `path` if it is a socket that refuses connections. */
function removeStale(path: string): void {
  if (!lstatSync(path).isSocket()) return;
  try {
    connectUnix(path)[Symbol.dispose]();
  } catch (error) {
    if (error instanceof SysError && error.code === 'ECONNREFUSED') unlinkSync(path);
  }
}

const CHUNK = 64 * 1024;
const CONTROL_SIZE = uapi.cmsgSpace(uapi.SCM_MAX_FD);

/*
 * One set of native structs serves every message of every connection: calls are synchronous, and
 * no part of a message is needed after its call.
 */
const scratch = NativeBuffer.allocate(512 + 2048 + CHUNK);
const { view, bytes, address } = scratch;
/** Of sendmsg, with its pieces. */
const HEADER = 0;
const IOV = 64;
/** Of recvmsg, with its only piece: what never changes of them is written once. */
const INBOX = 256;
const INBOX_IOV = 320;
const CONTROL = 512;
const DATA = 512 + 2048;

const header = uapi.msghdr.field;
const cmsg = uapi.cmsghdr.field;
header.msg_iov.set(view, HEADER, address + IOV);
header.msg_iov.set(view, INBOX, address + INBOX_IOV);
header.msg_iovlen.set(view, INBOX, 1);
header.msg_control.set(view, INBOX, address + CONTROL);

function setIov(index: number, base: number, length: number): void {
  const at = IOV + index * uapi.iovec.size;
  uapi.iovec.field.iov_base.set(view, at, base);
  uapi.iovec.field.iov_len.set(view, at, length);
}

/** Like `receiveAt`, but into `into[offset]`, and at most CHUNK bytes. */
function receive(fd: number, into: Uint8Array, offset: number, length: number, fds: OwnedFd[]): number {
  const received = receiveAt(fd, address + DATA, Math.min(length, CHUNK), fds);
  if (received > 0) into.set(bytes.subarray(DATA, DATA + received), offset);
  return received;
}

/**
 * Receives up to `length` bytes into native memory at `target` and appends received descriptors,
 * close-on-exec, to `fds`. Returns the number of bytes; 0 at the end of the stream; -1 if nothing
 * has arrived. SysError ECTRUNC if descriptors were lost, for example because this process has too
 * many open: those that did arrive are closed.
 */
export function receiveAt(fd: number, target: number, length: number, fds: OwnedFd[]): number {
  uapi.iovec.field.iov_base.set(view, INBOX_IOV, target);
  uapi.iovec.field.iov_len.set(view, INBOX_IOV, length);
  header.msg_controllen.set(view, INBOX, CONTROL_SIZE);
  let received = recvmsg(fd, address + INBOX, uapi.MSG_DONTWAIT | uapi.MSG_CMSG_CLOEXEC);
  while (received < 0) {
    const failure = errno();
    if (failure === EAGAIN) return -1;
    if (failure !== EINTR) throw SysError.fromErrno('recvmsg', failure);
    received = recvmsg(fd, address + INBOX, uapi.MSG_DONTWAIT | uapi.MSG_CMSG_CLOEXEC);
  }
  const before = fds.length;
  adoptRights(fds);
  if ((header.msg_flags.get(view, INBOX) & uapi.MSG_CTRUNC) !== 0) {
    for (const lost of fds.splice(before)) lost[Symbol.dispose]();
    throw new SysError('recvmsg', 'ECTRUNC', 'file descriptors were lost; is RLIMIT_NOFILE reached?');
  }
  return received;
}

function adoptRights(fds: OwnedFd[]): void {
  const end = CONTROL + header.msg_controllen.get(view, INBOX);
  for (let at = CONTROL; at + uapi.cmsghdr.size <= end;) {
    const length = cmsg.cmsg_len.get(view, at);
    if (length < uapi.cmsghdr.size) return;
    if (cmsg.cmsg_level.get(view, at) === uapi.SOL_SOCKET && cmsg.cmsg_type.get(view, at) === uapi.SCM_RIGHTS) {
      for (let slot = at + uapi.cmsghdr.size; slot + 4 <= at + length; slot += 4)
        fds.push(OwnedFd.receive(view.getInt32(slot, true)));
    }
    at += Math.ceil(length / 8) * 8;
  }
}

/**
 * One sendmsg of a message that consists of `head` and then `tailLength` bytes of native memory at
 * `tailAddress`, starting at byte `from` of it, with `fds` attached to the first byte sent. Returns
 * the number of bytes the kernel took; 0 if the socket is full. SysError EPIPE, ETOOMANYREFS, ...
 */
export function transmit(
  fd: number,
  head: Uint8Array,
  from: number,
  tailAddress: number,
  tailLength: number,
  fds: readonly BorrowedFd[],
): number {
  const headLength = Math.min(Math.max(head.length - from, 0), CHUNK);
  const intoTail = Math.max(from - head.length, 0);
  let pieces = 0;
  if (headLength > 0) {
    bytes.set(head.subarray(from, from + headLength), DATA);
    setIov(pieces++, address + DATA, headLength);
  }
  // Send the tail only if this call reaches the end of the head.
  if (from + headLength >= head.length && tailLength > intoTail)
    setIov(pieces++, tailAddress + intoTail, tailLength - intoTail);
  header.msg_iovlen.set(view, HEADER, pieces);
  setRights(fds);
  for (;;) {
    const sent = sendmsg(fd, address + HEADER, uapi.MSG_DONTWAIT | uapi.MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    const failure = errno();
    if (failure === EAGAIN) return 0;
    if (failure !== EINTR) throw SysError.fromErrno('sendmsg', failure);
  }
}

function setRights(fds: readonly BorrowedFd[]): void {
  if (fds.length > uapi.SCM_MAX_FD)
    throw new SysError(
      'sendmsg',
      'EINVAL',
      `${fds.length} file descriptors; one message carries at most ${uapi.SCM_MAX_FD}`,
    );
  header.msg_control.set(view, HEADER, fds.length === 0 ? 0 : address + CONTROL);
  header.msg_controllen.set(view, HEADER, fds.length === 0 ? 0 : uapi.cmsgSpace(fds.length));
  if (fds.length === 0) return;
  cmsg.cmsg_len.set(view, CONTROL, uapi.cmsgLen(fds.length));
  cmsg.cmsg_level.set(view, CONTROL, uapi.SOL_SOCKET);
  cmsg.cmsg_type.set(view, CONTROL, uapi.SCM_RIGHTS);
  for (let i = 0; i < fds.length; i++) view.setInt32(CONTROL + uapi.cmsghdr.size + 4 * i, fds[i]!.fd, true);
}

/** How much is queued for a peer that does not read. A single message may be longer. */
const MAX_QUEUED_BYTES = 64 * 2 ** 20;

/** How much of the queue is sent in one turn of the event loop. */
const FLUSHED_BYTES = 2 ** 20;

/** The largest piece that several short messages are put into. */
const MAX_PIECE = 64 * 1024;

const NO_FDS: readonly BorrowedFd[] = [];

/** A part of the queue: one message, and those behind it that came without descriptors and still fitted. */
interface Piece {
  /** With room for more behind `length`. */
  readonly bytes: Uint8Array;
  length: number;
  /** Duplicates, sent with the first byte and closed then. */
  fds: readonly OwnedFd[];
  sent: number;
  next: Piece | null;
}

/**
 * A stream socket that carries file descriptors (unix(7), SCM_RIGHTS). The caller polls `fd` and
 * calls `recv` until it returns -1. Sending never blocks: what the kernel does not take is queued
 * and sent once the peer has read. Dispose drops unsent messages and closes unclaimed descriptors.
 */
export class UnixConnection implements Disposable {
  /** Received descriptors, oldest first. Shift one off when a message claims it; then it is yours. */
  readonly fds: OwnedFd[] = [];
  readonly #fd: OwnedFd;
  /** Called from the event loop when the queue has been sent, or dropped because the peer is gone. */
  onDrained: (() => void) | null = null;
  #first: Piece | null = null;
  #last: Piece | null = null;
  #queuedBytes = 0;
  #failure: SysError | null = null;
  #flusher: { readonly fd: OwnedFd; readonly poll: Poll } | null = null;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** Takes ownership of a connected stream socket. */
  static adopt(fd: OwnedFd): UnixConnection {
    return new UnixConnection(fd);
  }

  /** To poll it. The connection keeps ownership. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** Bytes passed to `send` that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /**
   * Receives up to `length` bytes (at most 64 KiB a call) into `into[offset]` and appends received
   * descriptors, at most 253 a call, to `fds`. Returns the number of bytes; 0 at the end of the
   * stream; -1 if nothing has arrived. SysError ECONNRESET, or ECTRUNC when descriptors were lost,
   * after which the connection is useless.
   */
  recv(into: Uint8Array, offset: number, length: number): number {
    if (length <= 0 || offset < 0 || offset + length > into.length)
      throw new RangeError(`recv of ${length} bytes at ${offset} of ${into.length}`);
    return receive(this.#fd.fd, into, offset, length, this.fds);
  }

  /**
   * Sends all of `bytes`, with `fds` (at most 253, borrowed) attached to the first byte. SysError
   * EPIPE when the peer is gone; ENOBUFS, with nothing sent, when it has stopped reading; if an
   * earlier message failed while queued, that failure.
   */
  send(bytes: Uint8Array, fds: readonly BorrowedFd[] = NO_FDS): void {
    if (this.#failure !== null) throw this.#failure;
    if (bytes.length === 0) throw new RangeError('cannot send an empty message on a stream');
    if (this.#first !== null && this.#queuedBytes + bytes.length > MAX_QUEUED_BYTES) {
      throw new SysError('sendmsg', 'ENOBUFS', `the peer is not reading: ${this.#queuedBytes} bytes are queued`);
    }
    let sent = 0;
    if (this.#first === null) {
      try {
        while (sent < bytes.length) {
          const taken = transmit(this.#fd.fd, bytes, sent, 0, 0, sent === 0 ? fds : NO_FDS);
          if (taken === 0) break;
          sent += taken;
        }
      } catch (error) {
        // Half a message went out, so the peer cannot make sense of anything that follows.
        if (sent > 0) this.#failure = error as SysError;
        throw error;
      }
    }
    if (sent < bytes.length) this.#enqueue(bytes, sent, fds);
  }

  [Symbol.dispose](): void {
    this.#stopFlushing();
    this.#dropQueue();
    for (const fd of this.fds.splice(0)) fd[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }

  #enqueue(message: Uint8Array, sent: number, fds: readonly BorrowedFd[]): void {
    const copies: OwnedFd[] = [];
    try {
      if (sent === 0) for (const fd of fds) copies.push(dupFd(fd));
      this.#startFlushing();
    } catch (error) {
      for (const copy of copies) copy[Symbol.dispose]();
      if (sent > 0) this.#failure = error as SysError;
      throw error;
    }
    const rest = message.subarray(sent);
    this.#queuedBytes += rest.length;
    const last = this.#last;
    if (copies.length === 0 && last !== null && last.length + rest.length <= last.bytes.length) {
      last.bytes.set(rest, last.length);
      last.length += rest.length;
      return;
    }
    // Each piece is twice as long as the one before, so that room which is not used costs no more than what is.
    const room = copies.length > 0 || last === null ? 0 : Math.min(2 * last.bytes.length, MAX_PIECE);
    const bytes = new Uint8Array(Math.max(rest.length, room));
    bytes.set(rest);
    this.#last = { bytes, length: rest.length, fds: copies, sent: 0, next: null };
    if (last === null) this.#first = this.#last;
    else last.next = this.#last;
  }

  #startFlushing(): void {
    if (this.#flusher !== null) return;
    // Polls a duplicate: the caller polls `fd`, and a descriptor takes one poll.
    const fd = dupFd(this.#fd);
    try {
      this.#flusher = { fd, poll: Poll.writable(fd, () => this.#flush()) };
    } catch (error) {
      fd[Symbol.dispose]();
      throw error;
    }
  }

  #stopFlushing(): void {
    this.#flusher?.poll[Symbol.dispose]();
    this.#flusher?.fd[Symbol.dispose]();
    this.#flusher = null;
  }

  #flush(): void {
    try {
      for (let left = FLUSHED_BYTES; this.#first !== null;) {
        // The socket takes more, and the next turn goes on.
        if (left <= 0) return;
        const piece = this.#first;
        const taken = transmit(this.#fd.fd, piece.bytes.subarray(0, piece.length), piece.sent, 0, 0, piece.fds);
        if (taken === 0) return;
        left -= taken;
        piece.sent += taken;
        this.#queuedBytes -= taken;
        for (const fd of piece.fds) fd[Symbol.dispose]();
        piece.fds = [];
        if (piece.sent === piece.length) this.#first = piece.next;
      }
      this.#last = null;
    } catch (error) {
      // A caller that reads will see the end of the stream; one that only sends gets the error from `send`.
      this.#failure = error as SysError;
      this.#dropQueue();
    }
    this.#stopFlushing();
    this.onDrained?.();
  }

  #dropQueue(): void {
    for (let piece = this.#first; piece !== null; piece = piece.next) for (const fd of piece.fds) fd[Symbol.dispose]();
    this.#first = null;
    this.#last = null;
    this.#queuedBytes = 0;
  }
}
