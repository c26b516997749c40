/**
 * The vhost-user protocol: QEMU's docs/interop/vhost-user.rst. A message is a 12-byte header, a
 * payload of `size` bytes, and file descriptors as ancillary data. Payloads have the names of QEMU's
 * structs. The front end is the VMM, which describes the guest's memory; the back end is this project.
 *
 * Integers are in machine order, which is little-endian on every supported host.
 */
import { addr64, struct, u32, u64 } from './layout.ts';

/** Of both channels. `request` is a VHOST_USER number or, on the back-end channel, a VHOST_USER_BACKEND one. */
export const VhostUserHeader = struct('VhostUserHeader', { request: u32, flags: u32, size: u32 });

/* Bits of the header's `flags`. */
export const VHOST_USER_VERSION = 0x1;
export const VHOST_USER_VERSION_MASK = 0x3;
export const VHOST_USER_REPLY_MASK = 0x4;
export const VHOST_USER_NEED_REPLY_MASK = 0x8;

/** Feature bit of GET_FEATURES: the back end has protocol features, see below. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;

/** Most regions in one SET_MEM_TABLE, and most file descriptors in one message. */
export const VHOST_MEMORY_BASELINE_NREGIONS = 8;
/** The answer of QEMU's own back ends to GET_MAX_MEM_SLOTS. */
export const VHOST_USER_MAX_RAM_SLOTS = 509;
/** Largest device configuration space of GET_CONFIG and SET_CONFIG. */
export const VHOST_USER_MAX_CONFIG_SIZE = 256;

/* The u64 of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR. */
export const VHOST_USER_VRING_IDX_MASK = 0xff;
export const VHOST_USER_VRING_NOFD_MASK = 0x100;

/** VHOST_USER_* requests of the front end. */
export const VHOST_USER = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_LOG_FD: 7,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  NET_SET_MTU: 20,
  SET_BACKEND_REQ_FD: 21,
  IOTLB_MSG: 22,
  SET_VRING_ENDIAN: 23,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  CREATE_CRYPTO_SESSION: 26,
  CLOSE_CRYPTO_SESSION: 27,
  POSTCOPY_ADVISE: 28,
  POSTCOPY_LISTEN: 29,
  POSTCOPY_END: 30,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  GPU_SET_SOCKET: 33,
  RESET_DEVICE: 34,
  VRING_KICK: 35,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
  GET_SHARED_OBJECT: 41,
  SET_DEVICE_STATE_FD: 42,
  CHECK_DEVICE_STATE: 43,
  GET_SHMEM_CONFIG: 44,
} as const;

/** VHOST_USER_BACKEND_* requests, which the back end sends over the socket of SET_BACKEND_REQ_FD. */
export const VHOST_USER_BACKEND = {
  IOTLB_MSG: 1,
  CONFIG_CHANGE_MSG: 2,
  VRING_HOST_NOTIFIER_MSG: 3,
  VRING_CALL: 4,
  VRING_ERR: 5,
  SHARED_OBJECT_ADD: 6,
  SHARED_OBJECT_REMOVE: 7,
  SHARED_OBJECT_LOOKUP: 8,
  SHMEM_MAP: 9,
  SHMEM_UNMAP: 10,
} as const;

/** VHOST_USER_PROTOCOL_F_*, as bit numbers. */
export const VHOST_USER_PROTOCOL_F = {
  MQ: 0,
  LOG_SHMFD: 1,
  RARP: 2,
  REPLY_ACK: 3,
  NET_MTU: 4,
  BACKEND_REQ: 5,
  CROSS_ENDIAN: 6,
  CRYPTO_SESSION: 7,
  PAGEFAULT: 8,
  CONFIG: 9,
  BACKEND_SEND_FD: 10,
  HOST_NOTIFIER: 11,
  INFLIGHT_SHMFD: 12,
  RESET_DEVICE: 13,
  INBAND_NOTIFICATIONS: 14,
  CONFIGURE_MEM_SLOTS: 15,
  STATUS: 16,
  XEN_MMAP: 17,
  SHARED_OBJECT: 18,
  DEVICE_STATE: 19,
  GET_VRING_BASE_INFLIGHT: 20,
  GPA_ADDRESSES: 21,
  SHMEM_MAP: 22,
} as const;

/** Payload of every message that consists of one number: features, queue counts, acknowledgements. */
export const VhostUserU64 = struct('VhostUserU64', { u64 });

/** SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE, VRING_KICK. */
export const vhost_vring_state = struct('vhost_vring_state', { index: u32, num: u32 });

/**
 * SET_VRING_ADDR. Addresses are virtual addresses of the front end, as `userspace_addr` of the memory
 * regions is; only `log_guest_addr` is a guest physical address.
 */
export const vhost_vring_addr = struct('vhost_vring_addr', {
  index: u32,
  flags: u32,
  desc_user_addr: addr64,
  used_user_addr: addr64,
  avail_user_addr: addr64,
  log_guest_addr: addr64,
});

export const VhostUserMemoryRegion = struct('VhostUserMemoryRegion', {
  guest_phys_addr: addr64,
  memory_size: addr64,
  userspace_addr: addr64,
  mmap_offset: addr64,
});

/** Head of SET_MEM_TABLE; `nregions` VhostUserMemoryRegion follow, each with one file descriptor. */
export const VhostUserMemory = struct('VhostUserMemory', { nregions: u32, padding: u32 });

/** ADD_MEM_REG (with one file descriptor) and REM_MEM_REG. */
export const VhostUserMemRegMsg = struct('VhostUserMemRegMsg', { padding: addr64, region: VhostUserMemoryRegion });

/** Head of GET_CONFIG and SET_CONFIG; `size` bytes of configuration space follow. */
export const VhostUserConfig = struct('VhostUserConfig', { offset: u32, size: u32, flags: u32 });

/** `VhostUserConfig.flags` of every request outside of a migration. */
export const VHOST_SET_CONFIG_TYPE_FRONTEND = 0;

const requestNames = new Map<number, string>(Object.entries(VHOST_USER).map(([name, number]) => [number, name]));

/** The name of a front-end request without its VHOST_USER_ prefix, for logs; `request 99` if unknown. */
export function requestName(request: number): string {
  return requestNames.get(request) ?? `request ${request}`;
}
