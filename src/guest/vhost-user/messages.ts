import * as wire from '../../../protocols/vhost-user.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import type { RegionDescription } from '../memory.ts';
import { VhostUserError } from './errors.ts';

const { VHOST_USER } = wire;

/** Where the areas of a ring are, in the VMM's address space. */
export interface RingAddresses {
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
}

/** A request of the front end with its arguments decoded. It owns its descriptors. */
export type FrontEndMessage =
  | {
      readonly request:
        | typeof VHOST_USER.GET_FEATURES
        | typeof VHOST_USER.SET_OWNER
        | typeof VHOST_USER.RESET_OWNER
        | typeof VHOST_USER.GET_PROTOCOL_FEATURES
        | typeof VHOST_USER.GET_QUEUE_NUM
        | typeof VHOST_USER.RESET_DEVICE
        | typeof VHOST_USER.GET_MAX_MEM_SLOTS;
    }
  | {
      readonly request: typeof VHOST_USER.SET_FEATURES | typeof VHOST_USER.SET_PROTOCOL_FEATURES;
      readonly bits: bigint;
    }
  | {
      readonly request: typeof VHOST_USER.SET_MEM_TABLE;
      readonly regions: readonly RegionDescription[];
      readonly fds: readonly OwnedFd[];
    }
  | { readonly request: typeof VHOST_USER.ADD_MEM_REG; readonly region: RegionDescription; readonly fd: OwnedFd }
  | { readonly request: typeof VHOST_USER.REM_MEM_REG; readonly region: RegionDescription }
  | {
      readonly request:
        | typeof VHOST_USER.SET_VRING_NUM
        | typeof VHOST_USER.SET_VRING_BASE
        | typeof VHOST_USER.GET_VRING_BASE
        | typeof VHOST_USER.SET_VRING_ENABLE;
      readonly ring: number;
      readonly value: number;
    }
  | {
      readonly request: typeof VHOST_USER.SET_VRING_ADDR;
      readonly ring: number;
      readonly flags: number;
      readonly addresses: RingAddresses;
    }
  | {
      readonly request:
        typeof VHOST_USER.SET_VRING_KICK | typeof VHOST_USER.SET_VRING_CALL | typeof VHOST_USER.SET_VRING_ERR;
      readonly ring: number;
      /** Null: no descriptor, and the other side polls. */
      readonly fd: OwnedFd | null;
    }
  | { readonly request: typeof VHOST_USER.GET_CONFIG; readonly offset: number; readonly length: number }
  | { readonly request: typeof VHOST_USER.SET_CONFIG; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly request: typeof VHOST_USER.SET_BACKEND_REQ_FD | typeof VHOST_USER.GPU_SET_SOCKET; readonly fd: OwnedFd };

/** The fewest and the most payload bytes and file descriptors of a request. */
interface Shape {
  readonly size: readonly [number, number];
  readonly fds: readonly [number, number];
}

const NONE = [0, 0] as const;
const ONE = [1, 1] as const;
const OPTIONAL = [0, 1] as const;

function exactly(type: { readonly size: number }): readonly [number, number] {
  return [type.size, type.size];
}

const MEMORY_SIZE = [
  wire.VhostUserMemory.size,
  wire.VhostUserMemory.size + wire.VHOST_MEMORY_BASELINE_NREGIONS * wire.VhostUserMemoryRegion.size,
] as const;
const CONFIG_SIZE = [wire.VhostUserConfig.size, wire.VhostUserConfig.size + wire.VHOST_USER_MAX_CONFIG_SIZE] as const;

