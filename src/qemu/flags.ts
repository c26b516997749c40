import { virtio_gpu_config } from '../../protocols/virtio-gpu.ts';
import { VD_AGENT_PORT } from '../../protocols/vd-agent.ts';
import { VIRTIO_ID_GPU } from '../../protocols/virtio-ring.ts';
import { UsageError } from '../core/errors.ts';

/** The path of a listening socket, or the number of a connected descriptor that QEMU inherits. */
export type QemuSocket = string | number;

export interface QemuSetup {
  readonly socket: QemuSocket;
  /** Sockets of input devices of any kind. */
  readonly inputs?: readonly QemuSocket[];
  /** Of the guest's clipboard. */
  readonly clipboard?: QemuSocket;
  readonly memoryBytes: number;
  /** Use the generic device of QEMU 11.1 and newer, which passes every feature on, blobs included, and has no QEMU console. */
  readonly generic: boolean;
}

const MIB = 2 ** 20;
/** sockaddr_un.sun_path without its terminating zero. */
const MAX_SOCKET_PATH = 107;

/** A generic vhost-user device with the numbers of a virtio-gpu: a control queue and a cursor queue. */
const GENERIC_DEVICE = `vhost-user-test-device-pci,virtio-id=${VIRTIO_ID_GPU},num_vqs=2,config_size=${virtio_gpu_config.size},vq_size=256`;

/**
 * The flags with which QEMU gives its guest this package's virtio-gpu: memory that can be shared, no other VGA, the
 * sockets and the devices. Throws UsageError.
 */
export function qemuFlags({
  socket,
  inputs = [],
  clipboard,
  memoryBytes,
  generic,
}: QemuSetup): [flag: string, value: string][] {
  checkPath('--socket', socket);
  for (const input of inputs) checkPath('--input', input);
  if (clipboard !== undefined) checkPath('--clipboard', clipboard);
  if (memoryBytes % MIB !== 0)
    throw new UsageError("--memory: give the guest's memory in whole megabytes, such as 512M or 2G");
  const size = qemuSize(memoryBytes / MIB);
  return [
    ['-machine', 'q35,memory-backend=mem'],
    ['-m', size],
    ['-object', `memory-backend-memfd,id=mem,size=${size},share=on`],
    ['-vga', 'none'],
    ...deviceFlags({ socket, inputs, clipboard, generic, prefix: '' }),
  ];
}

/** A number of megabytes as QEMU takes it. */
export function qemuSize(mib: number): string {
  return mib % 1024 === 0 ? `${mib / 1024}G` : `${mib}M`;
}

/** The GPU, the input devices and the clipboard. `prefix` begins the ids of their sockets. */
export function deviceFlags({
  socket,
  inputs,
  clipboard,
  generic,
  prefix,
}: Pick<QemuSetup, 'socket' | 'generic'> & {
  readonly inputs: readonly QemuSocket[];
  readonly clipboard: QemuSocket | undefined;
  readonly prefix: string;
}): [flag: string, value: string][] {
  return [
    ...device(`${prefix}vg`, socket, generic ? GENERIC_DEVICE : 'vhost-user-gpu-pci'),
    ...inputs.flatMap((input, index) => device(`${prefix}vi${index}`, input, 'vhost-user-input-pci')),
    ...(clipboard === undefined ? [] : clipboardFlags(`${prefix}clipboard`, clipboard)),
  ];
}

/** The flags with which QEMU has a D-Bus display for one client, which is passed by QMP at `qmp`. Throws UsageError. */
export function dbusFlags(qmp: string): [flag: string, value: string][] {
  checkPath('--dbus', qmp);
  return [
    ['-display', 'dbus,p2p=yes'],
    ['-chardev', `socket,id=qmp-dbus,path=${qemuValue(qmp)},server=on,wait=off`],
    ['-mon', 'chardev=qmp-dbus,mode=control'],
  ];
}

function device(chardev: string, socket: QemuSocket, name: string): [string, string][] {
  return [
    ['-chardev', `socket,id=${chardev},${socketOption(socket)}`],
    ['-device', `${name},chardev=${chardev}`],
  ];
}

/** The port of the SPICE agent, on a bus of its own. It connects again after the bridge was started again. */
function clipboardFlags(id: string, socket: QemuSocket): [string, string][] {
  const again = typeof socket === 'number' ? '' : ',reconnect-ms=1000';
  return [
    ['-device', `virtio-serial-pci,id=${id}-bus`],
    ['-chardev', `socket,id=${id},${socketOption(socket)}${again}`],
    ['-device', `virtserialport,bus=${id}-bus.0,chardev=${id},name=${VD_AGENT_PORT}`],
  ];
}

function socketOption(socket: QemuSocket): string {
  return typeof socket === 'number' ? `fd=${socket}` : `path=${qemuValue(socket)}`;
}

/** Text as a value inside a QEMU option, where a comma is written twice. */
export function qemuValue(text: string): string {
  return text.replaceAll(',', ',,');
}

function checkPath(option: string, path: QemuSocket): void {
  if (typeof path === 'number') return;
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || bytes > MAX_SOCKET_PATH) {
    throw new UsageError(`${option}: a socket path has 1 to ${MAX_SOCKET_PATH} bytes, but '${path}' has ${bytes}`);
  }
}

/** The flags as lines to paste into a shell, quoted where necessary. */
export function shellLines(flags: readonly (readonly [string, string])[]): string {
  return flags.map(([flag, value]) => `${flag} ${shellQuote(value)}`).join(' \\\n');
}

/** As one word of a shell. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
