import type { Fourcc } from '../../../protocols/drm-fourcc.ts';
import {
  FOURCC_OF_VIRTIO_GPU_FORMAT,
  virtio_gpu_resource_attach_backing,
  virtio_gpu_resource_create_2d,
  virtio_gpu_resource_detach_backing,
  virtio_gpu_resource_flush,
  virtio_gpu_resource_unref,
  virtio_gpu_set_scanout,
  virtio_gpu_transfer_to_host_2d,
} from '../../../protocols/virtio-gpu.ts';
import type { PixelLayout } from '../../core/framebuffer.ts';
import type { Rect } from '../../core/geometry.ts';
import { checkInside, readRect, type Command, type GpuState } from './command.ts';
import { VirtioGpuError } from './errors.ts';
import { BYTES_PER_PIXEL, LinearLayout, Resource } from './resource.ts';
import { Store } from './store.ts';

/** The largest side of an image: what display hardware addresses; 1 GiB of pixels at most. */
const MAX_SIDE = 16384;

/** The DRM format; VirtioGpuError unless `format` is one of the eight and the sides are sane. */
export function checkImage(width: number, height: number, format: number): Fourcc {
  const fourcc = FOURCC_OF_VIRTIO_GPU_FORMAT.get(format);
  if (fourcc === undefined) throw new VirtioGpuError('invalid-parameter', `format ${format}`);
  if (width === 0 || height === 0 || width > MAX_SIDE || height > MAX_SIDE) {
    throw new VirtioGpuError('invalid-parameter', `an image of ${width}x${height}; sides of 1 to ${MAX_SIDE} are possible`);
  }
  return fourcc;
}

export const RESOURCE_CREATE_2D: Command = {
  size: virtio_gpu_resource_create_2d.size,
  run({ resources }, { view }) {
    const { resource_id, format, width, height } = virtio_gpu_resource_create_2d.get(view, 0);
    resources.checkNew(resource_id);
    const fourcc = checkImage(width, height, format);
    const stride = width * BYTES_PER_PIXEL;
    const layout = new LinearLayout().set(width, height, fourcc, 0, stride);
    resources.add(new Resource(resource_id, stride * height, layout), null);
  },
};

export const RESOURCE_UNREF: Command = {
  size: virtio_gpu_resource_unref.size,
  run({ resources }, { view }) {
    resources.remove(resources.get(virtio_gpu_resource_unref.field.resource_id.get(view, 0)));
  },
};

export const RESOURCE_ATTACH_BACKING: Command = {
  size: virtio_gpu_resource_attach_backing.size,
  run({ resources }, request) {
    const { resource_id, nr_entries } = virtio_gpu_resource_attach_backing.field;
    const resource = resources.get(resource_id.get(request.view, 0));
    resources.attach(resource, request.entries(virtio_gpu_resource_attach_backing.size, nr_entries.get(request.view, 0)));
  },
};

export const RESOURCE_DETACH_BACKING: Command = {
  size: virtio_gpu_resource_detach_backing.size,
  run({ resources }, { view }) {
    resources.detach(resources.get(virtio_gpu_resource_detach_backing.field.resource_id.get(view, 0)));
  },
};

export const SET_SCANOUT: Command = {
  size: virtio_gpu_set_scanout.size,
  run(gpu, request) {
    const { scanout_id, resource_id } = virtio_gpu_set_scanout.field;
    const scanout = gpu.scanouts.get(scanout_id.get(request.view, 0));
    const id = resource_id.get(request.view, 0);
    if (id === 0) {
      gpu.scanouts.off(scanout);
      return;
    }
    const resource = gpu.resources.get(id);
    const { layout } = resource;
    if (!layout) throw new VirtioGpuError('invalid-resource', `resource ${id} is a blob, for SET_SCANOUT_BLOB`);
    const rect = readRect(gpu, request, virtio_gpu_set_scanout.offset.r);
    checkScanoutRect(rect, layout);
    gpu.scanouts.show(scanout, resource, layout, rect);
  },
};

/** A picture has at least one pixel, all of them in the image. */
export function checkScanoutRect(rect: Rect, layout: PixelLayout): void {
  checkInside(rect, layout.width, layout.height);
  if (rect.width === 0 || rect.height === 0) throw new VirtioGpuError('invalid-parameter', 'a scanout without pixels');
}

export const TRANSFER_TO_HOST_2D: Command = {
  size: virtio_gpu_transfer_to_host_2d.size,
  run(gpu, request) {
    const { resource_id, offset } = virtio_gpu_transfer_to_host_2d.field;
    const resource = gpu.resources.get(resource_id.get(request.view, 0));
    if (!resource.guest) throw new VirtioGpuError('invalid-resource', `resource ${resource.id} has no backing to transfer from`);
    // The host reads a blob where it is; drivers send transfers all the same.
    if (resource.layout) {
      const rect = readRect(gpu, request, virtio_gpu_transfer_to_host_2d.offset.r);
      checkInside(rect, resource.layout.width, resource.layout.height);
      if (rect.width > 0 && rect.height > 0) transfer(gpu, resource, resource.layout.planes[0]!.stride, rect, offset.get(request.view, 0));
    }
    gpu.transfers++;
  },
};

function transfer({ resources, scanouts, tap }: GpuState, resource: Resource, stride: number, rect: Rect, from: number): void {
  const rowBytes = rect.width * BYTES_PER_PIXEL;
  const to = rect.y * stride + rect.x * BYTES_PER_PIXEL;
  const end = from + (rect.height - 1) * stride + rowBytes;
  if (end > resource.guest!.length) {
    throw new VirtioGpuError('invalid-parameter', `a transfer up to byte ${end} of a backing of ${resource.guest!.length}`);
  }
  let { pixels } = resource;
  if (!(pixels instanceof Store) && from !== to) pixels = resources.moveToStore(resource);
  tap?.pixels(resource, from, stride, rowBytes, rect.height);
  if (pixels instanceof Store) {
    for (let row = 0; row < rect.height; row++) resources.read(resource, from + row * stride, pixels.bytes, to + row * stride, rowBytes);
  }
  resource.isWritten = true;
  scanouts.damage(resource, rect.x, rect.y, rect.width, rect.height);
}

export const RESOURCE_FLUSH: Command = {
  size: virtio_gpu_resource_flush.size,
  run(gpu, request, _reply, answer) {
    const { resources, scanouts, tap } = gpu;
    const resource = resources.get(virtio_gpu_resource_flush.field.resource_id.get(request.view, 0));
    const rect = readRect(gpu, request, virtio_gpu_resource_flush.offset.r);
    if (resource.layout) checkInside(rect, resource.layout.width, resource.layout.height);
    gpu.flushes++;
    scanouts.damage(resource, rect.x, rect.y, rect.width, rect.height);
    if (tap && resource.isBlob) {
      scanouts.eachPending(resource, ({ layout, pending }) => {
        const { offset, stride } = layout.planes[0];
        for (let i = 0; i < pending.count; i++) {
          const at = offset + pending.y(i) * stride + pending.x(i) * BYTES_PER_PIXEL;
          tap.pixels(resource, at, stride, pending.width(i) * BYTES_PER_PIXEL, pending.height(i));
        }
      });
    }
    resources.refresh(resource);
    scanouts.flush(resource, answer);
  },
};