/** Every request that is answered. All others were not offered, and end the connection. */
const shapes = new Map<number, Shape>([
  [VHOST_USER.GET_FEATURES, { size: NONE, fds: NONE }],
  [VHOST_USER.SET_FEATURES, { size: exactly(wire.VhostUserU64), fds: NONE }],
  [VHOST_USER.SET_OWNER, { size: NONE, fds: NONE }],
  [VHOST_USER.RESET_OWNER, { size: NONE, fds: NONE }],
  [VHOST_USER.SET_MEM_TABLE, { size: MEMORY_SIZE, fds: [0, wire.VHOST_MEMORY_BASELINE_NREGIONS] }],
  [VHOST_USER.SET_VRING_NUM, { size: exactly(wire.vhost_vring_state), fds: NONE }],
  [VHOST_USER.SET_VRING_ADDR, { size: exactly(wire.vhost_vring_addr), fds: NONE }],
  [VHOST_USER.SET_VRING_BASE, { size: exactly(wire.vhost_vring_state), fds: NONE }],
  [VHOST_USER.GET_VRING_BASE, { size: exactly(wire.vhost_vring_state), fds: NONE }],
  [VHOST_USER.SET_VRING_KICK, { size: exactly(wire.VhostUserU64), fds: OPTIONAL }],
  [VHOST_USER.SET_VRING_CALL, { size: exactly(wire.VhostUserU64), fds: OPTIONAL }],
  [VHOST_USER.SET_VRING_ERR, { size: exactly(wire.VhostUserU64), fds: OPTIONAL }],
  [VHOST_USER.GET_PROTOCOL_FEATURES, { size: NONE, fds: NONE }],
  [VHOST_USER.SET_PROTOCOL_FEATURES, { size: exactly(wire.VhostUserU64), fds: NONE }],
  [VHOST_USER.GET_QUEUE_NUM, { size: NONE, fds: NONE }],
  [VHOST_USER.SET_VRING_ENABLE, { size: exactly(wire.vhost_vring_state), fds: NONE }],
  [VHOST_USER.SET_BACKEND_REQ_FD, { size: NONE, fds: ONE }],
  [VHOST_USER.GET_CONFIG, { size: CONFIG_SIZE, fds: NONE }],
  [VHOST_USER.SET_CONFIG, { size: CONFIG_SIZE, fds: NONE }],
  [VHOST_USER.GPU_SET_SOCKET, { size: NONE, fds: ONE }],
  [VHOST_USER.RESET_DEVICE, { size: NONE, fds: NONE }],
  [VHOST_USER.GET_MAX_MEM_SLOTS, { size: NONE, fds: NONE }],
  [VHOST_USER.ADD_MEM_REG, { size: exactly(wire.VhostUserMemRegMsg), fds: ONE }],
  // Old front ends send the region's descriptor too.
  [VHOST_USER.REM_MEM_REG, { size: exactly(wire.VhostUserMemRegMsg), fds: OPTIONAL }],
]);

export const MAX_PAYLOAD = Math.max(...[...shapes.values()].map((shape) => shape.size[1]));
export const MAX_FDS = Math.max(...[...shapes.values()].map((shape) => shape.fds[1]));

/** Refuses a message whose header alone is wrong. VhostUserError `request` or `message`. */
export function checkHeader(request: number, flags: number, size: number): void {
  if ((flags & wire.VHOST_USER_VERSION_MASK) !== wire.VHOST_USER_VERSION)
    throw new VhostUserError(
      'message',
      `message of protocol version ${flags & wire.VHOST_USER_VERSION_MASK}, not ${wire.VHOST_USER_VERSION}`,
    );
  if ((flags & wire.VHOST_USER_REPLY_MASK) !== 0)
    throw new VhostUserError('message', `reply to ${wire.requestName(request)} where a request was expected`);
  const shape = shapes.get(request);
  if (shape === undefined) throw new VhostUserError('request', `${wire.requestName(request)} was not offered`);
  if (size < shape.size[0] || size > shape.size[1])
    throw new VhostUserError('message', `${wire.requestName(request)} with a payload of ${size} bytes`);
}

/**
 * Decodes a whole message whose header passed `checkHeader`. Moves the descriptors that the message uses out of
 * `fds`; the caller closes the others. VhostUserError `message` or `fds`, with `fds` untouched.
 */
