/**
 * The functions of the C library that src/sys uses; internal to src/sys. Pointers are declared
 * `uintptr_t`, so that plain numbers pass in both directions: user addresses on Linux stay below
 * 2^53. `void *` arguments take a Uint8Array, whose bytes the callee reads and writes in place.
 *
 * A call that fails returns -1 and sets `errno()`, which must be read before the next call.
 */
import koffi from 'koffi';

const libc = koffi.load(null);

function bind(name: string, result: string, parameters: string[]): unknown {
  return libc.func(name, result, parameters);
}

export const errno = (): number => koffi.errno();
export const errnoNumbers: Readonly<Record<string, number>> = koffi.os.errno;

/** The memory at an address as an ArrayBuffer that neither copies nor owns it. */
export const viewOf = (address: number, length: number): ArrayBuffer => koffi.view(address, length);

export const setenv = bind('setenv', 'int', ['str', 'str', 'int']) as (
  name: string,
  value: string,
  overwrite: number,
) => number;
export const unsetenv = bind('unsetenv', 'int', ['str']) as (name: string) => number;
export const close = bind('close', 'int', ['int']) as (fd: number) => number;
export const fcntl = bind('fcntl', 'int', ['int', 'int', 'ulong']) as (
  fd: number,
  command: number,
  argument: number,
) => number;
export const read = bind('read', 'intptr_t', ['int', 'uintptr_t', 'size_t']) as (
  fd: number,
  address: number,
  length: number,
) => number;
export const write = bind('write', 'intptr_t', ['int', 'uintptr_t', 'size_t']) as (
  fd: number,
  address: number,
  length: number,
) => number;
export const ioctl = bind('ioctl', 'int', ['int', 'ulong', 'uintptr_t']) as (
  fd: number,
  request: number,
  address: number,
) => number;
export const ioctlBytes = bind('ioctl', 'int', ['int', 'ulong', 'void *']) as (
  fd: number,
  request: number,
  bytes: Uint8Array,
) => number;
export const ftruncate = bind('ftruncate', 'int', ['int', 'int64_t']) as (fd: number, length: number) => number;
export const memfdCreate = bind('memfd_create', 'int', ['str', 'uint']) as (name: string, flags: number) => number;
export const eventfd = bind('eventfd', 'int', ['uint', 'int']) as (initial: number, flags: number) => number;

/** Returns -1 for C's MAP_FAILED. */
export const mmap = bind('mmap', 'intptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']) as (
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => number;
export const munmap = bind('munmap', 'int', ['uintptr_t', 'size_t']) as (address: number, length: number) => number;
export const calloc = bind('calloc', 'uintptr_t', ['size_t', 'size_t']) as (count: number, size: number) => number;
export const free = bind('free', 'void', ['uintptr_t']) as (address: number) => void;
export const memcpy = bind('memcpy', 'uintptr_t', ['uintptr_t', 'uintptr_t', 'size_t']) as (
  to: number,
  from: number,
  length: number,
) => number;

export const epollCreate1 = bind('epoll_create1', 'int', ['int']) as (flags: number) => number;
export const epollCtl = bind('epoll_ctl', 'int', ['int', 'int', 'int', 'void *']) as (
  epfd: number,
  operation: number,
  fd: number,
  event: Uint8Array,
) => number;
export const epollWait = bind('epoll_wait', 'int', ['int', 'void *', 'int', 'int']) as (
  epfd: number,
  events: Uint8Array,
  count: number,
  timeoutMs: number,
) => number;

export const socket = bind('socket', 'int', ['int', 'int', 'int']) as (
  domain: number,
  type: number,
  protocol: number,
) => number;
export const socketpair = bind('socketpair', 'int', ['int', 'int', 'int', 'void *']) as (
  domain: number,
  type: number,
  protocol: number,
  pair: Uint8Array,
) => number;
export const bindSocket = bind('bind', 'int', ['int', 'void *', 'uint']) as (
  fd: number,
  address: Uint8Array,
  length: number,
) => number;
export const connect = bind('connect', 'int', ['int', 'void *', 'uint']) as (
  fd: number,
  address: Uint8Array,
  length: number,
) => number;
export const listen = bind('listen', 'int', ['int', 'int']) as (fd: number, backlog: number) => number;
export const accept4 = bind('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']) as (
  fd: number,
  address: number,
  length: number,
  flags: number,
) => number;
export const sendmsg = bind('sendmsg', 'intptr_t', ['int', 'uintptr_t', 'int']) as (
  fd: number,
  message: number,
  flags: number,
) => number;
export const recvmsg = bind('recvmsg', 'intptr_t', ['int', 'uintptr_t', 'int']) as (
  fd: number,
  message: number,
  flags: number,
) => number;
