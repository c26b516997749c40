import type * as NodeFs from 'node:fs';
import { expect, test, vi } from 'vitest';
import { VIRTIO_GPU_RESP } from '../../../../protocols/virtio-gpu.ts';
import * as request from './requests.ts';
import { GpuRig } from './rig.ts';

// What a file on tmpfs reports where transparent huge pages are enabled for shared memory.
vi.mock('node:fs', async (load) => {
  const fs = await load<typeof NodeFs>();
  return { ...fs, fstatSync: (fd: number) => Object.assign(fs.fstatSync(fd), { blksize: 2 ** 21 }) };
});

test('VirtioGpu: shows pages that may be parts of transparent huge pages where they are', () => {
  using rig = new GpuRig();
  for (const bytes of [request.create2d(1, 64, 64), request.attach(1, request.scattered(4))])
    expect(rig.type(bytes)).toBe(VIRTIO_GPU_RESP.OK_NODATA);
  expect(rig.gpu.stats.storeBytes).toBe(0);
});
