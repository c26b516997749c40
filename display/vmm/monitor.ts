import { EDID_BLOCK_SIZE } from '../../protocols/edid.ts';
import { VHOST_USER_GPU_PROTOCOL_F } from '../../protocols/vhost-user-gpu.ts';
import { VIRTIO_GPU_RESP, virtio_gpu_resp_display_info, virtio_gpu_resp_edid } from '../../protocols/virtio-gpu.ts';
import type { Size } from '../../src/core/geometry.ts';
import { MAX_REFRESH_MHZ, type Monitor, virtualMonitor } from '../../src/core/monitor.ts';
import { GET_DISPLAY_INFO, getEdid } from './messages.ts';
import type { VmmSocket } from './socket.ts';

const NAME = 'VMM';
const DEFAULT_REFRESH_MHZ = 60_000;
const MIN_REFRESH_MHZ = 1000;
const MAX_SIDE = 0xffff;

/** For a console without a viewer, because a screen needs some mode. */
export const DEFAULT_MONITOR = virtualMonitor(NAME, 1280, 800, DEFAULT_REFRESH_MHZ);

/**
 * The monitors that the VMM wants for the first `count` scanouts; null means unplugged. `refreshMhz`
 * replaces the refresh rate of the EDID, and then the EDID is not passed on. Rejects with
 * VmmDisplayError when the socket ends.
 */
export async function askMonitors(
  socket: VmmSocket,
  count: number,
  features: bigint,
  refreshMhz: number | undefined,
): Promise<(Monitor | null)[]> {
  const modes = parseDisplayInfo(await socket.ask(GET_DISPLAY_INFO)).slice(0, count);
  const hasEdid = (features & (1n << BigInt(VHOST_USER_GPU_PROTOCOL_F.EDID))) !== 0n;
  return Promise.all(
    modes.map(async (mode, id) => {
      if (!mode) return null;
      // Only enabled scanouts are asked for: QEMU does not answer for a scanout that it does not have.
      const edid = hasEdid ? parseEdid(await socket.ask(getEdid(id))) : null;
      return monitorOf(mode, edid, refreshMhz);
    }),
  );
}

function parseDisplayInfo(payload: Uint8Array): (Size | null)[] {
  const { hdr, pmodes } = virtio_gpu_resp_display_info.decode(payload);
  return pmodes.map(({ r, enabled }) => {
    const isUsable =
      hdr.type === VIRTIO_GPU_RESP.OK_DISPLAY_INFO && enabled !== 0 && isSide(r.width) && isSide(r.height);
    return isUsable ? { width: r.width, height: r.height } : null;
  });
}

/** The EDID without padding, base block first; null if it is not valid. */
function parseEdid(payload: Uint8Array): Uint8Array | null {
  const { hdr, size, edid } = virtio_gpu_resp_edid.decode(payload);
  if (hdr.type !== VIRTIO_GPU_RESP.OK_EDID) return null;
  const length = (1 + edid[126]!) * EDID_BLOCK_SIZE;
  const hasHeader = edid[0] === 0 && edid[7] === 0 && edid.subarray(1, 7).every((byte) => byte === 0xff);
  const sum = edid.subarray(0, EDID_BLOCK_SIZE).reduce((total, byte) => total + byte, 0);
  return hasHeader && sum % 256 === 0 && length <= Math.min(size, edid.length) ? edid.slice(0, length) : null;
}

function monitorOf(mode: Size, edid: Uint8Array | null, refreshMhz: number | undefined): Monitor {
  const timing = edid ? readTiming(edid) : null;
  const monitor = virtualMonitor(
    NAME,
    mode.width,
    mode.height,
    refreshMhz ?? timing?.refreshMhz ?? DEFAULT_REFRESH_MHZ,
  );
  const sized = timing ? { ...monitor, widthMm: timing.widthMm, heightMm: timing.heightMm } : monitor;
  return edid && refreshMhz === undefined ? { ...sized, edid } : sized;
}

/** The first detailed timing descriptor (E-EDID 3.10.2), which is the preferred mode; null if there is none. */
function readTiming(edid: Uint8Array): { refreshMhz: number; widthMm: number; heightMm: number } | null {
  const at = (index: number): number => edid[54 + index]!;
  const clock10kHz = at(0) | (at(1) << 8);
  const across = (at(2) | ((at(4) & 0xf0) << 4)) + (at(3) | ((at(4) & 0x0f) << 8));
  const down = (at(5) | ((at(7) & 0xf0) << 4)) + (at(6) | ((at(7) & 0x0f) << 8));
  const refreshMhz = Math.round((clock10kHz * 1e7) / (across * down));
  if (!(refreshMhz >= MIN_REFRESH_MHZ && refreshMhz <= MAX_REFRESH_MHZ)) return null;
  return { refreshMhz, widthMm: at(12) | ((at(14) & 0xf0) << 4), heightMm: at(13) | ((at(14) & 0x0f) << 8) };
}

function isSide(value: number): boolean {
  return value >= 1 && value <= MAX_SIDE;
}
