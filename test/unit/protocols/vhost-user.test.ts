import { expect, test } from 'vitest';
import * as gpu from '../../../protocols/vhost-user-gpu.ts';
import * as vhostUser from '../../../protocols/vhost-user.ts';

/* Neither protocol has an installed header. The sizes are sums over the field tables of QEMU's
 * docs/interop/vhost-user.rst and vhost-user-gpu.rst. */

test('vhost-user payloads have the sizes of the specification', () => {
  expect(vhostUser.VhostUserHeader.size).toBe(12);
  expect(vhostUser.VhostUserU64.size).toBe(8);
  expect(vhostUser.vhost_vring_state.size).toBe(8);
  expect(vhostUser.vhost_vring_addr.size).toBe(40);
  expect(vhostUser.VhostUserMemory.size).toBe(8);
  expect(vhostUser.VhostUserMemoryRegion.size).toBe(32);
  expect(vhostUser.VhostUserMemRegMsg.size).toBe(40);
  expect(vhostUser.VhostUserConfig.size).toBe(12);
});

test('vhost-user-gpu payloads have the sizes of the specification', () => {
  expect(gpu.VhostUserGpuHeader.size).toBe(12);
  expect(gpu.VhostUserGpuCursorPos.size).toBe(12);
  expect(gpu.VhostUserGpuCursorUpdate.size).toBe(12 + 8 + 64 * 64 * 4);
  expect(gpu.VhostUserGpuScanout.size).toBe(12);
  expect(gpu.VhostUserGpuUpdate.size).toBe(20);
  expect(gpu.VhostUserGpuDMABUFScanout.size).toBe(40);
  expect(gpu.VhostUserGpuDMABUFScanout2.size).toBe(48);
  expect(gpu.VhostUserGpuEdidRequest.size).toBe(4);
});

test('vhost-user request numbers are unique, and requestName gives their names', () => {
  for (const table of [
    vhostUser.VHOST_USER,
    vhostUser.VHOST_USER_BACKEND,
    vhostUser.VHOST_USER_PROTOCOL_F,
    gpu.VHOST_USER_GPU,
  ]) {
    const numbers = Object.values(table);
    expect(new Set(numbers).size).toBe(numbers.length);
  }
  expect(vhostUser.requestName(vhostUser.VHOST_USER.SET_MEM_TABLE)).toBe('SET_MEM_TABLE');
  expect(vhostUser.requestName(99)).toBe('request 99');
});
