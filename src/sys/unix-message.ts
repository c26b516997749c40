/**
 * One sendmsg or recvmsg at a time, through one set of native structs shared by all connections:
 * calls are synchronous, and nothing of a message outlives its call.
 */
import * as wire from '../../protocols/linux-socket.ts';
import { type BorrowedFd, OwnedFd } from './fd.ts';
import { errno, recvmsg, sendmsg } from './libc.ts';
import { EAGAIN, EINTR, SysError } from './errors.ts';
import { NativeBuffer } from './native-buffer.ts';

export const CHUNK = 64 * 1024;
const CONTROL_SIZE = wire.cmsgSpace(wire.SCM_MAX_FD);

const scratch = NativeBuffer.allocate(256 + 2048 + CHUNK);
const { view, bytes, address } = scratch;
const HEADER = 0;
const IOV = 64;
const CONTROL = 256;
const DATA = 256 + 2048;

const header = wire.msghdr.field;
const cmsg = wire.cmsghdr.field;
header.msg_iov.set(view, HEADER, address + IOV);

function setIov(index: number, base: number, length: number): void {
  const at = IOV + index * wire.iovec.size;
  wire.iovec.field.iov_base.set(view, at, base);
  wire.iovec.field.iov_len.set(view, at, length);
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
  let received = recvmsg(fd, address + HEADER, wire.MSG_DONTWAIT | wire.MSG_CMSG_CLOEXEC);
  while (received < 0) {
    const failure = errno();
    if (failure === EAGAIN) return -1;
    if (failure !== EINTR) throw SysError.fromErrno('recvmsg', failure);
    received = recvmsg(fd, address + HEADER, wire.MSG_DONTWAIT | wire.MSG_CMSG_CLOEXEC);
  }
  const before = fds.length;
  adoptRights(fds);
  if ((header.msg_flags.get(view, HEADER) & wire.MSG_CTRUNC) !== 0) {
    for (const lost of fds.splice(before)) lost[Symbol.dispose]();
    throw new SysError('recvmsg', 'ECTRUNC', 'file descriptors were lost; is RLIMIT_NOFILE reached?');
  }
  return received;
}

function adoptRights(fds: OwnedFd[]): void {
  const end = CONTROL + header.msg_controllen.get(view, HEADER);
  for (let at = CONTROL; at + wire.cmsghdr.size <= end; ) {
    const length = cmsg.cmsg_len.get(view, at);
    if (length < wire.cmsghdr.size) return;
    if (cmsg.cmsg_level.get(view, at) === wire.SOL_SOCKET && cmsg.cmsg_type.get(view, at) === wire.SCM_RIGHTS) {
      for (let slot = at + wire.cmsghdr.size; slot + 4 <= at + length; slot += 4) fds.push(OwnedFd.adopt(view.getInt32(slot, true)));
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
    const sent = sendmsg(fd, address + HEADER, wire.MSG_DONTWAIT | wire.MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    const failure = errno();
    if (failure === EAGAIN) return 0;
    if (failure !== EINTR) throw SysError.fromErrno('sendmsg', failure);
  }
}

function setRights(fds: readonly BorrowedFd[]): void {
  if (fds.length > wire.SCM_MAX_FD) throw new SysError('sendmsg', 'EINVAL', `${fds.length} file descriptors, at most ${wire.SCM_MAX_FD} go in one message`);
  header.msg_control.set(view, HEADER, fds.length === 0 ? 0 : address + CONTROL);
  header.msg_controllen.set(view, HEADER, fds.length === 0 ? 0 : wire.cmsgSpace(fds.length));
  if (fds.length === 0) return;
  cmsg.cmsg_len.set(view, CONTROL, wire.cmsgLen(fds.length));
  cmsg.cmsg_level.set(view, CONTROL, wire.SOL_SOCKET);
  cmsg.cmsg_type.set(view, CONTROL, wire.SCM_RIGHTS);
  for (let i = 0; i < fds.length; i++) view.setInt32(CONTROL + wire.cmsghdr.size + 4 * i, fds[i]!.fd, true);
}
