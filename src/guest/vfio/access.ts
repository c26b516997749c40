/** The ways to an open VFIO device. */
import { existsSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import * as uapi from '../../../protocols/vfio.ts';
import { DisposableStack } from '../../sys/disposable-stack.ts';
import { errnoName, SysError } from '../../sys/errors.ts';
import { OwnedFd } from '../../sys/fd.ts';
import { tryIoctl } from '../../sys/ioctl.ts';
import { NativeBuffer } from '../../sys/native-buffer.ts';
import { openPidfd, takeFd } from '../../sys/pidfd.ts';
import { Poll } from '../../sys/poll.ts';
import { Pump } from '../../sys/pump.ts';
import { acceptUnix, listenUnix, SocketFile, UnixConnection } from '../../sys/socket.ts';
import { DEVICE_LINK, openDeviceFile, VfioDevice, VfioError } from './device.ts';

/** How a device is reached. */
export type VfioAddress =
  /**
   * The device that a VMM has open: `device` counts its VFIO devices from 0 in the order of their descriptors; default: the
   * first that has a display. `pid` may be the path of a file with the number in it, which is read again when the VMM
   * has ended.
   */
  | { readonly pid: number | string; readonly device?: number }
  /** A descriptor of the device, which is consumed. `process`, a pidfd, is that of the VMM it belongs to. */
  | { readonly fd: OwnedFd; readonly process?: OwnedFd }
  /** A path to listen on (mode 0600): a peer connects, sends a byte with the descriptor, and stays connected. */
  | { readonly socket: string }
  /** The UUID of a mediated device that no VMM has open. */
  | { readonly mdev: string };

export interface AccessListener {
  /** Takes ownership of the device. */
  opened(device: VfioDevice): void;
  /** The device has to be given back: dispose it before the call returns. Another may be opened later. */
  lost(reason: string): void;
  /** No device, for a reason that may pass. */
  failed(error: Error): void;
}

/** Finds a device, watches whether it has to be given back, and then looks for it again. */
export interface DeviceAccess extends Disposable {
  /** Calls `opened` at once or later. Throws VfioError if there is no device and none can be expected. */
  start(listener: AccessListener): void;
  /** The device has failed and was disposed: look for it again. */
  abandon(): void;
}

/** Opens nothing yet, except for a socket. SysError of `listenUnix`. */
export function accessTo(address: VfioAddress): DeviceAccess {
  if ('socket' in address) return new SocketAccess(address.socket);
  if ('fd' in address) return new WatchedAccess(new GivenDevice(address.fd, address.process ?? null));
  if ('mdev' in address) return new WatchedAccess(new MediatedDevice(address.mdev));
  return new WatchedAccess(new ProcessDevice(address.pid, address.device ?? null));
}

/** One way to a device. */
interface Way extends Disposable {
  /** Whether `open` may work again once the device was lost. */
  readonly returns: boolean;
  /** Calls `lost` from the event loop if the device has to be given back. VfioError, SysError. */
  open(lost: (reason: string) => void): VfioDevice;
  /** Why the device has to be given back, for what is not noticed otherwise; null if it has not. */
  check(): string | null;
  /** The device was disposed. */
  close(): void;
}

/** How often a device is looked for, and whether it has to be given back. */
const CHECK_MS = 1000;

class WatchedAccess implements DeviceAccess {
  readonly #way: Way;
  #listener: AccessListener | null = null;
  #isOpen = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(way: Way) {
    this.#way = way;
  }

  start(listener: AccessListener): void {
    this.#listener = listener;
    this.#open();
    this.#timer = setInterval(() => this.#check(), CHECK_MS);
  }

  abandon(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#way.close();
    if (!this.#way.returns) clearInterval(this.#timer);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#listener = null;
    this.#way[Symbol.dispose]();
  }

  #open(): void {
    const device = this.#way.open((reason) => this.#lose(reason));
    this.#isOpen = true;
    this.#listener?.opened(device);
  }

  #check(): void {
    if (this.#isOpen) {
      const reason = this.#way.check();
      if (reason !== null) this.#lose(reason);
      return;
    }
    try {
      this.#open();
    } catch (error) {
      if (!(error instanceof VfioError || error instanceof SysError)) throw error;
      this.#listener?.failed(error);
    }
  }

  #lose(reason: string): void {
    this.#listener?.lost(reason);
    this.abandon();
  }
}

