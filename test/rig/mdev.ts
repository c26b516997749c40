/** Mediated devices of the kernel's samples, and what a VMM does with them. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import type { Picture } from '../../src/core/picture.ts';
import { accessTo, type DeviceAccess } from '../../src/guest/vfio/access.ts';
import { DEVICE_LINK, type VfioDevice } from '../../src/guest/vfio/device.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { dupFd, type OwnedFd } from '../../src/sys/fd.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { cacheDir } from './guest-image.ts';
import { pictureOfBgrx } from './picture.ts';
import { skipBecause } from './skip.ts';

const PARENTS = '/sys/class/mdev_bus';
const DEVICES = '/sys/bus/mdev/devices';
/** samples/vfio-mdev */
const SAMPLES = ['mbochs', 'mdpy', 'mtty'];

/** Loads the drivers. Throws where there are none. */
export function loadMdev(): void {
  for (const name of ['vfio_iommu_type1', ...SAMPLES])
    execFileSync('modprobe', ['-d', `${cacheDir}/linux`, name], { stdio: 'pipe' });
}

/** For `describe.skipIf`. Loads the drivers. */
export function skipWithoutMdev(): boolean {
  try {
    loadMdev();
    return false;
  } catch (error) {
    return skipBecause(`no kernel tests of mediated devices: ${(error as Error).message.trim()}`);
  }
}

/** A mediated device of a sample's driver, until dispose: `mbochs-medium`, `mdpy-xga`, `mtty-1`. */
export class Mdev implements Disposable {
  readonly uuid: string;
  readonly #type: string;

  constructor(type: string, uuid: string = randomUUID()) {
    this.uuid = uuid;
    this.#type = `${PARENTS}/${type.split('-')[0]!}/mdev_supported_types/${type}`;
    this.create();
  }

  get directory(): string {
    return `${DEVICES}/${this.uuid}`;
  }

  create(): void {
    writeFileSync(`${this.#type}/create`, this.uuid);
  }

  /** Resolves when the device is gone, for which every process has to close it. Does not block this one. */
  async remove(): Promise<void> {
    await promisify(execFile)('sh', ['-c', `echo 1 >${this.directory}/remove`]);
  }

  [Symbol.dispose](): void {
    if (existsSync(this.directory)) writeFileSync(`${this.directory}/remove`, '1');
  }
}

/** Opens the device as this process, and keeps it open until dispose. */
export class OpenMdev implements Disposable {
  readonly fd: OwnedFd;
  readonly #stack = new DisposableStack();

  constructor({ uuid }: Mdev) {
    const before = new Set(vfioFds());
    const access = this.#stack.use(accessTo({ mdev: uuid }));
    this.#stack.use(open(access));
    const number = vfioFds().find((fd) => !before.has(fd))!;
    this.fd = this.#stack.use(dupFd({ fd: number }));
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

function open(access: DeviceAccess): VfioDevice {
  const devices: VfioDevice[] = [];
  access.start({
    opened: (opened) => void devices.push(opened),
    lost: () => undefined,
    failed: () => undefined,
  });
  return devices[0]!;
}

/** The descriptors of VFIO devices that this process has open. */
export function vfioFds(): number[] {
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => linkOf(fd) === DEVICE_LINK);
}

function linkOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

/* mbochs: where the registers and the memory are in the device's file, and numbers of registers. */
const DISPI = 4096 + 0x500;
const EDID = 4096;
const MEMORY = 3 * 4096;
const MEMORY_BYTES = 16 * 2 ** 20;
const VBE = { XRES: 1, YRES: 2, BPP: 3, ENABLE: 4, VIRT_WIDTH: 6, Y_OFFSET: 9 } as const;
const ENABLED = 0x41;

/** What a guest's driver does with an mbochs device. */
export class Bochs implements Disposable {
  readonly memory: Mapping;
  readonly fd: OwnedFd;
  #width = 0;
  #height = 0;
  #offset = 0;

  /** `fd` stays the caller's. */
  constructor(fd: OwnedFd) {
    this.fd = fd;
    this.memory = Mapping.file(fd, MEMORY, MEMORY_BYTES, 'read-write');
  }

  setMode(width: number, height: number): void {
    this.#width = width;
    this.#height = height;
    this.#set(VBE.ENABLE, 0);
    this.#set(VBE.XRES, width);
    this.#set(VBE.YRES, height);
    this.#set(VBE.VIRT_WIDTH, width);
    this.#set(VBE.BPP, 32);
    this.flip(0);
    this.#set(VBE.ENABLE, ENABLED);
  }

  turnOff(): void {
    this.#set(VBE.ENABLE, 0);
  }

  /** Shows picture `index` of those that lie one behind the other. */
  flip(index: number): void {
    this.#offset = index * this.#width * this.#height * 4;
    this.#set(VBE.Y_OFFSET, index * this.#height);
  }

  /** The pixels that are shown. */
  get pixels(): Uint8Array {
    return this.memory.bytes.subarray(this.#offset, this.#offset + this.#width * this.#height * 4);
  }

  /** Gives every pixel a colour unlike its neighbours'. */
  draw(seed: number): void {
    const words = new Uint32Array(this.pixels.buffer, this.pixels.byteOffset, this.#width * this.#height);
    for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + seed, 2654435761) >>> 8;
  }

  get picture(): Picture {
    return pictureOfBgrx(this.#width, this.#height, this.pixels);
  }

  /** The first block of the monitor's EDID, as the guest's driver reads it. */
  get edid(): Uint8Array {
    const edid = new Uint8Array(128);
    readSync(this.fd.fd, edid, 0, edid.length, EDID);
    return edid;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }

  #set(index: number, value: number): void {
    const bytes = new Uint8Array(2);
    new DataView(bytes.buffer).setUint16(0, value, true);
    writeSync(this.fd.fd, bytes, 0, 2, DISPI + index * 2);
  }
}

/** What the kernel says about a machine that is too busy for its timers: those of vkms, which make its vertical blanks, and the watchdog's. */
const BUSY = /drm_atomic_helper_wait_for_vblanks|soft lockup/;

/** Kernel messages that complain of a program or a driver, other than those of `earlier`. */
export function kernelComplaints(earlier: readonly string[] = []): string[] {
  const log = execFileSync('dmesg', { encoding: 'utf8' });
  const complaints = log.split('\n').filter((line) => /WARNING|BUG:|use-after-free|refcount_t/.test(line));
  return complaints.filter((line) => !BUSY.test(line) && !earlier.includes(line));
}
