/**
 * Split virtqueues: linux/virtio_ring.h, linux/virtio_config.h, linux/virtio_ids.h and
 * "Split Virtqueues" of the virtio 1.3 specification.
 *
 * A queue of `num` entries consists of three areas: a descriptor table, an available ring that the
 * driver writes, and a used ring that the device writes. Each ring ends with a 16-bit event index,
 * which is always part of its area but only has a meaning with VIRTIO_RING_F_EVENT_IDX.
 */
import { addr64, struct, u16, u32 } from './layout.ts';

/** `addr` is a guest physical address, `len` bytes. */
export const vring_desc = struct('vring_desc', { addr: addr64, len: u32, flags: u16, next: u16 });

/** Followed by `u16 ring[num]` (heads of descriptor chains) and `u16 used_event`. */
export const vring_avail = struct('vring_avail', { flags: u16, idx: u16 });

/** Followed by `vring_used_elem ring[num]` and `u16 avail_event`. */
export const vring_used = struct('vring_used', { flags: u16, idx: u16 });

export const vring_used_elem = struct('vring_used_elem', { id: u32, len: u32 });

/** Required alignment of the three areas in guest memory, in bytes. */
export const VRING_DESC_ALIGN_SIZE = 16;
export const VRING_AVAIL_ALIGN_SIZE = 2;
export const VRING_USED_ALIGN_SIZE = 4;

/** Bits of `vring_desc.flags`. */
export const VRING_DESC_F_NEXT = 1;
export const VRING_DESC_F_WRITE = 2;
export const VRING_DESC_F_INDIRECT = 4;

/** `vring_used.flags`: the device asks not to be kicked. */
export const VRING_USED_F_NO_NOTIFY = 1;
/** `vring_avail.flags`: the driver asks not to be interrupted. */
export const VRING_AVAIL_F_NO_INTERRUPT = 1;

/** Bytes of the descriptor table of a queue of `num` entries. */
export function vringDescSize(num: number): number {
  return vring_desc.size * num;
}

/** Bytes of the available ring, including its event index. */
export function vringAvailSize(num: number): number {
  return vringUsedEventOffset(num) + u16.size;
}

/** Bytes of the used ring, including its event index. */
export function vringUsedSize(num: number): number {
  return vringAvailEventOffset(num) + u16.size;
}

/** Offset of `used_event` in the available ring, in bytes. */
export function vringUsedEventOffset(num: number): number {
  return vring_avail.size + u16.size * num;
}

/** Offset of `avail_event` in the used ring, in bytes. */
export function vringAvailEventOffset(num: number): number {
  return vring_used.size + vring_used_elem.size * num;
}

/* Feature bits, as bit numbers. */
export const VIRTIO_RING_F_INDIRECT_DESC = 28;
export const VIRTIO_RING_F_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_RING_RESET = 40;

/* Device status bits, VHOST_USER_SET_STATUS. */
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 0x01;
export const VIRTIO_CONFIG_S_DRIVER = 0x02;
export const VIRTIO_CONFIG_S_DRIVER_OK = 0x04;
export const VIRTIO_CONFIG_S_FEATURES_OK = 0x08;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40;
export const VIRTIO_CONFIG_S_FAILED = 0x80;

/* Device ids. */
export const VIRTIO_ID_GPU = 16;
export const VIRTIO_ID_INPUT = 18;
