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

/** The memory at an address as an ArrayBuffer that neither copies nor owns it. */
export const viewOf = (address: number, length: number): ArrayBuffer => koffi.view(address, length);

export const setenv = bind('setenv', 'int', ['str', 'str', 'int']) as (
  name: string,
  value: string,
  overwrite: number,
) => number;
export const unsetenv = bind('unsetenv', 'int', ['str']) as (name: string) => number;
/* Their results are overwritten by the next call. */
export const getgrnam = bind('getgrnam', 'uintptr_t', ['str']) as (name: string) => number;
export const getgrgid = bind('getgrgid', 'uintptr_t', ['uint']) as (id: number) => number;
export const strlen = bind('strlen', 'size_t', ['uintptr_t']) as (address: number) => number;
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
export const pread = bind('pread', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int64_t']) as (
  fd: number,
  address: number,
  length: number,
  position: number,
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
export const lseek = bind('lseek', 'int64_t', ['int', 'int64_t', 'int']) as (
  fd: number,
  offset: number,
  whence: number,
) => number;
export const ftruncate = bind('ftruncate', 'int', ['int', 'int64_t']) as (fd: number, length: number) => number;
export const memfdCreate = bind('memfd_create', 'int', ['str', 'uint']) as (name: string, flags: number) => number;
export const eventfd = bind('eventfd', 'int', ['uint', 'int']) as (initial: number, flags: number) => number;

/* The C library has no functions for these, or not every one; the first argument is the number in SYSCALL. */
export const ioSetup = bind('syscall', 'intptr_t', ['intptr_t', 'uint', 'uintptr_t']) as (
  number: number,
  requests: number,
  contextAt: number,
) => number;
export const ioSubmit = bind('syscall', 'intptr_t', ['intptr_t', 'uintptr_t', 'intptr_t', 'uintptr_t']) as (
  number: number,
  context: number,
  count: number,
  requestPointers: number,
) => number;
export const ioGetevents = bind('syscall', 'intptr_t', [
  'intptr_t',
  'uintptr_t',
  'intptr_t',
  'intptr_t',
  'uintptr_t',
  'uintptr_t',
]) as (number: number, context: number, least: number, most: number, events: number, timeout: number) => number;
/** The position comes in two halves, of which 64-bit kernels use the first; -1 is the file's own. */
export const preadv2 = bind('syscall', 'intptr_t', [
  'intptr_t',
  'int',
  'uintptr_t',
  'int',
  'intptr_t',
  'intptr_t',
  'int',
]) as (
  number: number,
  fd: number,
  iovec: number,
  count: number,
  position: number,
  upperHalf: number,
  flags: number,
) => number;

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

export const memcmp = bind('memcmp', 'int', ['uintptr_t', 'uintptr_t', 'size_t']) as (
  a: number,
  b: number,
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
/** `fds` is an array of struct pollfd. */
export const poll = bind('poll', 'int', ['void *', 'ulong', 'int']) as (
  fds: Uint8Array,
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
export const pipe2 = bind('pipe2', 'int', ['void *', 'int']) as (pair: Uint8Array, flags: number) => number;
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
export const getsockopt = bind('getsockopt', 'int', ['int', 'int', 'int', 'void *', 'void *']) as (
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
  length: Uint8Array,
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

/** prctl(2), for options whose arguments are numbers. */
export const prctl = bind('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']) as (
  option: number,
  ...args: [number, number, number, number]
) => number;
/** Calls that the C library has no function for. Returns as that would: -1 after an error. */
export const syscall = bind('syscall', 'long', ['long', 'ulong', 'ulong', 'uintptr_t', 'ulong']) as (
  number: number,
  ...args: [number, number, number, number]
) => number;
/** The last element of each list is null. Returns only if it fails. */
export const execve = bind('execve', 'int', ['str', 'char **', 'char **']) as (
  path: string,
  args: readonly (string | null)[],
  environment: readonly (string | null)[],
) => number;
