import { VIRTIO_GPU_RESP } from '../../../protocols/virtio-gpu.ts';
import { ScanoutError, SysError } from '../../sys/errors.ts';

export type VirtioGpuErrorCode =
  'unsupported' | 'busy' | 'stopped' | 'out-of-memory' | 'invalid-scanout' | 'invalid-resource' | 'invalid-parameter';

/** A guest's command that cannot be run. Nothing has changed when it is thrown. */
export class VirtioGpuError extends ScanoutError<VirtioGpuErrorCode> {}

const RESPONSE = {
  unsupported: VIRTIO_GPU_RESP.ERR_UNSPEC,
  busy: VIRTIO_GPU_RESP.ERR_UNSPEC,
  stopped: VIRTIO_GPU_RESP.ERR_UNSPEC,
  'out-of-memory': VIRTIO_GPU_RESP.ERR_OUT_OF_MEMORY,
  'invalid-scanout': VIRTIO_GPU_RESP.ERR_INVALID_SCANOUT_ID,
  'invalid-resource': VIRTIO_GPU_RESP.ERR_INVALID_RESOURCE_ID,
  'invalid-parameter': VIRTIO_GPU_RESP.ERR_INVALID_PARAMETER,
} as const satisfies Record<VirtioGpuErrorCode, number>;

/** The VIRTIO_GPU_RESP_ERR_* for the guest. Whatever the host ran out of (memory, descriptors, mappings) is out of memory. */
export function responseOf(error: unknown): number {
  if (error instanceof VirtioGpuError) return RESPONSE[error.code];
  return error instanceof SysError ? VIRTIO_GPU_RESP.ERR_OUT_OF_MEMORY : VIRTIO_GPU_RESP.ERR_UNSPEC;
}
