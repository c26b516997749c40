/**
 * The messages that are sent to the VMM. Each is laid out once and refilled, so the result of a
 * function is valid until its next call. Signed coordinates are sent as their 32 bits, as QEMU reads
 * them.
 */
import * as wire from '../../protocols/vhost-user-gpu.ts';

const HEADER_SIZE = wire.VhostUserGpuHeader.size;
const { VHOST_USER_GPU } = wire;

interface Message {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

function newMessage(request: number, payloadSize: number): Message {
  const bytes = new Uint8Array(HEADER_SIZE + payloadSize);
  const view = new DataView(bytes.buffer);
  wire.VhostUserGpuHeader.set(view, 0, { request, flags: 0, size: payloadSize });
  return { bytes, view };
}

export const GET_PROTOCOL_FEATURES = newMessage(VHOST_USER_GPU.GET_PROTOCOL_FEATURES, 0).bytes;
export const GET_DISPLAY_INFO = newMessage(VHOST_USER_GPU.GET_DISPLAY_INFO, 0).bytes;

export function setProtocolFeatures(features: bigint): Uint8Array {
  const { bytes, view } = newMessage(VHOST_USER_GPU.SET_PROTOCOL_FEATURES, wire.VhostUserGpuU64.size);
  wire.VhostUserGpuU64.field.u64.set(view, HEADER_SIZE, features);
  return bytes;
}

export function getEdid(scanout: number): Uint8Array {
  const { bytes, view } = newMessage(VHOST_USER_GPU.GET_EDID, wire.VhostUserGpuEdidRequest.size);
  wire.VhostUserGpuEdidRequest.field.scanout_id.set(view, HEADER_SIZE, scanout);
  return bytes;
}

const scanoutMessage = newMessage(VHOST_USER_GPU.SCANOUT, wire.VhostUserGpuScanout.size);

export function scanout(id: number, width: number, height: number): Uint8Array {
  const { field } = wire.VhostUserGpuScanout;
  field.scanout_id.set(scanoutMessage.view, HEADER_SIZE, id);
  field.width.set(scanoutMessage.view, HEADER_SIZE, width);
  field.height.set(scanoutMessage.view, HEADER_SIZE, height);
  return scanoutMessage.bytes;
}

const updateMessage = newMessage(VHOST_USER_GPU.UPDATE, wire.VhostUserGpuUpdate.size);

/** Everything but the pixels, which must follow. */
export function update(id: number, x: number, y: number, width: number, height: number): Uint8Array {
  wire.VhostUserGpuHeader.field.size.set(updateMessage.view, 0, wire.VhostUserGpuUpdate.size + width * height * 4);
  return setUpdate(updateMessage, id, x, y, width, height);
}

const dmabufUpdateMessage = newMessage(VHOST_USER_GPU.DMABUF_UPDATE, wire.VhostUserGpuUpdate.size);

export function dmabufUpdate(id: number, x: number, y: number, width: number, height: number): Uint8Array {
  return setUpdate(dmabufUpdateMessage, id, x, y, width, height);
}

function setUpdate(
  { bytes, view }: Message,
  id: number,
  x: number,
  y: number,
  width: number,
  height: number,
): Uint8Array {
  const { field } = wire.VhostUserGpuUpdate;
  field.scanout_id.set(view, HEADER_SIZE, id);
  field.x.set(view, HEADER_SIZE, x);
  field.y.set(view, HEADER_SIZE, y);
  field.width.set(view, HEADER_SIZE, width);
  field.height.set(view, HEADER_SIZE, height);
  return bytes;
}

export type DmabufScanout = Parameters<typeof wire.VhostUserGpuDMABUFScanout.set>[2];

/** DMABUF_SCANOUT2 with a modifier, or DMABUF_SCANOUT. */
export function dmabufScanout(value: DmabufScanout, modifier: bigint | null): Uint8Array {
  if (modifier === null) {
    const { bytes, view } = newMessage(VHOST_USER_GPU.DMABUF_SCANOUT, wire.VhostUserGpuDMABUFScanout.size);
    wire.VhostUserGpuDMABUFScanout.set(view, HEADER_SIZE, value);
    return bytes;
  }
  const { bytes, view } = newMessage(VHOST_USER_GPU.DMABUF_SCANOUT2, wire.VhostUserGpuDMABUFScanout2.size);
  wire.VhostUserGpuDMABUFScanout2.set(view, HEADER_SIZE, { dmabuf_scanout: value, modifier });
  return bytes;
}

/** Takes the dma-buf away. It is sent without a descriptor. */
export function dmabufScanoutOff(id: number): Uint8Array {
  const { bytes, view } = newMessage(VHOST_USER_GPU.DMABUF_SCANOUT, wire.VhostUserGpuDMABUFScanout.size);
  wire.VhostUserGpuDMABUFScanout.field.scanout_id.set(view, HEADER_SIZE, id);
  return bytes;
}

const cursorPosMessage = newMessage(VHOST_USER_GPU.CURSOR_POS, wire.VhostUserGpuCursorPos.size);
const cursorHideMessage = newMessage(VHOST_USER_GPU.CURSOR_POS_HIDE, wire.VhostUserGpuCursorPos.size);

export function cursorPos(id: number, x: number, y: number): Uint8Array {
  return setCursorPos(cursorPosMessage, id, x, y);
}

export function cursorHide(id: number, x: number, y: number): Uint8Array {
  return setCursorPos(cursorHideMessage, id, x, y);
}

const CURSOR_IMAGE_OFFSET = HEADER_SIZE + wire.VhostUserGpuCursorUpdate.offset.data;

const cursorUpdateMessage = newMessage(VHOST_USER_GPU.CURSOR_UPDATE, wire.VhostUserGpuCursorUpdate.size);

/** `image` is 64 x 64 pixels ARGB8888. */
export function cursorUpdate(
  id: number,
  x: number,
  y: number,
  hotX: number,
  hotY: number,
  image: Uint8Array,
): Uint8Array {
  const { bytes, view } = cursorUpdateMessage;
  const { field } = wire.VhostUserGpuCursorUpdate;
  setCursorPos(cursorUpdateMessage, id, x, y);
  field.hot_x.set(view, HEADER_SIZE, hotX);
  field.hot_y.set(view, HEADER_SIZE, hotY);
  bytes.set(image, CURSOR_IMAGE_OFFSET);
  return bytes;
}

function setCursorPos({ bytes, view }: Message, id: number, x: number, y: number): Uint8Array {
  const { field } = wire.VhostUserGpuCursorPos;
  field.scanout_id.set(view, HEADER_SIZE, id);
  field.x.set(view, HEADER_SIZE, x);
  field.y.set(view, HEADER_SIZE, y);
  return bytes;
}
