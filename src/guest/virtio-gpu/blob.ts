import { DRM_FORMAT } from '../../../protocols/drm-fourcc.ts';
import {
  VIRTIO_GPU_BLOB_MEM_GUEST,
  virtio_gpu_resource_create_blob,
  virtio_gpu_set_scanout_blob,
} from '../../../protocols/virtio-gpu.ts';
import type { PixelLayout } from '../../core/framebuffer.ts';
import { readRect, type Command } from './command.ts';
import { checkImage, checkScanoutRect } from './commands-2d.ts';
import { VirtioGpuError } from './errors.ts';
import { BYTES_PER_PIXEL, LinearLayout, Resource } from './resource.ts';

/** The largest image there is. */
const MAX_BLOB = 2 ** 30;

export const RESOURCE_CREATE_BLOB: Command = {
  size: virtio_gpu_resource_create_blob.size,
  run({ resources }, request) {
    const { resource_id, blob_mem, nr_entries, size } = virtio_gpu_resource_create_blob.get(request.view, 0);
    resources.checkNew(resource_id);
    if (blob_mem !== VIRTIO_GPU_BLOB_MEM_GUEST) throw new VirtioGpuError('invalid-parameter', `blob memory ${blob_mem}; only guest memory is possible`);
    if (size === 0 || size > MAX_BLOB) throw new VirtioGpuError('invalid-parameter', `a blob of ${size} bytes; 1 to ${MAX_BLOB} are possible`);
    resources.add(new Resource(resource_id, size, null), request.entries(virtio_gpu_resource_create_blob.size, nr_entries));
  },
};

const described = new LinearLayout();

export const SET_SCANOUT_BLOB: Command = {
  size: virtio_gpu_set_scanout_blob.size,
  run(gpu, request) {
    const { view } = request;
    const { field, offset } = virtio_gpu_set_scanout_blob;
    const scanout = gpu.scanouts.get(field.scanout_id.get(view, 0));
    const id = field.resource_id.get(view, 0);
    if (id === 0) {
      gpu.scanouts.off(scanout);
      return;
    }
    const resource = gpu.resources.get(id);
    if (!resource.isBlob) throw new VirtioGpuError('invalid-resource', `resource ${id} is no blob`);
    const width = field.width.get(view, 0);
    const height = field.height.get(view, 0);
    const format = field.format.get(view, 0);
    const fourcc = checkImage(width, height, format);
    // All formats have one plane: the other three strides and offsets mean nothing.
    const layout = described.set(width, height, fourcc, view.getUint32(offset.offsets, true), view.getUint32(offset.strides, true));
    checkFits(layout, resource);
    const rect = readRect(gpu, request, offset.r);
    checkScanoutRect(rect, layout);
    gpu.scanouts.show(scanout, resource, layout, rect);
  },
};

function checkFits(layout: PixelLayout, { id, byteLength }: Resource): void {
  const { offset, stride } = layout.planes[0]!;
  const rowBytes = layout.width * BYTES_PER_PIXEL;
  // Above 2^53 the sum is rounded, and refused just the same.
  const end = offset + stride * (layout.height - 1) + rowBytes;
  if (stride < rowBytes || stride % BYTES_PER_PIXEL !== 0 || offset % BYTES_PER_PIXEL !== 0 || end > byteLength) {
    throw new VirtioGpuError('invalid-parameter', `${layout.width}x${layout.height} with stride ${stride} at ${offset} does not fit blob ${id} of ${byteLength} bytes`);
  }
}

/** A blob as cursor comes without a description: drivers mean 64x64 with alpha, as QEMU takes it. */
export const CURSOR_BLOB: PixelLayout = new LinearLayout().set(64, 64, DRM_FORMAT.ARGB8888, 0, 64 * BYTES_PER_PIXEL);
export const CURSOR_BLOB_BYTES = 64 * 64 * BYTES_PER_PIXEL;
