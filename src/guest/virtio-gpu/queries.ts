import { randomBytes } from 'node:crypto';
import {
  VIRTIO_GPU_RESP,
  virtio_gpu_cmd_get_edid,
  virtio_gpu_ctrl_hdr,
  virtio_gpu_get_capset,
  virtio_gpu_get_capset_info,
  virtio_gpu_resource_assign_uuid,
  virtio_gpu_resp_capset,
  virtio_gpu_resp_capset_info,
  virtio_gpu_resp_display_info,
  virtio_gpu_resp_edid,
  virtio_gpu_resp_resource_uuid,
} from '../../../protocols/virtio-gpu.ts';
import type { Command } from './command.ts';

export const GET_DISPLAY_INFO: Command = {
  size: virtio_gpu_ctrl_hdr.size,
  run({ monitors }, _request, reply) {
    reply.ok(VIRTIO_GPU_RESP.OK_DISPLAY_INFO, virtio_gpu_resp_display_info.size);
    monitors.writeDisplayInfo(reply.view);
  },
};

export const GET_EDID: Command = {
  size: virtio_gpu_cmd_get_edid.size,
  run({ monitors }, { view }, reply) {
    const edid = monitors.edid(virtio_gpu_cmd_get_edid.field.scanout.get(view, 0));
    reply.ok(VIRTIO_GPU_RESP.OK_EDID, virtio_gpu_resp_edid.size);
    virtio_gpu_resp_edid.field.size.set(reply.view, 0, edid.length);
    reply.bytes.set(edid, virtio_gpu_resp_edid.offset.edid);
  },
};

/* There are no capability sets: unknown ones read as zero. */

export const GET_CAPSET_INFO: Command = {
  size: virtio_gpu_get_capset_info.size,
  run: (_gpu, _request, reply) => reply.ok(VIRTIO_GPU_RESP.OK_CAPSET_INFO, virtio_gpu_resp_capset_info.size),
};

export const GET_CAPSET: Command = {
  size: virtio_gpu_get_capset.size,
  run: (_gpu, _request, reply) => reply.ok(VIRTIO_GPU_RESP.OK_CAPSET, virtio_gpu_resp_capset.size),
};

export const RESOURCE_ASSIGN_UUID: Command = {
  size: virtio_gpu_resource_assign_uuid.size,
  run({ resources }, { view }, reply) {
    const resource = resources.get(virtio_gpu_resource_assign_uuid.field.resource_id.get(view, 0));
    reply.ok(VIRTIO_GPU_RESP.OK_RESOURCE_UUID, virtio_gpu_resp_resource_uuid.size);
    reply.bytes.set((resource.uuid ??= randomUuid()), virtio_gpu_resp_resource_uuid.offset.uuid);
  },
};

/** RFC 9562, version 4. */
function randomUuid(): Uint8Array {
  const uuid = new Uint8Array(randomBytes(16));
  uuid[6] = (uuid[6]! & 0x0f) | 0x40;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}
