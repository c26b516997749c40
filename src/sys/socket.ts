/**
 * Unix stream sockets (unix(7)): how to listen and connect, one sendmsg or recvmsg with file
 * descriptors, and a connection that queues what the kernel does not take at once.
 */
import { chmodSync, fchmodSync, lstatSync, unlinkSync } from 'node:fs';
import * as uapi from '../../protocols/linux-socket.ts';
import { EAGAIN, EINTR, SysError, errnoName } from './errors.ts';
import { type BorrowedFd, OwnedFd, dupFd } from './fd.ts';
import { accept4, bindSocket, connect, errno, listen, recvmsg, sendmsg, socket, socketpair } from './libc.ts';
import { NativeBuffer } from './native-buffer.ts';
import { Poll } from './poll.ts';

const BACKLOG = 16;
const STREAM = uapi.SOCK_STREAM | uapi.SOCK_CLOEXEC | uapi.SOCK_NONBLOCK;

/**
 * A non-blocking listening stream socket at `path`, with file mode `mode` (0600) before anybody
 * can connect. A socket file nobody listens on is replaced; the caller unlinks his at the end.
 * SysError EADDRINUSE if it is alive or no socket, ENAMETOOLONG beyond 107 bytes, EACCES, ENOENT.
 */
export function listenUnix(path: string, options: { readonly mode?: number } = {}): OwnedFd {
  const mode = options.mode ?? 0o600;
  const name = encodeAddress('bind', path);
  const fd = openStream();
  try {
    // bind() gives the file the socket's mode less the umask: never wider than asked for.
    fchmodSync(fd.fd, mode);
    if (!tryBind(fd, name, path)) {
      removeStale(path);
      if (!tryBind(fd, name, path)) throw new SysError('bind', 'EADDRINUSE', path);
    }
    chmodSync(path, mode);
    if (listen(fd.fd, BACKLOG) < 0) throw SysError.fromErrno('listen', undefined, path);
    return fd;
  } catch (error) {
    fd[Symbol.dispose]();
    throw error;
  }
}

/**
 * The next waiting connection, non-blocking and close-on-exec; null if there is none. SysError
 * EMFILE leaves it waiting: the listener stays readable, so pause its poll.
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

/** SysError ENOENT, ECONNREFUSED (nobody listens), EAGAIN (its backlog is full), ENAMETOOLONG. */
export function connectUnix(path: string): OwnedFd {
  const name = encodeAddress('connect', path);
  const fd = openStream();
  if (connect(fd.fd, name, name.length) < 0) {
    const error = SysError.fromErrno('connect', undefined, path);
    fd[Symbol.dispose]();
    throw error;
  }
  return fd;
}

/** Two connected stream sockets, non-blocking and close-on-exec. */
export function socketPair(): [OwnedFd, OwnedFd] {
  const pair = new Int32Array(2);
  if (socketpair(uapi.AF_UNIX, STREAM, 0, new Uint8Array(pair.buffer)) < 0) throw SysError.fromErrno('socketpair');
  return [OwnedFd.adopt(pair[0]!), OwnedFd.adopt(pair[1]!)];
}

function openStream(): OwnedFd {
  const fd = socket(uapi.AF_UNIX, STREAM, 0);
  if (fd < 0) throw SysError.fromErrno('socket');
  return OwnedFd.adopt(fd);
}

function encodeAddress(syscall: string, path: string): Uint8Array {
  const encoded = Buffer.from(path);
  if (encoded.length === 0 || encoded.includes(0)) throw new SysError(syscall, 'EINVAL', 'a socket path is not empty and holds no zero byte');
  if (encoded.length >= uapi.UNIX_PATH_MAX) {
    throw new SysError(syscall, 'ENAMETOOLONG', `socket path of ${encoded.length} bytes, at most ${uapi.UNIX_PATH_MAX - 1} fit: ${path}`);
  }
  const name = new Uint8Array(uapi.sockaddr_un.size);
  new DataView(name.buffer).setUint16(uapi.sockaddr_un.offset.sun_family, uapi.AF_UNIX, true);
  name.set(encoded, uapi.sockaddr_un.offset.sun_path);
  return name;
}

/** False if the name is taken. */
function tryBind(fd: BorrowedFd, name: Uint8Array, path: string): boolean {
  if (bindSocket(fd.fd, name, name.length) === 0) return true;
  const error = SysError.fromErrno('bind', undefined, path);
  if (error.code === 'EADDRINUSE') return false;
  throw error;
}

/** Unlinks a socket that refuses connections, and nothing else. */
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
 * nothing of a message outlives its call.
 */