export function decode(request: number, payload: DataView, fds: OwnedFd[]): FrontEndMessage {
  const shape = shapes.get(request)!;
  if (fds.length < shape.fds[0] || fds.length > shape.fds[1])
    throw new VhostUserError('fds', `${wire.requestName(request)} with ${fds.length} file descriptors`);
  switch (request) {
    case VHOST_USER.SET_FEATURES:
    case VHOST_USER.SET_PROTOCOL_FEATURES:
      return { request, bits: wire.VhostUserU64.field.u64.get(payload, 0) };
    case VHOST_USER.SET_MEM_TABLE:
      return decodeMemoryTable(payload, fds);
    case VHOST_USER.ADD_MEM_REG:
      return { request, region: decodeRegion(payload, wire.VhostUserMemRegMsg.offset.region), fd: fds.shift()! };
    case VHOST_USER.REM_MEM_REG:
      return { request, region: decodeRegion(payload, wire.VhostUserMemRegMsg.offset.region) };
    case VHOST_USER.SET_VRING_NUM:
    case VHOST_USER.SET_VRING_BASE:
    case VHOST_USER.GET_VRING_BASE:
    case VHOST_USER.SET_VRING_ENABLE: {
      const { index, num } = wire.vhost_vring_state.get(payload, 0);
      return { request, ring: index, value: num };
    }
    case VHOST_USER.SET_VRING_ADDR: {
      const { index, flags, desc_user_addr, avail_user_addr, used_user_addr } = wire.vhost_vring_addr.get(payload, 0);
      return {
        request,
        ring: index,
        flags,
        addresses: { descriptors: desc_user_addr, available: avail_user_addr, used: used_user_addr },
      };
    }
    case VHOST_USER.SET_VRING_KICK:
    case VHOST_USER.SET_VRING_CALL:
    case VHOST_USER.SET_VRING_ERR: {
      const value = Number(wire.VhostUserU64.field.u64.get(payload, 0) & 0xffff_ffffn);
      const expected = (value & wire.VHOST_USER_VRING_NOFD_MASK) === 0 ? 1 : 0;
      if (fds.length !== expected)
        throw new VhostUserError(
          'fds',
          `${wire.requestName(request)} with ${fds.length} file descriptors instead of ${expected}`,
        );
      return { request, ring: value & wire.VHOST_USER_VRING_IDX_MASK, fd: fds.shift() ?? null };
    }
    case VHOST_USER.GET_CONFIG: {
      const { offset, length } = decodeConfig(request, payload);
      return { request, offset, length };
    }
    case VHOST_USER.SET_CONFIG: {
      const { offset, length } = decodeConfig(request, payload);
      return {
        request,
        offset,
        bytes: new Uint8Array(payload.buffer, payload.byteOffset + wire.VhostUserConfig.size, length).slice(),
      };
    }
    case VHOST_USER.SET_BACKEND_REQ_FD:
    case VHOST_USER.GPU_SET_SOCKET:
      return { request, fd: fds.shift()! };
    default:
      // Every other request in `shapes` is a header only.
      return { request } as FrontEndMessage;
  }
}

function decodeMemoryTable(payload: DataView, fds: OwnedFd[]): FrontEndMessage {
  const count = wire.VhostUserMemory.field.nregions.get(payload, 0);
  if (payload.byteLength !== wire.VhostUserMemory.size + count * wire.VhostUserMemoryRegion.size) {
    throw new VhostUserError('message', `SET_MEM_TABLE of ${count} regions in ${payload.byteLength} bytes`);
  }
  if (fds.length !== count)
    throw new VhostUserError('fds', `SET_MEM_TABLE of ${count} regions with ${fds.length} file descriptors`);
  const regions = Array.from({ length: count }, (_, i) =>
    decodeRegion(payload, wire.VhostUserMemory.size + i * wire.VhostUserMemoryRegion.size),
  );
  return { request: VHOST_USER.SET_MEM_TABLE, regions, fds: fds.splice(0) };
}

function decodeRegion(payload: DataView, at: number): RegionDescription {
  const { guest_phys_addr, memory_size, userspace_addr, mmap_offset } = wire.VhostUserMemoryRegion.get(payload, at);
  return { guestAddress: guest_phys_addr, size: memory_size, userAddress: userspace_addr, mmapOffset: mmap_offset };
}

function decodeConfig(request: number, payload: DataView): { offset: number; length: number } {
  const { offset, size } = wire.VhostUserConfig.get(payload, 0);
  if (size !== payload.byteLength - wire.VhostUserConfig.size) {
    throw new VhostUserError(
      'message',
      `${wire.requestName(request)} of ${size} bytes in a payload of ${payload.byteLength}`,
    );
  }
  return { offset, length: size };
}
