import { describe, expect, test } from 'vitest';
import {
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  seccomp_data,
  sock_filter,
} from '../../../../protocols/linux-seccomp.ts';
import type { SystemCall } from '../../../../protocols/linux-syscall.ts';
import { errnoName } from '../../../../src/sys/errors.ts';
import { ABSENT_CALLS, bridgeFilter } from '../../../../src/sys/sandbox/filters.ts';
import { ARCHITECTURES, assemble, type CallFilter } from '../../../../src/sys/sandbox/seccomp.ts';

const PID = 4242;
const CLONE_OF_PTHREAD_CREATE = 0x3d0f00;
const SIGCHLD = 17;
/** `clone(SIGCHLD | CLONE_NEWUSER)` */
const NEW_USER = 0x10000000 + SIGCHLD;
const LISTEN_ON_X86_64 = 50;

/** Runs a program of the few instructions that a filter has, as the kernel's interpreter of classic BPF does. */
function run(program: Uint8Array, data: Uint8Array): number {
  const code = new DataView(program.buffer);
  const input = new DataView(data.buffer);
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const { code: operation, jt, jf, k } = sock_filter.get(code, at * sock_filter.size);
    if (operation === 0x20) accumulator = input.getUint32(k, true);
    else if (operation === 0x54) accumulator = (accumulator & k) >>> 0;
    else if (operation === 0x15) at += accumulator === k ? jt : jf;
    else if (operation === 0x06) return k;
    else throw new Error(`instruction ${at} has code ${operation}`);
  }
}

/** What a filter answers to a call with these arguments: `allow`, or an errno. */
function verdict(
  filter: CallFilter,
  architecture: string,
  call: SystemCall | number,
  ...args: readonly number[]
): string {
  const { audit, numbers } = ARCHITECTURES[architecture]!;
  const words = [...args, ...Array.from({ length: 6 - args.length }, () => 0)].map(BigInt);
  const nr = typeof call === 'number' ? call : numbers[call]!;
  const result = run(
    assemble(filter, ARCHITECTURES[architecture]!),
    seccomp_data.encode({ nr, arch: audit, args: words }),
  );
  if (result === SECCOMP_RET_ALLOW) return 'allow';
  expect(result & 0xffff0000).toBe(SECCOMP_RET_ERRNO);
  return errnoName(result & 0xffff);
}

describe.each(['x64', 'arm64'])('bridgeFilter on %s', (architecture) => {
  const filter = bridgeFilter(PID);

  test.each<[SystemCall, ...number[]]>([
    ['read', 3],
    ['mmap', 0, 4096, 5],
    ['sendmsg', 3],
    ['clock_gettime'],
    ['io_submit', 1],
    ['exit_group', 0],
    ['openat', -100, 0, 0o2000002],
    ['socket', 1, 1],
    ['socket', 16, 3, 15],
    ['socketpair', 1, 1],
    ['clone', CLONE_OF_PTHREAD_CREATE],
    ['ioctl', 3, 0x5421],
    ['ioctl', 3, 0xc03864bc],
    ['ioctl', 3, 0x40086200],
    ['ioctl', 3, 0xc0383e04],
    ['ioctl', 3, 0x40087543],
    ['ioctl', 3, 0x3b72],
    ['ioctl', 3, 0x3b73],
    ['prctl', 15],
    ['prlimit64', 0, 7],
    ['kill', PID, 15],
    ['tgkill', PID, PID, 6],
    ['process_vm_readv', PID],
  ])('allows %s(%i, %i, %i)', (call, ...args) => {
    expect(verdict(filter, architecture, call, ...args)).toBe('allow');
  });

  test.each<[SystemCall, ...number[]]>([
    ['execve'],
    ['ptrace', 16, PID],
    ['bind', 3],
    ['seccomp', 1],
    ['openat', -100, 0, 0o101],
    ['openat', -100, 0, 0o1001],
    ['openat', -100, 0, 0o20200002],
    ['socket', 2, 1],
    ['socket', 10, 1],
    ['socket', 40, 1],
    ['socketpair', 2, 1],
    ['clone', SIGCHLD],
    ['clone', NEW_USER],
    ['ioctl', 0, 0x5412],
    ['ioctl', 3, 0xae01],
    ['ioctl', 3, 0x3b6f],
    ['ioctl', 3, 0x3b6e],
    ['pidfd_open', 1],
    ['pidfd_getfd', 3, 4],
    ['ioctl', 3, 0x40187542],
    ['prctl', 4, 1],
    ['prctl', 22, 2],
    ['prlimit64', 1, 7],
    ['kill', 1, 9],
    ['kill', -1, 9],
    ['tgkill', 1, 1, 9],
    ['process_vm_readv', 1],
  ])('refuses %s(%i, %i, %i) with EPERM', (call, ...args) => {
    expect(verdict(filter, architecture, call, ...args)).toBe('EPERM');
  });

  test('refuses a call that it has no name for', () => {
    expect(verdict(filter, architecture, 9999)).toBe('EPERM');
  });

  test('refuses every call of another architecture', () => {
    const i386 = 0x40000003;
    const data = seccomp_data.encode({ nr: ARCHITECTURES[architecture]!.numbers.read!, arch: i386 });
    expect(run(assemble(filter, ARCHITECTURES[architecture]!), data)).toBe(SECCOMP_RET_ERRNO | 1);
  });

  test('looks at the arguments first, so that the kernel can remember which calls are allowed anyway', () => {
    const { length } = Object.values(filter.rules).filter(({ when }) => when);
    const program = assemble(filter, ARCHITECTURES[architecture]!);
    const loads = Array.from({ length: program.length / sock_filter.size }, (_, index) =>
      sock_filter.get(new DataView(program.buffer), index * sock_filter.size),
    ).map(({ code, k }, index) => (code === 0x20 && k >= seccomp_data.offset.args ? index : 0));
    expect(length).toBeGreaterThan(0);
    expect(Math.max(...loads)).toBeLessThan(loads.length / 2);
  });
});

