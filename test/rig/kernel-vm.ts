import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { bootGuest, type Guest } from './guest.ts';
import { cacheDir, guestImage, newerQemu } from './guest-image.ts';

const root = join(import.meta.dirname, '../..');

/** The folder that a kernel VM can write to; its path is the same on both sides. */
export const output = join(root, 'test/output');

/** What is missing for `bootKernelVm`, in addition to what every guest needs, and how to get it; null if nothing. */
export function missingVkms(): string | null {
  const needed = [newerQemu, join(cacheDir, 'linux/lib/modules', guestImage().release, 'extra/vkms.ko')];
  const missing = needed.find((file) => !existsSync(file));
  return missing === undefined ? null : `no ${missing}: run sh test/rig/install.sh as root`;
}

/**
 * Boots a VM whose kernel has a real udmabuf and two real KMS devices: vkms, and virtio_gpu with two
 * connectors. Its root is this machine's own, read-only; it can write to its own $TMPDIR and to
 * `output`. Its shell starts in the project's folder.
 */
export async function bootKernelVm(): Promise<Guest> {
  mkdirSync(output, { recursive: true });
  // An abstract socket, which leaves no file behind.
  const monitor = `path=scanout-monitor-${randomUUID()},abstract=on`;
  const guest = await bootGuest({
    gpu: { kind: 'none' },
    // QEMU 10.0 may lose an interrupt that arrives as a guest in the guest is left. If it is the timer's, the VM stands still.
    qemu: newerQemu,
    memoryMiB: 2048,
    extraQemuArgs: [
      ...[
        '-fsdev',
        `local,id=output,path=${output},security_model=none`,
        '-device',
        'virtio-9p-pci,fsdev=output,mount_tag=output',
      ],
      // A second card with two connectors, one of which is connected.
      ...['-device', 'virtio-gpu-pci,id=two-heads,max_outputs=2,xres=640,yres=480'],
      // Input devices that tests operate through the QEMU monitor.
      ...['-device', 'virtio-keyboard-pci', '-device', 'virtio-multitouch-pci', '-device', 'virtio-tablet-pci'],
      // A QEMU monitor behind a serial port, for tests in the VM to ask what QEMU shows (see inner-qmp.ts).
      ...['-chardev', `socket,id=monitor,${monitor},server=on,wait=off`, '-mon', 'chardev=monitor,mode=control'],
      ...['-chardev', `socket,id=monitor-port,${monitor}`, '-device', 'virtserialport,chardev=monitor-port,name=qmp'],
      // Kernel warnings go to the log.
      ...['-append', 'console=ttyS0 loglevel=5 panic=-1 mitigations=off'],
    ],
  });
  const setUp = [
    // Not over /tmp, which may contain the project.
    'mkdir /run/tmp && export TMPDIR=/run/tmp',
    `mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 output ${output}`,
    // virtio_gpu is bound again after vkms, which makes vkms the first card.
    'gpu=$(basename $(echo /sys/bus/virtio/drivers/virtio_gpu/virtio*)) && echo $gpu >/sys/bus/virtio/drivers/virtio_gpu/unbind',
    `modprobe -d ${cacheDir}/linux vkms enable_overlay=1 enable_cursor=1 enable_writeback=1`,
    'echo $gpu >/sys/bus/virtio/drivers/virtio_gpu/bind',
    // Tests need them for a writable /etc, for input devices of their own, and for guests in the guest.
    `modprobe -d ${cacheDir}/linux -a overlay uinput kvm-amd`,
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
