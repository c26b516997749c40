import { VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F as F } from '../../../protocols/vhost-user.ts';
import { VIRTIO_F_VERSION_1, VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../../protocols/virtio-ring.ts';

export const bit = (n: number): bigint => 1n << BigInt(n);

/** Device bits, and the ring features the driver here implements. */
export const KNOWN_FEATURES =
  0xff_ffffn | bit(VIRTIO_RING_F_INDIRECT_DESC) | bit(VIRTIO_RING_F_EVENT_IDX) | bit(VIRTIO_F_VERSION_1) | bit(VHOST_USER_F_PROTOCOL_FEATURES);

/** What this front end can do; a mask in its options takes bits away. */
export const KNOWN_PROTOCOL_FEATURES =
  bit(F.MQ) | bit(F.REPLY_ACK) | bit(F.BACKEND_REQ) | bit(F.CONFIG) | bit(F.BACKEND_SEND_FD) | bit(F.RESET_DEVICE) | bit(F.CONFIGURE_MEM_SLOTS) | bit(F.STATUS);
