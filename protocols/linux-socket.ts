/** linux/socket.h, linux/un.h and linux/netlink.h on 64-bit hosts: what sendmsg and recvmsg take. Pointers are numbers. */
import { addr64, bytes, i32, struct, u16, u32 } from './layout.ts';

export const AF_UNIX = 1;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SCM_RIGHTS = 1;
/** Most descriptors in one message. */
export const SCM_MAX_FD = 253;

export const SO_PEERCRED = 17;

export const MSG_CTRUNC = 0x8;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** Bytes for the path in a Unix socket address, including the terminating zero. */
export const UNIX_PATH_MAX = 108;

export const sockaddr_un = struct('sockaddr_un', { sun_family: u16, sun_path: bytes(UNIX_PATH_MAX) });

export const sockaddr_nl = struct('sockaddr_nl', { nl_family: u16, nl_pad: u16, nl_pid: u32, nl_groups: u32 });

export const iovec = struct('iovec', { iov_base: addr64, iov_len: addr64 });

export const msghdr = struct('msghdr', {
  msg_name: addr64,
  msg_namelen: u32,
  msg_iov: addr64,
  msg_iovlen: addr64,
  msg_control: addr64,
  msg_controllen: addr64,
  msg_flags: i32,
});

/** The answer to SO_PEERCRED: who connected, or listened, at that time. */
export const ucred = struct('ucred', { pid: i32, uid: u32, gid: u32 });

/** Followed by its data. The next header starts at a multiple of 8. */
export const cmsghdr = struct('cmsghdr', { cmsg_len: addr64, cmsg_level: i32, cmsg_type: i32 });

/* CMSG_LEN and CMSG_SPACE for `count` descriptors. */
export const cmsgLen = (count: number): number => cmsghdr.size + 4 * count;
export const cmsgSpace = (count: number): number => cmsghdr.size + Math.ceil(count / 2) * 8;
