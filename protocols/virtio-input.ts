/**
 * linux/virtio_input.h and "Input Device" of the virtio 1.3 specification: a configuration space in
 * which the driver looks up the device's properties, a queue of events for the guest, and a queue of
 * status events (LEDs) from it. Event types and codes are those of input-event-codes.ts.
 */
import { bytes, struct, u16, u32, u8 } from './layout.ts';

/* `virtio_input_config.select`: what to look up. `subsel` is 0 unless stated. */
export const VIRTIO_INPUT_CFG_UNSET = 0x00;
export const VIRTIO_INPUT_CFG_ID_NAME = 0x01;
export const VIRTIO_INPUT_CFG_ID_SERIAL = 0x02;
export const VIRTIO_INPUT_CFG_ID_DEVIDS = 0x03;
export const VIRTIO_INPUT_CFG_PROP_BITS = 0x10;
/** `subsel` is an event type. */
export const VIRTIO_INPUT_CFG_EV_BITS = 0x11;
/** `subsel` is an absolute axis. */
export const VIRTIO_INPUT_CFG_ABS_INFO = 0x12;

/** The driver writes `select` and `subsel`. The answer is the first `size` bytes of `u`; 0 if there is none. */
export const virtio_input_config = struct('virtio_input_config', {
  select: u8,
  subsel: u8,
  size: u8,
  reserved: bytes(5),
  u: bytes(128),
});

export const virtio_input_absinfo = struct('virtio_input_absinfo', {
  min: u32,
  max: u32,
  fuzz: u32,
  flat: u32,
  res: u32,
});

export const virtio_input_devids = struct('virtio_input_devids', {
  bustype: u16,
  vendor: u16,
  product: u16,
  version: u16,
});

/** A buffer of either queue holds one. */
export const virtio_input_event = struct('virtio_input_event', { type: u16, code: u16, value: u32 });
