import * as wire from '../../../protocols/vhost-user.ts';
import type { BorrowedFd } from '../../sys/fd.ts';
import { type FrontEndChannel, FrontEndError } from './front-end-channel.ts';
import { DRIVER_ADDRESS, type DriverRegion } from './driver-memory.ts';

/** A front end's virtual addresses are not guest physical ones; kept apart, mixing them up fails. */
const USER_BASE = 0x1000_0000_0000;

export function userAddress(guestAddress: number): number {
  return USER_BASE + guestAddress;
}

type FdOf = (region: DriverRegion) => BorrowedFd;

/** SET_MEM_TABLE: the whole table at once, at most eight regions. */
export async function sendTable(channel: FrontEndChannel, regions: readonly DriverRegion[], fdOf: FdOf): Promise<void> {
  if (regions.length > wire.VHOST_MEMORY_BASELINE_NREGIONS) {
    throw new FrontEndError('refused', `${regions.length} memory regions, and the back end takes ${wire.VHOST_MEMORY_BASELINE_NREGIONS}`);
  }
  const head = wire.VhostUserMemory;
  const payload = new Uint8Array(head.size + regions.length * wire.VhostUserMemoryRegion.size);
  payload.set(head.encode({ nregions: regions.length }));
  regions.forEach((region, i) => payload.set(encodeRegion(region), head.size + i * wire.VhostUserMemoryRegion.size));
  await channel.set(wire.VHOST_USER.SET_MEM_TABLE, payload, regions.map(fdOf));
}

/** ADD_MEM_REG and REM_MEM_REG for the difference between two tables. */
export async function updateSlots(channel: FrontEndChannel, from: readonly DriverRegion[], to: readonly DriverRegion[], fdOf: FdOf): Promise<void> {
  for (const region of from) {
    if (!to.some((other) => same(region, other))) await channel.set(wire.VHOST_USER.REM_MEM_REG, slot(region));
  }
  for (const region of to) {
    if (!from.some((other) => same(region, other))) await channel.set(wire.VHOST_USER.ADD_MEM_REG, slot(region), [fdOf(region)]);
  }
}

function slot(region: DriverRegion): Uint8Array {
  const payload = new Uint8Array(wire.VhostUserMemRegMsg.size);
  payload.set(encodeRegion(region), wire.VhostUserMemRegMsg.offset.region);
  return payload;
}

function encodeRegion(region: DriverRegion): Uint8Array {
  return wire.VhostUserMemoryRegion.encode({
    guest_phys_addr: region.guestAddress,
    memory_size: region.size,
    userspace_addr: userAddress(region.guestAddress),
    // Guest memory's file offsets are its addresses; the driver's own memfd starts at 0.
    mmap_offset: region.guestAddress === DRIVER_ADDRESS ? 0 : region.guestAddress,
  });
}

function same(a: DriverRegion, b: DriverRegion): boolean {
  return a.guestAddress === b.guestAddress && a.size === b.size;
}
