import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { connect } from 'node:net';
import { basename, delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { type CardAbilities, probeCard } from '../../display/kms/device.ts';
import { WaylandDisplay, WlDataDeviceManager } from '../../display/wayland/client/index.ts';
import { monitorName } from '../../protocols/edid.ts';
import { requestStats } from '../control/client.ts';
import { ControlError } from '../control/protocol.ts';
import type { BridgeStats, ClipboardStats } from '../control/stats.ts';
import { MAX_MAPPINGS } from '../guest/virtio-gpu/linear-views.ts';
import { hasLibrary } from '../sys/lib/library.ts';
import { hasSdBus } from '../sys/lib/sd-bus.ts';
import { loadPixman } from '../sys/lib/pixman.ts';
import { PAGE_SIZE } from '../sys/mapping.ts';
import { createMemfd, F_SEAL_SHRINK, getSeals } from '../sys/memfd.ts';
import { PageRuns } from '../sys/page-runs.ts';
import { ScanoutError, SysError } from '../sys/errors.ts';
import { landlockVersion } from '../sys/sandbox/landlock.ts';
import { noFilters } from '../sys/sandbox/seccomp.ts';
import { UdmabufDriver, UdmabufError } from '../sys/udmabuf.ts';

/** The result of checking one thing on this machine. `todo` says how to get it if it is missing. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly todo?: string;
}

const PROBE_TIMEOUT_MS = 5000;
/** Linux's default, below which what is mapped of guests stays. */
const ENOUGH_MAPS = 65_530;

/** Makes a dma-buf of one page as for a guest's picture; `reason` is why that failed. */
export function checkUdmabuf(): Check & { readonly reason: UdmabufError | null } {
  const name = 'udmabuf';
  const driver = UdmabufDriver.open();
  if (driver instanceof UdmabufError) {
    const todo =
      driver.code === 'driver-forbidden'
        ? 'join the group that owns /dev/udmabuf (often kvm), then log in again'
        : 'modprobe udmabuf (the kernel needs CONFIG_UDMABUF)';
    return { name, ok: false, detail: driver.message, todo, reason: driver };
  }
  try {
    using memfd = createMemfd('scanout-doctor', PAGE_SIZE);
    driver.create(PageRuns.of([{ memfd, offset: 0, length: PAGE_SIZE }]))[Symbol.dispose]();
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
    return {
      name,
      ok: isSealed,
      detail: isSealed ? 'memory files with seals' : 'memory files, but a seal was not kept',
    };
  } catch (error) {
    return { name, ok: false, detail: String(error), todo: 'use a kernel with CONFIG_MEMFD_CREATE' };
  }
}

export function checkDrm(directory = '/dev/dri'): Check {
  const name = 'DRM devices';
  const devices = list(directory).filter((entry) => /^(card|renderD)\d+$/.test(entry));
  if (devices.length === 0)
    return {
      name,
      ok: false,
      detail: `none in ${directory}`,
      todo: 'needed only to show frames on a monitor of this machine',
    };
  const detail = devices
    .map(
      (device) =>
        `${device} (${driverOf(`/sys/class/drm/${device}`)}${mayOpen(join(directory, device)) ? '' : ', no permission'})`,
    )
    .join(', ');
  return { name, ok: true, detail };
}

/** Connects to the compositor that the environment names. */
export async function checkWayland(env: NodeJS.ProcessEnv = process.env): Promise<Check> {
  const name = 'Wayland compositor';
  const display = env['WAYLAND_DISPLAY'];
  if (!display)
    return { name, ok: false, detail: 'WAYLAND_DISPLAY is not set', todo: 'needed only to show frames in a window' };
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

/** What a shared clipboard is made of. */
export interface ClipboardParts {
  /** Whether the compositor has a clipboard; null: there is no compositor. */
  readonly isOnDesktop: boolean | null;
  /** The channel to the guest's agent, of a running bridge; null: it has none; undefined: no bridge runs. */
  readonly channel: ClipboardStats | null | undefined;
}

export async function readClipboardParts(compositor: Check, control: string): Promise<ClipboardParts> {
  const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
  const isOnDesktop = compositor.ok ? await hasDesktopClipboard(compositor.detail, signal) : null;
  try {
    const { clipboard } = (await requestStats(control)) as Partial<Pick<BridgeStats, 'clipboard'>>;
    return { isOnDesktop, channel: clipboard ?? null };
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    return { isOnDesktop, channel: undefined };
  }
}

async function hasDesktopClipboard(socket: string, signal: AbortSignal): Promise<boolean> {
  try {
    using display = await WaylandDisplay.connect({ socket, signal });
    return [...display.globals.values()].some((global) => global.interface === WlDataDeviceManager.interface.name);
  } catch (error) {
    if (!(error instanceof ScanoutError || signal.aborted)) throw error;
    return false;
  }
}

/** Whether windows share the desktop's clipboard with a guest, and if not, what is missing. */
export function checkClipboard({ isOnDesktop, channel }: ClipboardParts): Check {
  const name = 'clipboard';
  const missing = (detail: string, todo: string): Check => ({ name, ok: false, detail, todo });
  if (isOnDesktop === null)
    return missing('no Wayland compositor', 'needed only to share the clipboard of windows with a guest');
  if (!isOnDesktop) return missing('the compositor has none (wl_data_device_manager)', 'use another compositor');
  if (channel === undefined)
    return {
      name,
      ok: true,
      detail: 'on the desktop; `scanout run --clipboard` shares it with a guest in which spice-vdagent runs',
    };
  if (channel === null)
    return missing('not shared by the bridge that runs', 'start it with --clipboard vdagent:SOCKET');
  if (!channel.connected && channel.agent === null)
    return missing(
      'on the desktop, but QEMU does not share its own with this bridge',
      'start QEMU with -chardev qemu-vdagent,id=vdagent,clipboard=on and its port (docs/qemu-dbus.md)',
    );
  if (!channel.connected)
    return missing(
      "on the desktop, but the VM has not connected the channel of the guest's agent",
      'start QEMU with what `scanout qemu-args --clipboard SOCKET` prints',
    );
  if (channel.agent === false)
    return missing(
      'on the desktop, with a channel to the guest, in which no agent answers',
      'install spice-vdagent in the guest, and log in to its desktop',
    );
  const end = channel.agent === null ? "QEMU's, which its guest's agent has" : "the guest's agent (spice-vdagent)";
  return { name, ok: true, detail: `shared with ${end}` };
}

/** The mediated devices, whose displays `--guest vfio` shows. */
export function checkMediatedDevices(directory = '/sys/bus/mdev/devices', groups = '/dev/vfio'): Check {
  const name = 'mediated devices';
  const devices = list(directory);
  if (devices.length === 0)
    return {
      name,
      ok: false,
      detail: 'none',
      todo: 'needed only for --guest vfio, to show a virtual GPU of the kernel',
    };
  const describe = (uuid: string): string => {
    const group = linkName(join(directory, uuid, 'iommu_group'));
    const access = mayOpen(join(groups, group)) ? 'may be opened' : 'no permission to open it; its VMM may pass it';
    return `${uuid} (${linkName(join(directory, uuid, 'mdev_type'))}, group ${group}: ${access})`;
  };
  return { name, ok: true, detail: devices.map(describe).join(', ') };
}

/** libsystemd, which `--guest qemu-dbus` speaks D-Bus with. */
export function checkDbus(): Check {
  const ok = hasSdBus();
  const todo = 'install libsystemd0; needed only for --guest qemu-dbus';
  return ok ? { name: 'D-Bus', ok, detail: 'libsystemd' } : { name: 'D-Bus', ok, detail: 'no libsystemd', todo };
}

export function checkPixman(): Check {
  const ok = loadPixman() !== null;
  const name = 'pixman';
  return ok
    ? { name, ok, detail: 'copies rectangles and converts pixel formats' }
    : {
        name,
        ok,
        detail: 'libpixman-1.so.0 is missing: copies are slower, and formats that an output lacks cannot be shown',
        todo: 'install libpixman-1-0',
      };
}

export function checkMaxMapCount(path = '/proc/sys/vm/max_map_count'): Check {
  const name = 'vm.max_map_count';
  const count = Number(readFileSync(path, 'utf8'));
  const ok = count >= ENOUGH_MAPS;
  const detail = `${count} mappings, of which faster copies of guests' pictures take up to ${MAX_MAPPINGS}`;
  return ok ? { name, ok, detail } : { name, ok, detail, todo: `sysctl vm.max_map_count=${ENOUGH_MAPS}` };
}

/** What the sandbox of `scanout run` can use on this machine. */
export function checkSandbox(): Check[] {
  const unfiltered = noFilters();
  const seccomp: Check =
    unfiltered === null
      ? { name: 'seccomp', ok: true, detail: 'limits the system calls of a running bridge' }
      : { name: 'seccomp', ok: false, detail: unfiltered, todo: 'use x86-64 or 64-bit Arm, and CONFIG_SECCOMP_FILTER' };
  return [seccomp, checkLandlock()];
}

function checkLandlock(): Check {
  const name = 'Landlock';
  try {
    const version = landlockVersion();
    return { name, ok: true, detail: `limits the files of a running bridge (version ${version})` };
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return {
      name,
      ok: false,
      detail: `${error.message}: a running bridge can open every file of its user`,
      todo: 'use a kernel with CONFIG_SECURITY_LANDLOCK, and add landlock to lsm= on its command line',
    };
  }
}

/** Finds the QEMU programs on PATH that have a vhost-user GPU, and their versions. */
export async function checkQemu(env: NodeJS.ProcessEnv = process.env): Promise<Check> {
  const name = 'QEMU with vhost-user-gpu';
  const binaries = (env['PATH'] ?? '').split(delimiter).flatMap((directory) =>
    list(directory)
      .filter((file) => /^qemu-system-(x86_64|aarch64|riscv64)$/.test(file))
      .map((file) => join(directory, file)),
  );
  // /bin is often a link to /usr/bin.
  const distinct = [...new Set(binaries.map((binary) => realpathSync(binary)))];
  const found = (await Promise.all(distinct.map(describeQemu))).filter((text) => text !== null);
  if (found.length > 0) return { name, ok: true, detail: found.join(', ') };
  const detail = binaries.length === 0 ? 'no qemu-system-* on PATH' : `${binaries.join(', ')}: no such device`;
  return {
    name,
    ok: false,
    detail,
    todo: 'install QEMU with vhost-user-gpu-pci (Debian: qemu-system-x86 and qemu-system-gui)',
  };
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

function mayOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export interface CardConnector {
  /** `HDMI-A-1` */
  readonly name: string;
  readonly isConnected: boolean;
  /** The monitor's name from its EDID; null if it has none or nothing is plugged in. */
  readonly monitor: string | null;
  /** `1920x1080` */
  readonly preferredMode: string | null;
}

/** A graphics card of this machine, and what is plugged into it. */
export interface Card {
  /** `card0` */
  readonly name: string;
  readonly connectors: readonly CardConnector[];
  readonly abilities: CardAbilities | CardProblem;
}

/** Why a card cannot be queried. */
export interface CardProblem {
  readonly driver: string;
  readonly problem: string;
  readonly todo: string;
}

const LIBRARIES = [
  {
    soname: 'libgbm.so.1',
    name: 'libgbm',
    debian: 'libgbm1',
    with: 'allocates buffers for programs that use scanout-bridge/gbm',
    without: 'scanout-bridge/gbm does not work; no command needs it',
  },
  {
    soname: 'libseat.so.1',
    name: 'libseat',
    debian: 'libseat1',
    with: 'shares the screen between virtual terminals without root',
    without: 'the bridge must become DRM master itself',
  },
  {
    soname: 'libudev.so.1',
    name: 'libudev',
    debian: 'libudev1',
    with: 'reports monitors that are plugged in and out',
    without: 'monitors that are plugged in or out are not noticed',
  },
  {
    soname: 'libpangocairo-1.0.so.0',
    name: 'pango and cairo',
    debian: 'libpangocairo-1.0-0',
    with: 'draw the title bars of windows where the compositor draws none, as on GNOME',
    without: 'title bars of windows have no text where the compositor draws none, as on GNOME',
  },
  {
    soname: 'libinput.so.10',
    name: 'libinput',
    debian: 'libinput10',
    with: 'reads keyboards, pointers and touchscreens for guests on monitors',
    without: 'guests on monitors of this machine get no input',
  },
] as const;

/** Checks the optional libraries that screens use. */
export function checkLibraries(isThere: (soname: string) => boolean = hasLibrary): Check[] {
  return LIBRARIES.map(({ soname, name, debian, ...library }) =>
    isThere(soname)
      ? { name, ok: true, detail: library.with }
      : { name, ok: false, detail: `${soname} is missing: ${library.without}`, todo: `install ${debian}` },
  );
}

/** Whether a guest on a monitor can have the input devices of this machine. */
export function checkInput(
  directory = '/dev/input',
  seatd = '/run/seatd.sock',
  logind = '/run/systemd/seats',
  udevd = '/run/udev/control',
): Check {
  const name = 'input devices';
  const devices = list(directory).filter((entry) => /^event\d+$/.test(entry));
  if (devices.length === 0)
    return {
      name,
      ok: false,
      detail: `none in ${directory}`,
      todo: 'needed only to operate a guest on a monitor of this machine',
    };
  const manager = existsSync(seatd) ? 'seatd' : existsSync(logind) ? 'logind' : null;
  const readable = devices.filter((device) => mayOpen(join(directory, device))).length;
  const detail = `${devices.length}, opened ${manager === null ? `by the bridge itself, which may open ${readable}` : `by ${manager}`}`;
  if (!existsSync(udevd))
    return { name, ok: false, detail: `${detail}; udevd does not run`, todo: 'start udevd, which tells what they are' };
  if (manager !== null || readable > 0) return { name, ok: true, detail };
  return { name, ok: false, detail, todo: 'install seatd, or join the group that owns them (often input)' };
}

/** Reads cards and monitors from sysfs as the kernel last saw them, without probing the hardware. */
export function readCards(
  sysfs = '/sys/class/drm',
  devices = '/dev/dri',
  probe: (path: string) => CardAbilities = probeCard,
): Card[] {
  const entries = list(sysfs);
  return entries
    .filter((entry) => /^card\d+$/.test(entry))
    .map((name) => ({
      name,
      connectors: entries
        // A writeback connector has no monitor.
        .filter((entry) => entry.startsWith(`${name}-`) && !entry.startsWith(`${name}-Writeback-`))
        .map((entry) => readConnector(join(sysfs, entry), entry.slice(name.length + 1))),
      abilities: abilitiesOf(join(devices, name), join(sysfs, name), probe),
    }));
}

function readConnector(directory: string, name: string): CardConnector {
  const isConnected = readFileSync(join(directory, 'status'), 'latin1').trim() === 'connected';
  if (!isConnected) return { name, isConnected, monitor: null, preferredMode: null };
  // The kernel sorts the mode a monitor prefers to the front.
  const [preferredMode] = readFileSync(join(directory, 'modes'), 'latin1').split('\n');
  return {
    name,
    isConnected,
    monitor: monitorName(readFileSync(join(directory, 'edid'))),
    preferredMode: preferredMode || null,
  };
}

function abilitiesOf(path: string, sysfs: string, probe: (path: string) => CardAbilities): CardAbilities | CardProblem {
  try {
    return probe(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const driver = driverOf(sysfs);
    if (code === 'EACCES')
      return {
        driver,
        problem: `no permission to open ${path}`,
        todo: 'join the group that owns it (often video), then log in again',
      };
    if (code === 'EPERM')
      return {
        driver,
        problem: `this sandbox does not allow ${path} to be opened`,
        todo: 'allow the device in the sandbox',
      };
    return { driver, problem: message, todo: 'check the kernel log for errors of the driver' };
  }
}

/** The driver of a device in /sys/class/drm. */
function driverOf(directory: string): string {
  return linkName(join(directory, 'device/driver')) || 'no driver';
}

/** The last part of where a link leads; empty if there is none. */
function linkName(path: string): string {
  try {
    return basename(readlinkSync(path));
  } catch {
    return '';
  }
}

/** Checks for each card whether `--output kms` can use it now. */
export function checkCards(cards: readonly Card[]): Check[] {
  if (cards.length > 0) return cards.map(checkCard);
  return [
    {
      name: 'KMS',
      ok: false,
      detail: 'no graphics card',
      todo: 'needed only to show frames on a monitor of this machine',
    },
  ];
}

function checkCard({ name: card, connectors, abilities }: Card): Check {
  const name = `KMS ${card}`;
  const monitors = connectors.map(describeConnector).join(', ') || 'no connectors';
  if ('problem' in abilities)
    return { name, ok: false, detail: `${abilities.driver}: ${abilities.problem}; ${monitors}`, todo: abilities.todo };
  const { driver, isAtomic, importsDmabufs, isFree } = abilities;
  const detail = [
    `${driver}: ${isAtomic ? 'atomic modesetting' : 'no atomic modesetting'}`,
    importsDmabufs ? 'imports dma-bufs' : 'imports no dma-bufs',
    isFree ? 'free' : 'another process is DRM master',
  ].join(', ');
  const todo = remedy(connectors, abilities);
  return { name, ok: todo === null, detail: `${detail}; ${monitors}`, ...(todo !== null && { todo }) };
}

function describeConnector({ name, isConnected, monitor, preferredMode }: CardConnector): string {
  if (!isConnected) return `${name} (nothing plugged in)`;
  return `${name} (${monitor ?? 'a monitor without a name'}, ${preferredMode ?? 'no modes'})`;
}

/** What to do before `--output kms` can use the card; null if nothing. */
function remedy(connectors: readonly CardConnector[], { isAtomic, isFree }: CardAbilities): string | null {
  if (!isAtomic) return 'use another card, or a driver with atomic modesetting';
  if (!connectors.some(({ isConnected }) => isConnected)) return 'plug in a monitor';
  if (!isFree) return 'stop the display server that uses it, or switch to a free virtual terminal';
  return null;
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  } catch {
    return [];
  }
}
