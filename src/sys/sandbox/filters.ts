/** The filters of a bridge: which system calls it is left with. */
import { EVIOCG, EVIOCG_MASK, EVIOCSCLOCKID } from '../../../protocols/input-event-codes.ts';
import * as tty from '../../../protocols/asm-ioctls.ts';
import { KDSKBMODE } from '../../../protocols/linux-kd.ts';
import { VT_ACTIVATE } from '../../../protocols/linux-vt.ts';
import { PR_GET_NAME, PR_SET_NAME, PR_SET_VMA } from '../../../protocols/linux-prctl.ts';
import { AF_NETLINK, AF_UNIX, sockaddr_nl } from '../../../protocols/linux-socket.ts';
import { CLONE_THREAD, type SystemCall } from '../../../protocols/linux-syscall.ts';
import { UDMABUF_CREATE_LIST } from '../../../protocols/udmabuf.ts';
import * as vfio from '../../../protocols/vfio.ts';
import type { CallFilter, Condition, Rule } from './seccomp.ts';

/**
 * Calls that the kernel shall seem not to have, so that libraries use older ones, which can be filtered: libuv's
 * io_uring would make calls past every filter, and the flags of clone3 lie in memory. libuv makes its rings when Node
 * starts, so this filter has to be there before.
 */
export const ABSENT_CALLS: CallFilter = {
  rules: { io_uring_setup: { verdict: 'ENOSYS' }, clone3: { verdict: 'ENOSYS' } },
  otherwise: 'allow',
};

/* linux/fcntl.h */
const O_CREAT = 0o100;
const O_TRUNC = 0o1000;
const TMPFILE = 0o20000000;

/** Type letters of ioctls: DRM with those of each driver, which Mesa makes; dma-bufs; sync files. */
const IOCTL_TYPES = ['d', 'b', '>'];
const IOCTLS = [
  tty.FIONBIO,
  tty.FIOCLEX,
  tty.FIONCLEX,
  tty.FIONREAD,
  // Of the terminal on stdout and stderr. Not TIOCSTI, which types into it.
  tty.TCGETS,
  tty.TCSETS,
  tty.TCGETS2,
  tty.TCSETS2,
  tty.TIOCGWINSZ,
  UDMABUF_CREATE_LIST,
  // What a device shows, and how it is opened. Not what moves its interrupts or resets it.
  vfio.VFIO_DEVICE_QUERY_GFX_PLANE,
  vfio.VFIO_DEVICE_GET_GFX_DMABUF,
  vfio.VFIO_DEVICE_GET_REGION_INFO,
  vfio.VFIO_GROUP_SET_CONTAINER,
  vfio.VFIO_SET_IOMMU,
  vfio.VFIO_GROUP_GET_DEVICE_FD,
];

