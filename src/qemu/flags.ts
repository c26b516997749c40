import { virtio_gpu_config } from '../../protocols/virtio-gpu.ts';
import { VIRTIO_ID_GPU } from '../../protocols/virtio-ring.ts';
import { UsageError } from '../core/errors.ts';

/** A path that is listened on, or a connected descriptor QEMU is started with. */
export type QemuSocket = string | number;

export interface QemuSetup {
  readonly socket: QemuSocket;
  /** Sockets of input devices, whatever their kinds are. */
  readonly inputs?: readonly QemuSocket[];
  readonly memoryBytes: number;
  /** QEMU >= 11.1's device that passes every feature on, blobs included; QEMU has no console for it. */
  readonly generic: boolean;
}

const MIB = 2 ** 20;
/** sockaddr_un.sun_path without its terminating zero. */
const MAX_SOCKET_PATH = 107;

/** virtio-gpu in numbers, for a front end that knows no device types: a control and a cursor queue. */
const GENERIC_DEVICE = `vhost-user-test-device-pci,virtio-id=${VIRTIO_ID_GPU},num_vqs=2,config_size=${virtio_gpu_config.size},vq_size=256`;

/**
 * What QEMU must be given so that its guest's virtio-gpu is ours: memory we can map, no other
 * VGA, the socket, the device. Pairs of a flag and its value. Throws UsageError.
 */
export function qemuFlags({ socket, inputs = [], memoryBytes, generic }: QemuSetup): [flag: string, value: string][] {
  checkPath('--socket', socket);
  for (const input of inputs) checkPath('--input', input);
  if (memoryBytes % MIB !== 0) throw new UsageError('--memory: the guest\'s memory is whole megabytes, such as 512M or 2G');
  const mib = memoryBytes / MIB;
  const size = mib % 1024 === 0 ? `${mib / 1024}G` : `${mib}M`;
  return [
    ['-machine', 'q35,memory-backend=mem'],
    ['-m', size],
    ['-object', `memory-backend-memfd,id=mem,size=${size},share=on`],
    ['-vga', 'none'],
    ...device('vg', socket, generic ? GENERIC_DEVICE : 'vhost-user-gpu-pci'),
    ...inputs.flatMap((input, index) => device(`vi${index}`, input, 'vhost-user-input-pci')),
  ];
}

function device(chardev: string, socket: QemuSocket, name: string): [string, string][] {
  return [
    ['-chardev', `socket,id=${chardev},${typeof socket === 'number' ? `fd=${socket}` : `path=${qemuValue(socket)}`}`],
    ['-device', `${name},chardev=${chardev}`],
  ];
}

/** Text as a value inside an option: QEMU's own separator is written twice there. */
export function qemuValue(text: string): string {
  return text.replaceAll(',', ',,');
}

function checkPath(option: string, path: QemuSocket): void {
  if (typeof path === 'number') return;
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || bytes > MAX_SOCKET_PATH) throw new UsageError(`${option}: a socket path has 1 to ${MAX_SOCKET_PATH} bytes, '${path}' has ${bytes}`);
}

/** The flags as lines to paste into a shell, or to hand to its `eval`. */
export function shellLines(flags: readonly (readonly [string, string])[]): string {
  return flags.map(([flag, value]) => `${flag} ${shellQuote(value)}`).join(' \\\n');
}

function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
