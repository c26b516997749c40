/** linux/landlock.h: rules about what a thread, and what it starts from then on, may do with files, TCP and other processes. */
import { addr64, i32, struct } from './layout.ts';

/** Flag of landlock_create_ruleset(2), which then returns the version of the interface. */
export const LANDLOCK_CREATE_RULESET_VERSION = 1;

/** The kernel accepts fields that it does not know if they are 0. */
export const landlock_ruleset_attr = struct('landlock_ruleset_attr', {
  handled_access_fs: addr64,
  /** From version 4. */
  handled_access_net: addr64,
  /** From version 6. */
  scoped: addr64,
});

export const LANDLOCK_RULE_PATH_BENEATH = 1;

export const landlock_path_beneath_attr = struct(
  'landlock_path_beneath_attr',
  { allowed_access: addr64, parent_fd: i32 },
  { packed: true },
);

/** From version 4. */
export const LANDLOCK_RULE_NET_PORT = 2;

export const landlock_net_port_attr = struct('landlock_net_port_attr', { allowed_access: addr64, port: addr64 });

export const LANDLOCK_ACCESS_FS_EXECUTE = 1 << 0;
export const LANDLOCK_ACCESS_FS_WRITE_FILE = 1 << 1;
export const LANDLOCK_ACCESS_FS_READ_FILE = 1 << 2;
export const LANDLOCK_ACCESS_FS_READ_DIR = 1 << 3;
export const LANDLOCK_ACCESS_FS_REMOVE_DIR = 1 << 4;
export const LANDLOCK_ACCESS_FS_REMOVE_FILE = 1 << 5;
export const LANDLOCK_ACCESS_FS_MAKE_CHAR = 1 << 6;
export const LANDLOCK_ACCESS_FS_MAKE_DIR = 1 << 7;
export const LANDLOCK_ACCESS_FS_MAKE_REG = 1 << 8;
export const LANDLOCK_ACCESS_FS_MAKE_SOCK = 1 << 9;
export const LANDLOCK_ACCESS_FS_MAKE_FIFO = 1 << 10;
export const LANDLOCK_ACCESS_FS_MAKE_BLOCK = 1 << 11;
export const LANDLOCK_ACCESS_FS_MAKE_SYM = 1 << 12;
/** From version 2. */
export const LANDLOCK_ACCESS_FS_REFER = 1 << 13;
/** From version 3. */
export const LANDLOCK_ACCESS_FS_TRUNCATE = 1 << 14;
/** From version 5. */
export const LANDLOCK_ACCESS_FS_IOCTL_DEV = 1 << 15;

export const LANDLOCK_ACCESS_NET_BIND_TCP = 1 << 0;
export const LANDLOCK_ACCESS_NET_CONNECT_TCP = 1 << 1;

export const LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0;
export const LANDLOCK_SCOPE_SIGNAL = 1 << 1;
