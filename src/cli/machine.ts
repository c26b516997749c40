import { execFile } from 'node:child_process';
import { accessSync, constants, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { UdmabufDriver, UdmabufError } from '../sys/udmabuf.ts';
import { createMemfd, F_SEAL_SHRINK, getSeals } from '../sys/memfd.ts';
import { PAGE_SIZE } from '../sys/mapping.ts';
import { loadPixman } from '../sys/lib/pixman.ts';
import type { Check } from './check.ts';
import { driverOf } from './kms-cards.ts';

const PROBE_TIMEOUT_MS = 5000;
/** A scattered picture of 16 MiB is one mapping a page at worst. */
const ENOUGH_MAPS = 65_530;

/** Makes a dma-buf of one page, as a guest's picture would be. The reason if that fails. */
export function checkUdmabuf(): Check & { readonly reason: UdmabufError | null } {
  const name = 'udmabuf';
  const driver = UdmabufDriver.open();
  if (driver instanceof UdmabufError) {
    const todo = driver.code === 'driver-forbidden' ? 'join the group that owns /dev/udmabuf (often kvm), then log in again' : 'modprobe udmabuf (the kernel needs CONFIG_UDMABUF)';
    return { name, ok: false, detail: driver.message, todo, reason: driver };
  }
  try {
    using memfd = createMemfd('scanout-doctor', PAGE_SIZE);
    driver.create([{ memfd, offset: 0, length: PAGE_SIZE }])[Symbol.dispose]();
    const limits = `list_limit ${driver.listLimit}, size_limit_mb ${driver.sizeLimitBytes / 2 ** 20}`;
    return { name, ok: true, detail: `/dev/udmabuf makes dma-bufs (${limits})`, reason: null };
  } catch (error) {
    if (!(error instanceof UdmabufError)) throw error;
    return { name, ok: false, detail: error.message, todo: 'see the kernel log', reason: error };
  } finally {
    driver[Symbol.dispose]();
  }
}

export function checkMemfd(): Check {
  const name = 'memfd';
  try {
    using memfd = createMemfd('scanout-doctor', PAGE_SIZE);
    const isSealed = (getSeals(memfd) & F_SEAL_SHRINK) !== 0;
    return { name, ok: isSealed, detail: isSealed ? 'memory files with seals' : 'memory files, but the seal did not stay' };
  } catch (error) {
    return { name, ok: false, detail: String(error), todo: 'a kernel with CONFIG_MEMFD_CREATE' };
  }
}

export function checkDrm(directory = '/dev/dri'): Check {
  const name = 'DRM devices';
  const devices = list(directory).filter((entry) => /^(card|renderD)\d+$/.test(entry)).sort();
  if (devices.length === 0) return { name, ok: false, detail: `none in ${directory}`, todo: 'needed only to show frames on a monitor of this machine' };
  const detail = devices.map((device) => `${device} (${driverOf(`/sys/class/drm/${device}`)}${mayOpen(join(directory, device)) ? '' : ', no permission'})`).join(', ');
  return { name, ok: true, detail };
}

/** Connects to the compositor of this session, if the environment names one. */
export async function checkWayland(env: NodeJS.ProcessEnv = process.env): Promise<Check> {
  const name = 'Wayland compositor';
  const display = env['WAYLAND_DISPLAY'];
  if (!display) return { name, ok: false, detail: 'WAYLAND_DISPLAY is not set', todo: 'needed only to show frames in a window' };
  const path = display.startsWith('/') ? display : join(env['XDG_RUNTIME_DIR'] ?? '', display);
  const failure = await tryConnect(path);
  if (failure === null) return { name, ok: true, detail: path };
  return { name, ok: false, detail: `${path}: ${failure}`, todo: 'start the compositor, or correct WAYLAND_DISPLAY' };
}

function tryConnect(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(null);
    });
    socket.on('error', (error) => resolve(error.message));
  });
}

export function checkPixman(): Check {
  const ok = loadPixman() !== null;
  const name = 'pixman';
  return ok
    ? { name, ok, detail: 'copies rectangles and converts pixel formats' }
    : { name, ok, detail: 'libpixman-1.so.0 is missing: copies are slower, formats outputs lack cannot be shown', todo: 'install libpixman-1-0' };
}

export function checkMaxMapCount(path = '/proc/sys/vm/max_map_count'): Check {
  const name = 'vm.max_map_count';
  const count = Number(readFileSync(path, 'utf8'));
  const ok = count >= ENOUGH_MAPS;
  const detail = `${count} mappings; a guest's picture takes up to one for each page`;
  return ok ? { name, ok, detail } : { name, ok, detail, todo: `sysctl vm.max_map_count=${ENOUGH_MAPS}` };
}

/** The QEMU binaries on PATH whose device list has a vhost-user GPU, with their versions. */
export async function checkQemu(env: NodeJS.ProcessEnv = process.env): Promise<Check> {
  const name = 'QEMU with vhost-user-gpu';
  const binaries = (env['PATH'] ?? '')
    .split(delimiter)
    .flatMap((directory) => list(directory).filter((file) => /^qemu-system-(x86_64|aarch64|riscv64)$/.test(file)).map((file) => join(directory, file)));
  // /bin is often /usr/bin.
  const distinct = [...new Set(binaries.map((binary) => realpathSync(binary)))];
  const found = (await Promise.all(distinct.map(describeQemu))).filter((text) => text !== null);
  if (found.length > 0) return { name, ok: true, detail: found.join(', ') };
  const detail = binaries.length === 0 ? 'no qemu-system-* on PATH' : `${binaries.join(', ')} lack the device`;
  return { name, ok: false, detail, todo: 'install QEMU with vhost-user-gpu-pci (Debian: qemu-system-x86 and qemu-system-gui)' };
}

async function describeQemu(binary: string): Promise<string | null> {
  try {
    const devices = await output(binary, ['-device', 'help']);
    if (!devices.includes('"vhost-user-gpu-pci"')) return null;
    const version = /version (\S+)/.exec(await output(binary, ['--version']))?.[1] ?? 'of unknown version';
    return `${binary} ${version}${devices.includes('"vhost-user-test-device-pci"') ? ' (blobs with --generic)' : ''}`;
  } catch {
    return null;
  }
}

async function output(binary: string, args: string[]): Promise<string> {
  return (await promisify(execFile)(binary, args, { timeout: PROBE_TIMEOUT_MS })).stdout;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function mayOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