describe('bridgeFilter', () => {
  const filter = bridgeFilter(PID);

  test('allows opening a file by the old call of x86-64, but not making one', () => {
    expect(verdict(filter, 'x64', 'open', 0, 0o2000000)).toBe('allow');
    expect(verdict(filter, 'x64', 'open', 0, 0o102)).toBe('EPERM');
  });

  test.each([
    ['EVIOCGNAME(256)', 0x81004506, 'allow'],
    ['EVIOCGABS(ABS_X)', 0x80184540, 'allow'],
    ['EVIOCSCLOCKID', 0x400445a0, 'allow'],
    ['KDSKBMODE', 0x4b45, 'allow'],
    ['VT_ACTIVATE', 0x5606, 'allow'],
    ['EVIOCGRAB', 0x40044590, 'EPERM'],
    ['EVIOCSFF', 0x40304580, 'EPERM'],
    ['TIOCSTI', 0x5412, 'EPERM'],
    ['VT_DISALLOCATE', 0x5608, 'EPERM'],
  ])('with input, and not without, answers %s', (_, request, expected) => {
    expect(verdict(bridgeFilter(PID, { input: true }), 'x64', 'ioctl', 3, request)).toBe(expected);
    expect(verdict(filter, 'x64', 'ioctl', 3, request)).toBe('EPERM');
  });

  test('with input, and not without, allows binding a socket to an address as long as those of netlink', () => {
    const withInput = bridgeFilter(PID, { input: true });
    expect(verdict(withInput, 'x64', 'bind', 3, 0, 12)).toBe('allow');
    expect(verdict(withInput, 'x64', 'bind', 3, 0, 110)).toBe('EPERM');
    expect(verdict(withInput, 'x64', LISTEN_ON_X86_64, 3)).toBe('EPERM');
    expect(verdict(filter, 'x64', 'bind', 3, 0, 12)).toBe('EPERM');
  });

  test('refuses the calls of x32, which have numbers of their own', () => {
    expect(verdict(filter, 'x64', 0x40000000)).toBe('EPERM');
  });
});

describe.each(['x64', 'arm64'])('ABSENT_CALLS on %s', (architecture) => {
  test('answers io_uring_setup and clone3 as a kernel without them, and allows everything else', () => {
    expect(verdict(ABSENT_CALLS, architecture, 'io_uring_setup')).toBe('ENOSYS');
    expect(verdict(ABSENT_CALLS, architecture, 'clone3')).toBe('ENOSYS');
    expect(verdict(ABSENT_CALLS, architecture, 'execve')).toBe('allow');
    expect(verdict(ABSENT_CALLS, architecture, 9999)).toBe('allow');
  });
});
