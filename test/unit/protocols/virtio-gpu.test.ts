import { expect, test } from 'vitest';
import { DRM_FORMAT, formatName } from '../../../protocols/drm-fourcc.ts';
import {
  FOURCC_OF_VIRTIO_GPU_FORMAT,
  VIRTIO_GPU_CMD,
  VIRTIO_GPU_FORMAT,
  commandName,
} from '../../../protocols/virtio-gpu.ts';

test('commandName: gives the name of a command, or its number', () => {
  expect(commandName(VIRTIO_GPU_CMD.RESOURCE_FLUSH)).toBe('RESOURCE_FLUSH');
  expect(commandName(0x999)).toBe('command 0x999');
});

test('a virtio-gpu format maps to the DRM format whose name lists the same components in reverse', () => {
  for (const [name, format] of Object.entries(VIRTIO_GPU_FORMAT)) {
    const components = [...name.matchAll(/[ARGBX](?=8)/g)].map(([letter]) => letter);
    expect(formatName(FOURCC_OF_VIRTIO_GPU_FORMAT.get(format)!)).toBe(`${components.reverse().join('')}8888`);
  }
  expect(FOURCC_OF_VIRTIO_GPU_FORMAT.get(VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM)).toBe(DRM_FORMAT.XRGB8888);
  expect(FOURCC_OF_VIRTIO_GPU_FORMAT.size).toBe(8);
});
