import { chmodSync, fchmodSync, lstatSync, unlinkSync } from 'node:fs';
import { AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, UNIX_PATH_MAX, sockaddr_un } from '../../protocols/linux-socket.ts';
import { type BorrowedFd, OwnedFd } from './fd.ts';
import { accept4, bindSocket, connect, errno, listen, socket, socketpair } from './libc.ts';
import { EAGAIN, EINTR, SysError, errnoName } from './errors.ts';

export { UnixConnection } from './unix-connection.ts';

const BACKLOG = 16;
const STREAM = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

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
    const fd = accept4(listener.fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
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
  if (socketpair(AF_UNIX, STREAM, 0, new Uint8Array(pair.buffer)) < 0) throw SysError.fromErrno('socketpair');
  return [OwnedFd.adopt(pair[0]!), OwnedFd.adopt(pair[1]!)];
}

function openStream(): OwnedFd {
  const fd = socket(AF_UNIX, STREAM, 0);
  if (fd < 0) throw SysError.fromErrno('socket');
  return OwnedFd.adopt(fd);
}

function encodeAddress(syscall: string, path: string): Uint8Array {
  const encoded = Buffer.from(path);
  if (encoded.length === 0 || encoded.includes(0)) throw new SysError(syscall, 'EINVAL', 'a socket path is not empty and holds no zero byte');
  if (encoded.length >= UNIX_PATH_MAX) {
    throw new SysError(syscall, 'ENAMETOOLONG', `socket path of ${encoded.length} bytes, at most ${UNIX_PATH_MAX - 1} fit: ${path}`);
  }
  const name = new Uint8Array(sockaddr_un.size);
  new DataView(name.buffer).setUint16(sockaddr_un.offset.sun_family, AF_UNIX, true);
  name.set(encoded, sockaddr_un.offset.sun_path);
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
