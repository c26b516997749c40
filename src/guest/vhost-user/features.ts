import { VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F, VhostUserU64 } from '../../../protocols/vhost-user.ts';
import { VIRTIO_F_VERSION_1, VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../../protocols/virtio-ring.ts';

export const EVENT_IDX = bit(VIRTIO_RING_F_EVENT_IDX);
export const INDIRECT_DESC = bit(VIRTIO_RING_F_INDIRECT_DESC);

/** Not for the device: it tells that protocol features, and SET_VRING_ENABLE, are spoken. */
export const HAS_PROTOCOL_FEATURES = bit(VHOST_USER_F_PROTOCOL_FEATURES);

/** What every device offers beside its own features. */
export const TRANSPORT_FEATURES = bit(VIRTIO_F_VERSION_1) | INDIRECT_DESC | EVENT_IDX | HAS_PROTOCOL_FEATURES;

/**
 * STATUS is not among them: QEMU sends status 0 also when a guest is merely paused, which must not
 * lose the guest's screen. RESET_DEVICE, and rings that start over, tell of real resets.
 */
export const PROTOCOL_FEATURES =
  bit(VHOST_USER_PROTOCOL_F.MQ) |
  bit(VHOST_USER_PROTOCOL_F.REPLY_ACK) |
  bit(VHOST_USER_PROTOCOL_F.BACKEND_REQ) |
  bit(VHOST_USER_PROTOCOL_F.CONFIG) |
  bit(VHOST_USER_PROTOCOL_F.RESET_DEVICE);

export const MEMORY_SLOTS = bit(VHOST_USER_PROTOCOL_F.CONFIGURE_MEM_SLOTS);

/** A payload of one number. */
export function u64(value: bigint): Uint8Array {
  return VhostUserU64.encode({ u64: value });
}

function bit(number: number): bigint {
  return 1n << BigInt(number);
}