/** A descriptor that this process was given, once. */
class GivenDevice implements Way {
  readonly returns = false;
  readonly #fd: OwnedFd;
  readonly #process: OwnedFd | null;
  #exit: Poll | null = null;

  constructor(fd: OwnedFd, process: OwnedFd | null) {
    this.#fd = fd;
    this.#process = process;
  }

  open(lost: (reason: string) => void): VfioDevice {
    const device = VfioDevice.open(openDeviceFile(OwnedFd.adopt(this.#fd.take())));
    if (this.#process) this.#exit = Poll.readable(this.#process, () => lost('the VMM has ended'));
    return device;
  }

  check(): null {
    return null;
  }

  close(): void {
    this.#exit?.[Symbol.dispose]();
    this.#exit = null;
  }

  [Symbol.dispose](): void {
    this.close();
    this.#fd[Symbol.dispose]();
    this.#process?.[Symbol.dispose]();
  }
}

/** The device of a VMM, which runs on without it. */
class ProcessDevice implements Way {
  readonly returns = true;
  readonly #pid: number | string;
  readonly #index: number | null;
  #open: { readonly link: string; readonly pidfd: OwnedFd; readonly exit: Poll } | null = null;

  constructor(pid: number | string, index: number | null) {
    this.#pid = pid;
    this.#index = index;
  }

  open(lost: (reason: string) => void): VfioDevice {
    const pid = readPid(this.#pid);
    using stack = new DisposableStack();
    const pidfd = stack.use(openProcess(pid));
    const { device, number } = takeDevice(pid, pidfd, this.#index);
    stack.use(device);
    const exit = Poll.readable(pidfd, () => lost(`the VMM, process ${pid}, has ended`));
    stack.move();
    this.#open = { link: `/proc/${pid}/fd/${number}`, pidfd, exit };
    return device;
  }

  check(): string | null {
    return this.#open && linkOf(this.#open.link) !== DEVICE_LINK ? 'the VMM has closed the device' : null;
  }

  close(): void {
    this.#open?.exit[Symbol.dispose]();
    this.#open?.pidfd[Symbol.dispose]();
    this.#open = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Takes the device of a VMM, and a pidfd of it, for a process that may look at no others any more. The caller owns
 * both. VfioError.
 */
export function takeFromProcess(pid: number | string, index: number | null): { device: OwnedFd; process: OwnedFd } {
  const number = readPid(pid);
  using stack = new DisposableStack();
  const process = stack.use(openProcess(number));
  const taken = takeDevice(number, process, index);
  taken.device[Symbol.dispose]();
  const device = takeFd(process, taken.number);
  stack.move();
  return { device, process };
}

function readPid(pid: number | string): number {
  if (typeof pid === 'number') return pid;
  let text: string;
  try {
    text = readFileSync(pid, 'latin1').trim();
  } catch (cause) {
    throw new VfioError('no-process', `${pid} cannot be read: is the VMM running, with -pidfile ${pid}?`, { cause });
  }
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new VfioError('no-process', `${pid} has no process number in it`);
  return Number(text);
}

function openProcess(pid: number): OwnedFd {
  try {
    return openPidfd(pid);
  } catch (cause) {
    if (cause instanceof SysError && (cause.code === 'ESRCH' || cause.code === 'EINVAL'))
      throw new VfioError('no-process', `there is no process ${pid}`, { cause });
    throw cause;
  }
}

/** The caller owns the device. */
function takeDevice(pid: number, pidfd: OwnedFd, index: number | null): { device: VfioDevice; number: number } {
  const numbers = devicesOf(pid);
  const chosen = index === null ? numbers : numbers.slice(index, index + 1);
  if (numbers.length === 0)
    throw new VfioError(
      'no-device',
      `process ${pid} (${nameOf(pid)}) has no VFIO device open: start the VMM with one (QEMU: -device vfio-pci,sysfsdev=/sys/bus/mdev/devices/UUID)`,
    );
  for (const number of chosen) {
    try {
      return { device: VfioDevice.open(openDeviceFile(takeFd(pidfd, number))), number };
    } catch (error) {
      if (error instanceof SysError && error.code === 'EPERM') throw forbidden(pid, error);
      if (!(error instanceof VfioError) || number === chosen.at(-1)) throw error;
    }
  }
  throw new VfioError('no-device', `process ${pid} has ${numbers.length} VFIO devices, counted from 0`);
}

/** The descriptors of VFIO devices that a process has open, lowest first. */
function devicesOf(pid: number): number[] {
  const directory = `/proc/${pid}/fd`;
  try {
    const numbers = readdirSync(directory).map(Number);
    return numbers.filter((number) => linkOf(`${directory}/${number}`) === DEVICE_LINK).toSorted((a, b) => a - b);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') throw forbidden(pid, cause);
    throw new VfioError('no-process', `there is no process ${pid}`, { cause });
  }
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
  } catch {
    return 'it has ended';
  }
}

function forbidden(pid: number, cause: unknown): VfioError {
  return new VfioError(
    'forbidden',
    `no permission to take the device of process ${pid} (${nameOf(pid)}): that needs its user and sysctl kernel.yama.ptrace_scope=0, or CAP_SYS_PTRACE; a VMM may also pass the device, see vfio:socket=`,
    { cause },
  );
}

/** A mediated device that this process opens itself, through its IOMMU group. */
class MediatedDevice implements Way {
  readonly returns = true;
  readonly #uuid: string;
  readonly #directory: string;

  constructor(uuid: string) {
    this.#uuid = uuid;
    this.#directory = `/sys/bus/mdev/devices/${uuid}`;
  }

  open(): VfioDevice {
    return VfioDevice.open(openDeviceFile(this.#openGroup()));
  }

  /** The kernel takes this file away first, and then waits until the device is closed. */
  check(): string | null {
    return existsSync(`${this.#directory}/remove`) ? null : 'the device is being removed';
  }

  close(): void {
    // The device was all there was to close.
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The device keeps its group and the container open. */
  #openGroup(): OwnedFd {
    const link = linkOf(`${this.#directory}/iommu_group`);
    if (link === null)
      throw new VfioError(
        'no-device',
        `there is no mediated device ${this.#uuid}: make it, by echo ${this.#uuid} >/sys/class/mdev_bus/PARENT/mdev_supported_types/TYPE/create`,
      );
    const group = `/dev/vfio/${basename(link)}`;
    using container = openVfio('/dev/vfio/vfio');
    using opened = openVfio(group);
    using argument = NativeBuffer.allocate(64);
    const call = (fd: OwnedFd, request: number, value: number): number => tryIoctl(fd, request, value);
    const check = (name: string, result: number): number => {
      if (result < 0) throw new VfioError('failed', `${name} of ${group}: ${errnoName(-result)}`);
      return result;
    };
    argument.view.setInt32(0, container.fd, true);
    check('VFIO_GROUP_SET_CONTAINER', call(opened, uapi.VFIO_GROUP_SET_CONTAINER, argument.address));
    check('VFIO_SET_IOMMU', call(container, uapi.VFIO_SET_IOMMU, uapi.VFIO_TYPE1v2_IOMMU));
    argument.bytes.fill(0);
    argument.bytes.set(Buffer.from(this.#uuid, 'latin1'));
    const device = call(opened, uapi.VFIO_GROUP_GET_DEVICE_FD, argument.address);
    return OwnedFd.adopt(check('VFIO_GROUP_GET_DEVICE_FD', device));
  }
}

function openVfio(path: string): OwnedFd {
  try {
    return OwnedFd.adopt(openSync(path, 'r+'));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EBUSY')
      throw new VfioError('busy', `${path} is in use: take the device of its VMM, by vfio:pid= or vfio:socket=`, {
        cause,
      });
    if (code === 'EACCES' || code === 'EPERM')
      throw new VfioError('forbidden', `no permission to open ${path}: give it to your user (chown, or a udev rule)`, {
        cause,
      });
    throw new VfioError('failed', `${path} cannot be opened (${code ?? 'unknown'}): modprobe vfio vfio_iommu_type1`, {
      cause,
    });
  }
}

/** Of a message, which is one byte. */
const MAX_MESSAGE = 64;
/** How long to wait before accepting again when the process is out of descriptors. */
const ACCEPT_RETRY_MS = 1000;

interface Peer {
  readonly connection: UnixConnection;
  readonly poll: Poll;
  /** The device. */
  hasSent: boolean;
}

/** Peers that pass a device, one at a time. A connection lasts as long as the device may be used. */
class SocketAccess implements DeviceAccess {
  readonly #stack = new DisposableStack();
  readonly #listening: OwnedFd;
  readonly #bytes = new Uint8Array(MAX_MESSAGE);
  #listener: AccessListener | null = null;
  #peer: Peer | null = null;
  #retry: NodeJS.Timeout | undefined;

  constructor(path: string) {
    this.#listening = this.#stack.use(listenUnix(path));
    try {
      this.#stack.use(SocketFile.at(path));
    } catch (error) {
      this.#stack[Symbol.dispose]();
      throw error;
    }
  }

  start(listener: AccessListener): void {
    this.#listener = listener;
    const connections = this.#stack.use(new Pump(() => this.#acceptNext(poll)));
    const poll: Poll = this.#stack.use(Poll.readable(this.#listening, () => connections.start()));
  }

  abandon(): void {
    const peer = this.#peer;
    this.#peer = null;
    peer?.poll[Symbol.dispose]();
    peer?.connection[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#retry);
    this.#listener = null;
    this.abandon();
    this.#stack[Symbol.dispose]();
  }

  /** False if no peer waits. */
  #acceptNext(poll: Poll): boolean {
    try {
      const fd = acceptUnix(this.#listening);
      if (fd !== null) this.#connect(fd);
      return fd !== null;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#listener?.failed(error);
      // The listener stays readable, and accepting again at once would fail again.
      poll.pause();
      this.#retry = setTimeout(() => poll.resume(), ACCEPT_RETRY_MS);
      return false;
    }
  }

  /** A peer that has sent nothing yet makes way. */
  #connect(fd: OwnedFd): void {
    if (this.#peer?.hasSent) {
      fd[Symbol.dispose]();
      this.#listener?.failed(new VfioError('busy', 'refused a second device: one is shown already'));
      return;
    }
    this.abandon();
    const connection = UnixConnection.adopt(fd);
    try {
      const poll = Poll.readable(connection, () => this.#receive());
      this.#peer = { connection, poll, hasSent: false };
    } catch (error) {
      connection[Symbol.dispose]();
      throw error;
    }
  }

  #receive(): void {
    const peer = this.#peer;
    if (!peer) return;
    try {
      const count = peer.connection.recv(this.#bytes, 0, MAX_MESSAGE);
      if (count < 0) return;
      if (count === 0) this.#end(peer.hasSent ? 'the peer that passed the device has closed its connection' : null);
      else if (peer.hasSent) this.#end('the peer that passed the device has sent more than that');
      else this.#open(peer);
    } catch (error) {
      if (!(error instanceof VfioError || error instanceof SysError)) throw error;
      this.#end(peer.hasSent ? 'the connection to the peer that passed the device has failed' : null);
      this.#listener?.failed(error);
    }
  }

  #open(peer: Peer): void {
    const { fds } = peer.connection;
    if (fds.length !== 1)
      throw new VfioError('no-device', `a peer sent ${fds.length} descriptors; send one, of the device, with one byte`);
    const device = VfioDevice.open(openDeviceFile(fds.pop()!));
    peer.hasSent = true;
    this.#listener?.opened(device);
  }

  /** `reason` if there was a device. */
  #end(reason: string | null): void {
    if (reason !== null) this.#listener?.lost(reason);
    this.abandon();
  }
}