/** Calls that are allowed whatever their arguments are. */
const FREE: readonly SystemCall[] = [
  ...(['read', 'write', 'readv', 'writev', 'pread64', 'pwrite64', 'preadv', 'pwritev', 'preadv2', 'pwritev2'] as const),
  ...(['lseek', 'close', 'close_range', 'dup', 'dup2', 'dup3', 'fcntl', 'flock', 'pipe', 'pipe2'] as const),
  ...(['stat', 'lstat', 'fstat', 'newfstatat', 'statx', 'statfs', 'fstatfs', 'access', 'faccessat'] as const),
  ...(['faccessat2', 'readlink', 'readlinkat', 'getdents64', 'getcwd', 'umask'] as const),
  // An eventfd that a peer shares is signalled by AIO, which never waits.
  ...(['io_setup', 'io_submit', 'io_getevents'] as const),
  // Files that are open, also those of fontconfig; the sockets of this bridge when it ends.
  ...(['fsync', 'fdatasync', 'fadvise64', 'ftruncate', 'fallocate', 'unlink', 'unlinkat'] as const),
  ...(['poll', 'ppoll', 'select', 'pselect6', 'epoll_create1', 'epoll_ctl', 'epoll_wait', 'epoll_pwait'] as const),
  ...(['epoll_pwait2', 'eventfd2', 'timerfd_create', 'timerfd_settime', 'timerfd_gettime'] as const),
  ...(['accept', 'accept4', 'connect', 'shutdown', 'sendto', 'sendmsg', 'recvfrom', 'recvmsg'] as const),
  ...(['getsockname', 'getpeername', 'getsockopt', 'setsockopt'] as const),
  // With PROT_EXEC too: V8 compiles, and Mesa loads its drivers when a shadow is first made.
  ...(['mmap', 'munmap', 'mremap', 'mprotect', 'madvise', 'mincore', 'msync', 'brk', 'membarrier'] as const),
  ...(['pkey_alloc', 'pkey_mprotect', 'pkey_free', 'memfd_create'] as const),
  // ABSENT_CALLS answers these. Of two refusals the kernel takes that of the later filter, which would be logged.
  ...(['io_uring_setup', 'clone3'] as const),
  ...(['set_robust_list', 'set_tid_address', 'rseq', 'arch_prctl', 'futex', 'futex_waitv'] as const),
  ...(['exit', 'exit_group', 'rt_sigaction', 'rt_sigprocmask', 'rt_sigreturn', 'rt_sigpending'] as const),
  ...(['rt_sigtimedwait', 'rt_sigsuspend', 'sigaltstack', 'restart_syscall'] as const),
  ...(['clock_gettime', 'clock_getres', 'clock_nanosleep', 'nanosleep', 'gettimeofday', 'time'] as const),
  ...(['getpid', 'getppid', 'gettid', 'getuid', 'geteuid', 'getgid', 'getegid', 'getgroups', 'capget'] as const),
  ...(['getrandom', 'getrusage', 'getrlimit', 'uname', 'sysinfo', 'getcpu'] as const),
  // Mesa's threads choose their processors and priority.
  ...(['sched_yield', 'sched_getaffinity', 'sched_setaffinity', 'sched_getparam', 'sched_setparam'] as const),
  ...(['sched_getscheduler', 'sched_setscheduler', 'sched_get_priority_max', 'sched_get_priority_min'] as const),
  ...(['getpriority', 'setpriority'] as const),
];

/** Of input devices: questions, but neither grabs nor force feedback; and the keyboard of a virtual terminal, and which is in front. */
const INPUT_IOCTLS: readonly Condition[] = [
  { argument: 1, mask: EVIOCG_MASK, in: [EVIOCG] },
  { argument: 1, in: [EVIOCSCLOCKID, KDSKBMODE, VT_ACTIVATE] },
];

/**
 * libinput listens to udev again whenever its virtual terminal comes to the front. The address is in memory, so only its
 * length can be looked at: that of a netlink address. `listen` stays refused.
 */
const BIND_NETLINK: Condition = { argument: 2, in: [sockaddr_nl.size] };

/**
 * What is left to a bridge that is set up, as process `pid`: no programs, no new files, no network. With `input` it
 * reads the input devices of this machine.
 */
export function bridgeFilter(pid: number, { input = false } = {}): CallFilter {
  const itself = when({ argument: 0, in: [pid] });
  const existing = (argument: number): Rule => when({ argument, mask: O_CREAT | O_TRUNC | TMPFILE, in: [0] });
  return {
    rules: {
      ...Object.fromEntries(FREE.map((call): [SystemCall, Rule] => [call, { verdict: 'allow' }])),
      ioctl: when(
        { argument: 1, in: IOCTLS },
        { argument: 1, mask: 0xff00, in: IOCTL_TYPES.map((letter) => letter.charCodeAt(0) << 8) },
        ...(input ? INPUT_IOCTLS : []),
      ),
      open: existing(1),
      openat: existing(2),
      // Windows connect again to a compositor that was restarted; netlink reports devices.
      socket: when({ argument: 0, in: [AF_UNIX, AF_NETLINK] }),
      socketpair: when({ argument: 0, in: [AF_UNIX] }),
      ...(input && { bind: when(BIND_NETLINK) }),
      clone: when({ argument: 0, mask: CLONE_THREAD, in: [CLONE_THREAD] }),
      prctl: when({ argument: 0, in: [PR_SET_NAME, PR_GET_NAME, PR_SET_VMA] }),
      prlimit64: when({ argument: 0, in: [0] }),
      kill: itself,
      tgkill: itself,
      kcmp: itself,
      process_vm_readv: itself,
    },
    otherwise: 'EPERM',
  };
}

function when(...conditions: readonly Condition[]): Rule {
  return { verdict: 'allow', when: conditions };
}