const scratch = NativeBuffer.allocate(256 + 2048 + CHUNK);
const { view, bytes, address } = scratch;
const HEADER = 0;
const IOV = 64;
const CONTROL = 256;
const DATA = 256 + 2048;

const header = uapi.msghdr.field;
const cmsg = uapi.cmsghdr.field;
header.msg_iov.set(view, HEADER, address + IOV);

function setIov(index: number, base: number, length: number): void {
  const at = IOV + index * uapi.iovec.size;
  uapi.iovec.field.iov_base.set(view, at, base);
  uapi.iovec.field.iov_len.set(view, at, length);
}

/** `receiveAt` into `into[offset]`, of at most CHUNK bytes. */
export function receive(fd: number, into: Uint8Array, offset: number, length: number, fds: OwnedFd[]): number {
  const received = receiveAt(fd, address + DATA, Math.min(length, CHUNK), fds);
  if (received > 0) into.set(bytes.subarray(DATA, DATA + received), offset);
  return received;
}

/**
 * Receives up to `length` bytes to native memory at `target` and appends descriptors, all
 * close-on-exec, to `fds`. Bytes received; 0 at the end of the stream; -1 if there is nothing yet.
 * SysError ECTRUNC if descriptors were lost, to our own EMFILE for one: those that came are closed.
 */
export function receiveAt(fd: number, target: number, length: number, fds: OwnedFd[]): number {
  setIov(0, target, length);
  header.msg_iovlen.set(view, HEADER, 1);
  header.msg_control.set(view, HEADER, address + CONTROL);
  header.msg_controllen.set(view, HEADER, CONTROL_SIZE);
  let received = recvmsg(fd, address + HEADER, uapi.MSG_DONTWAIT | uapi.MSG_CMSG_CLOEXEC);
  while (received < 0) {
    const failure = errno();
    if (failure === EAGAIN) return -1;
    if (failure !== EINTR) throw SysError.fromErrno('recvmsg', failure);
    received = recvmsg(fd, address + HEADER, uapi.MSG_DONTWAIT | uapi.MSG_CMSG_CLOEXEC);
  }
  const before = fds.length;
  adoptRights(fds);
  if ((header.msg_flags.get(view, HEADER) & uapi.MSG_CTRUNC) !== 0) {
    for (const lost of fds.splice(before)) lost[Symbol.dispose]();
    throw new SysError('recvmsg', 'ECTRUNC', 'file descriptors were lost; is RLIMIT_NOFILE reached?');
  }
  return received;
}

function adoptRights(fds: OwnedFd[]): void {
  const end = CONTROL + header.msg_controllen.get(view, HEADER);
  for (let at = CONTROL; at + uapi.cmsghdr.size <= end; ) {
    const length = cmsg.cmsg_len.get(view, at);
    if (length < uapi.cmsghdr.size) return;
    if (cmsg.cmsg_level.get(view, at) === uapi.SOL_SOCKET && cmsg.cmsg_type.get(view, at) === uapi.SCM_RIGHTS) {
      for (let slot = at + uapi.cmsghdr.size; slot + 4 <= at + length; slot += 4) fds.push(OwnedFd.adopt(view.getInt32(slot, true)));
    }
    at += Math.ceil(length / 8) * 8;
  }
}

/**
 * One sendmsg: `head` from `from` on, then `tailLength` bytes at `tailAddress`, with `fds` on the
 * first byte. Bytes the kernel took, 0 if it takes none now. SysError EPIPE, ETOOMANYREFS, ...
 */
export function transmit(fd: number, head: Uint8Array, from: number, tailAddress: number, tailLength: number, fds: readonly BorrowedFd[]): number {
  const headLength = Math.min(Math.max(head.length - from, 0), CHUNK);
  const intoTail = Math.max(from - head.length, 0);
  let pieces = 0;
  if (headLength > 0) {
    bytes.set(head.subarray(from, from + headLength), DATA);
    setIov(pieces++, address + DATA, headLength);
  }
  // The tail follows only if the head ends in this call.
  if (from + headLength >= head.length && tailLength > intoTail) setIov(pieces++, tailAddress + intoTail, tailLength - intoTail);
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
  if (fds.length > uapi.SCM_MAX_FD) throw new SysError('sendmsg', 'EINVAL', `${fds.length} file descriptors, at most ${uapi.SCM_MAX_FD} go in one message`);
  header.msg_control.set(view, HEADER, fds.length === 0 ? 0 : address + CONTROL);
  header.msg_controllen.set(view, HEADER, fds.length === 0 ? 0 : uapi.cmsgSpace(fds.length));
  if (fds.length === 0) return;
  cmsg.cmsg_len.set(view, CONTROL, uapi.cmsgLen(fds.length));
  cmsg.cmsg_level.set(view, CONTROL, uapi.SOL_SOCKET);
  cmsg.cmsg_type.set(view, CONTROL, uapi.SCM_RIGHTS);
  for (let i = 0; i < fds.length; i++) view.setInt32(CONTROL + uapi.cmsghdr.size + 4 * i, fds[i]!.fd, true);
}

