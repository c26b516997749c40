/** Landlock: limits of what a thread may do with files, TCP, abstract sockets and signals. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import * as uapi from '../../../protocols/linux-landlock.ts';
import { SYSCALL } from '../../../protocols/linux-syscall.ts';
import { SysError } from '../errors.ts';
import { OwnedFd } from '../fd.ts';
import { errno, syscall } from '../libc.ts';
import { NativeBuffer } from '../native-buffer.ts';

const O_PATH = 0o10000000;

/* The rights that each version of the interface knows; newer versions know at least those of the last. */
const FIRST_FS = uapi.LANDLOCK_ACCESS_FS_REFER - 1;
const FS_BY_VERSION = [
  FIRST_FS,
  uapi.LANDLOCK_ACCESS_FS_REFER,
  uapi.LANDLOCK_ACCESS_FS_TRUNCATE,
  0,
  uapi.LANDLOCK_ACCESS_FS_IOCTL_DEV,
];
const NET_SINCE = 4;
const SCOPES_SINCE = 6;

/** Rights that a rule on a file may have; the others are for directories. */
const ON_FILES =
  uapi.LANDLOCK_ACCESS_FS_EXECUTE |
  uapi.LANDLOCK_ACCESS_FS_WRITE_FILE |
  uapi.LANDLOCK_ACCESS_FS_READ_FILE |
  uapi.LANDLOCK_ACCESS_FS_TRUNCATE |
  uapi.LANDLOCK_ACCESS_FS_IOCTL_DEV;

const READ = uapi.LANDLOCK_ACCESS_FS_EXECUTE | uapi.LANDLOCK_ACCESS_FS_READ_FILE | uapi.LANDLOCK_ACCESS_FS_READ_DIR;

const ACCESS = {
  /** Read and execute, and list directories. */
  read: READ,
  /** Device nodes: read, write and ioctl. */
  device: READ | uapi.LANDLOCK_ACCESS_FS_WRITE_FILE | uapi.LANDLOCK_ACCESS_FS_IOCTL_DEV,
  /** Make sockets, and remove them and other files. */
  sockets: uapi.LANDLOCK_ACCESS_FS_MAKE_SOCK | uapi.LANDLOCK_ACCESS_FS_REMOVE_FILE,
} as const;

/** A file, or a directory with everything beneath it, and what may be done there. */
export interface PathRule {
  readonly path: string;
  readonly access: keyof typeof ACCESS;
}

/** The version of the kernel's Landlock; SysError ENOSYS or EOPNOTSUPP (disabled at boot) if there is none. */
export function landlockVersion(): number {
  const version = syscall(SYSCALL.landlock_create_ruleset, 0, 0, uapi.LANDLOCK_CREATE_RULESET_VERSION, 0);
  if (version < 0) throw SysError.fromErrno('landlock_create_ruleset', errno());
  return version;
}

/**
 * Limits this thread, and the programs it starts, to these files for good; also to no TCP but listening at `ports`, and to
 * the abstract sockets and signals of its own descendants, where the version has that. Other threads are not limited.
 * Paths that do not exist or may not be opened have no rule. SysError EPERM without no_new_privs.
 *
 * Returns descriptors of the paths, to keep open as long as the limits are to hold. A rule belongs to an inode in the
 * kernel's cache. Some file systems make another one of a path that is not in use (9p without a cache does), and then
 * the path has no rule.
 */
export function limitFiles(rules: readonly PathRule[], version: number, ports: readonly number[] = []): number[] {
  const handled = FS_BY_VERSION.slice(0, version).reduce((all, rights) => all | rights, 0);
  using attributes = bufferOf(
    uapi.landlock_ruleset_attr.encode({
      handled_access_fs: handled,
      handled_access_net:
        version >= NET_SINCE ? uapi.LANDLOCK_ACCESS_NET_BIND_TCP | uapi.LANDLOCK_ACCESS_NET_CONNECT_TCP : 0,
      scoped: version >= SCOPES_SINCE ? uapi.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | uapi.LANDLOCK_SCOPE_SIGNAL : 0,
    }),
  );
  const number = syscall(SYSCALL.landlock_create_ruleset, attributes.address, attributes.length, 0, 0);
  if (number < 0) throw SysError.fromErrno('landlock_create_ruleset', errno());
  using ruleset = OwnedFd.adopt(number);
  const paths = rules.flatMap(({ path, access }) => addRule(ruleset.fd, path, ACCESS[access] & handled) ?? []);
  if (version >= NET_SINCE) for (const port of ports) addPort(ruleset.fd, port);
  if (syscall(SYSCALL.landlock_restrict_self, ruleset.fd, 0, 0, 0) < 0)
    throw SysError.fromErrno('landlock_restrict_self', errno());
  return paths;
}

/** Returns a descriptor of the path; null if it can have no rule. SysError. */
function addRule(ruleset: number, path: string, rights: number): number | null {
  let fd: number;
  try {
    fd = openSync(path, O_PATH);
  } catch {
    return null;
  }
  const allowed = fstatSync(fd).isDirectory() ? rights : rights & ON_FILES;
  using rule = bufferOf(uapi.landlock_path_beneath_attr.encode({ allowed_access: allowed, parent_fd: fd }));
  const { LANDLOCK_RULE_PATH_BENEATH } = uapi;
  // The kernel refuses a rule without rights.
  if (allowed > 0 && syscall(SYSCALL.landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule.address, 0) === 0)
    return fd;
  const error = SysError.fromErrno('landlock_add_rule', errno(), path);
  closeSync(fd);
  if (allowed > 0) throw error;
  return null;
}

/** Allows to listen at a TCP port. SysError. */
function addPort(ruleset: number, port: number): void {
  const { LANDLOCK_RULE_NET_PORT, LANDLOCK_ACCESS_NET_BIND_TCP } = uapi;
  using rule = bufferOf(uapi.landlock_net_port_attr.encode({ allowed_access: LANDLOCK_ACCESS_NET_BIND_TCP, port }));
  if (syscall(SYSCALL.landlock_add_rule, ruleset, LANDLOCK_RULE_NET_PORT, rule.address, 0) === 0) return;
  throw SysError.fromErrno('landlock_add_rule', errno(), `TCP port ${port}`);
}

function bufferOf(bytes: Uint8Array): NativeBuffer {
  const buffer = NativeBuffer.allocate(bytes.length);
  buffer.bytes.set(bytes);
  return buffer;
}
