import { expect, test } from 'vitest';
import * as gpu from '../../../protocols/vhost-user-gpu.ts';
import * as vhostUser from '../../../protocols/vhost-user.ts';
import { DRM_FORMAT, formatName } from '../../../protocols/drm-fourcc.ts';
import { FOURCC_OF_VIRTIO_GPU_FORMAT, VIRTIO_GPU_CMD, VIRTIO_GPU_FORMAT, commandName } from '../../../protocols/virtio-gpu.ts';
import { vringAvailEventOffset, vringAvailSize, vringDescSize, vringUsedEventOffset, vringUsedSize } from '../../../protocols/virtio-ring.ts';

/* Neither protocol has an installed header. Figures: the field tables of QEMU's
 * docs/interop/vhost-user.rst and vhost-user-gpu.rst, added up. */

test('vhost-user payloads have the size of the specification', () => {
  expect(vhostUser.VhostUserHeader.size).toBe(12);
  expect(vhostUser.VhostUserU64.size).toBe(8);
  expect(vhostUser.vhost_vring_state.size).toBe(8);
  expect(vhostUser.vhost_vring_addr.size).toBe(40);
  expect(vhostUser.VhostUserMemory.size).toBe(8);
  expect(vhostUser.VhostUserMemoryRegion.size).toBe(32);
  expect(vhostUser.VhostUserMemRegMsg.size).toBe(40);
  expect(vhostUser.VhostUserConfig.size).toBe(12);
});

test('vhost-user-gpu payloads have the size of the specification', () => {
  expect(gpu.VhostUserGpuHeader.size).toBe(12);
  expect(gpu.VhostUserGpuCursorPos.size).toBe(12);
  expect(gpu.VhostUserGpuCursorUpdate.size).toBe(12 + 8 + 64 * 64 * 4);
  expect(gpu.VhostUserGpuScanout.size).toBe(12);
  expect(gpu.VhostUserGpuUpdate.size).toBe(20);
  expect(gpu.VhostUserGpuDMABUFScanout.size).toBe(40);
  expect(gpu.VhostUserGpuDMABUFScanout2.size).toBe(48);
  expect(gpu.VhostUserGpuEdidRequest.size).toBe(4);
});

test('request numbers are unique and named', () => {
  for (const table of [vhostUser.VHOST_USER, vhostUser.VHOST_USER_BACKEND, vhostUser.VHOST_USER_PROTOCOL_F, gpu.VHOST_USER_GPU]) {
    const numbers = Object.values(table);
    expect(new Set(numbers).size).toBe(numbers.length);
  }
  expect(vhostUser.requestName(vhostUser.VHOST_USER.SET_MEM_TABLE)).toBe('SET_MEM_TABLE');
  expect(vhostUser.requestName(99)).toBe('request 99');
});

test('virtio-gpu numbers are named for logs', () => {
  expect(commandName(VIRTIO_GPU_CMD.RESOURCE_FLUSH)).toBe('RESOURCE_FLUSH');
  expect(commandName(0x999)).toBe('command 0x999');
});

test('a virtio-gpu format is the DRM format whose name lists the same bytes backwards', () => {
  for (const [name, format] of Object.entries(VIRTIO_GPU_FORMAT)) {
    const components = [...name.matchAll(/[ARGBX](?=8)/g)].map(([letter]) => letter);
    expect(formatName(FOURCC_OF_VIRTIO_GPU_FORMAT.get(format)!)).toBe(`${components.reverse().join('')}8888`);
  }
  expect(FOURCC_OF_VIRTIO_GPU_FORMAT.get(VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM)).toBe(DRM_FORMAT.XRGB8888);
  expect(FOURCC_OF_VIRTIO_GPU_FORMAT.size).toBe(8);
});

test('ring areas have the size of the virtio specification', () => {
  /* "The Virtqueues": 16 n, 6 + 2 n and 6 + 8 n bytes. */
  for (const num of [1, 256, 1024, 32768]) {
    expect(vringDescSize(num)).toBe(16 * num);
    expect(vringAvailSize(num)).toBe(6 + 2 * num);
    expect(vringUsedSize(num)).toBe(6 + 8 * num);
    expect(vringUsedEventOffset(num)).toBe(vringAvailSize(num) - 2);
    expect(vringAvailEventOffset(num)).toBe(vringUsedSize(num) - 2);
  }
});