/** What may wait for a peer that does not read; a single message may exceed it. */
const MAX_QUEUED_BYTES = 64 * 2 ** 20;

const NO_FDS: readonly BorrowedFd[] = [];

interface Queued {
  readonly bytes: Uint8Array;
  /** Ours; they go with the first byte. */
  fds: readonly OwnedFd[];
  sent: number;
}

/**
 * A stream socket that carries file descriptors (unix(7), SCM_RIGHTS). Reading is the caller's:
 * poll `fd` and `recv` until -1. Writing never blocks: what the kernel does not take is kept and
 * sent when the peer has read. A disposed connection drops what is unsent and untaken.
 */
export class UnixConnection implements Disposable {
  /** Descriptors received and not taken yet, in order: shift them as messages claim them. */
  readonly fds: OwnedFd[] = [];
  readonly #fd: OwnedFd;
  readonly #queue: Queued[] = [];
  #queuedBytes = 0;
  #failure: SysError | null = null;
  #flusher: { readonly fd: OwnedFd; readonly poll: Poll } | null = null;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** Consumes a connected stream socket. */
  static adopt(fd: OwnedFd): UnixConnection {
    return new UnixConnection(fd);
  }

  /** For Poll; stays ours. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** Bytes accepted by `send` that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /**
   * Receives up to `length` bytes (at most 64 KiB a call) to `into[offset]` and appends received
   * descriptors to `fds`, at most 253 a call. The count; 0 at the end of the stream; -1 if nothing
   * is there yet. SysError ECTRUNC when descriptors were lost (the connection is of no use then),
   * ECONNRESET.
   */
  recv(into: Uint8Array, offset: number, length: number): number {
    if (length <= 0 || offset < 0 || offset + length > into.length) throw new RangeError(`recv of ${length} bytes at ${offset} of ${into.length}`);
    return receive(this.#fd.fd, into, offset, length, this.fds);
  }

  /**
   * Sends all of `bytes`, with `fds` (at most 253, borrowed) on the first byte. SysError EPIPE
   * when the peer is gone; ENOBUFS, with nothing sent, when it has stopped reading; after a
   * failure while flushing, that failure.
   */
  send(bytes: Uint8Array, fds: readonly BorrowedFd[] = NO_FDS): void {
    if (this.#failure !== null) throw this.#failure;
    if (bytes.length === 0) throw new RangeError('a stream carries no empty message');
    if (this.#queue.length > 0 && this.#queuedBytes + bytes.length > MAX_QUEUED_BYTES) {
      throw new SysError('sendmsg', 'ENOBUFS', `${this.#queuedBytes} bytes wait for the peer already`);
    }
    let sent = 0;
    if (this.#queue.length === 0) {
      try {
        while (sent < bytes.length) {
          const taken = transmit(this.#fd.fd, bytes, sent, 0, 0, sent === 0 ? fds : NO_FDS);
          if (taken === 0) break;
          sent += taken;
        }
      } catch (error) {
        // Half a message went out: the stream makes no sense to the peer from here on.
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
    const bytes = message.slice(sent);
    const copies: OwnedFd[] = [];
    try {
      if (sent === 0) for (const fd of fds) copies.push(dupFd(fd));
      this.#startFlushing();
    } catch (error) {
      for (const copy of copies) copy[Symbol.dispose]();
      if (sent > 0) this.#failure = error as SysError;
      throw error;
    }
    this.#queue.push({ bytes, fds: copies, sent: 0 });
    this.#queuedBytes += bytes.length;
  }

  #startFlushing(): void {
    if (this.#flusher !== null) return;
    // A descriptor of its own: the caller polls ours, and there is one poll a descriptor.
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
      for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
        const taken = transmit(this.#fd.fd, next.bytes, next.sent, 0, 0, next.fds);
        if (taken === 0) return;
        next.sent += taken;
        this.#queuedBytes -= taken;
        for (const fd of next.fds) fd[Symbol.dispose]();
        next.fds = [];
        if (next.sent === next.bytes.length) this.#queue.shift();
      }
    } catch (error) {
      // Whoever polls for reading sees the end of the stream; who only sends learns it there.
      this.#failure = error as SysError;
      this.#dropQueue();
    }
    this.#stopFlushing();
  }

  #dropQueue(): void {
    for (const { fds } of this.#queue.splice(0)) for (const fd of fds) fd[Symbol.dispose]();
    this.#queuedBytes = 0;
  }
}
