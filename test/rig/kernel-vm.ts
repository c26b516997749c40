import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { bootGuest, type Guest } from './guest.ts';
import { cacheDir, guestImage } from './guest-image.ts';

const root = join(import.meta.dirname, '../..');

/** The folder that a kernel VM can write to; it is the same on both sides. */
export const output = join(root, 'test/output');

/** What `bootKernelVm` lacks beyond a guest, and how to get it; null if nothing. */
export function missingVkms(): string | null {
  const file = join(cacheDir, 'linux/lib/modules', guestImage().release, 'extra/vkms.ko');
  return existsSync(file) ? null : `no ${file}: run sh test/rig/install.sh as root`;
}

/**
 * A VM whose kernel has a real udmabuf and two real KMS devices (vkms and
 * virtio_gpu with two connectors). Its root is this machine's
 * own, read-only; it can write to a $TMPDIR of its own and to `output`. Its shell is in the
 * project's folder.
 */
export async function bootKernelVm(): Promise<Guest> {
  mkdirSync(output, { recursive: true });
  // In no folder, so that nothing is left of it.
  const monitor = `path=scanout-monitor-${randomUUID()},abstract=on`;
  const guest = await bootGuest({
    gpu: { kind: 'none' },
    memoryMiB: 2048,
    cpus: 2,
    extraQemuArgs: [
      ...['-fsdev', `local,id=output,path=${output},security_model=none`, '-device', 'virtio-9p-pci,fsdev=output,mount_tag=output'],
      // A second card, with two connectors, one of them plugged in.
      ...['-device', 'virtio-gpu-pci,id=two-heads,max_outputs=2,xres=640,yres=480'],
      // What somebody who sits at it types, points at and touches.
      ...['-device', 'virtio-keyboard-pci', '-device', 'virtio-multitouch-pci', '-device', 'virtio-tablet-pci'],
      // What QEMU shows of it is for the tests to ask: they reach a monitor of QEMU through a serial port.
      ...['-chardev', `socket,id=monitor,${monitor},server=on,wait=off`, '-mon', 'chardev=monitor,mode=control'],
      ...['-chardev', `socket,id=monitor-port,${monitor}`, '-device', 'virtserialport,chardev=monitor-port,name=qmp'],
      // A kernel that complains is to be heard.
      ...['-append', 'console=ttyS0 loglevel=5 panic=-1 mitigations=off'],
    ],
  });
  const setUp = [
    // Not over /tmp: the project may lie there.
    'mkdir /run/tmp && export TMPDIR=/run/tmp',
    `mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 output ${output}`,
    // So that vkms is the first card.
    'gpu=$(basename $(echo /sys/bus/virtio/drivers/virtio_gpu/virtio*)) && echo $gpu >/sys/bus/virtio/drivers/virtio_gpu/unbind',
    `modprobe -d ${cacheDir}/linux vkms enable_overlay=1 enable_cursor=1 enable_writeback=1`,
    'echo $gpu >/sys/bus/virtio/drivers/virtio_gpu/bind',
    // For a writable /etc.
    `modprobe -d ${cacheDir}/linux overlay`,
    `cd ${root}`,
  ];
  try {
    await guest.run(setUp.join(' && '));
    return guest;
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}
