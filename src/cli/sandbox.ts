import { mkdirSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Log } from '../core/log.ts';
import { terminalInFront } from '../sys/virtual-terminal.ts';
import { SysError } from '../sys/errors.ts';
import { openReplacement } from '../sys/replace-file.ts';
import { ABSENT_CALLS, bridgeFilter } from '../sys/sandbox/filters.ts';
import { landlockVersion, limitFiles, type PathRule } from '../sys/sandbox/landlock.ts';
import { readConfinement, setNoNewPrivileges, setNotDumpable, startAgain } from '../sys/sandbox/process.ts';
import { filterCalls, noFilters } from '../sys/sandbox/seccomp.ts';
import { takeFromProcess } from '../guest/vfio/access.ts';
import { privateDirectory } from '../control/protocol.ts';
import { type SandboxState, sandboxText } from '../control/stats.ts';
import { packageFile } from '../sys/package-file.ts';
import type { GuestSpec, SocketSpec, VfioSpec } from './specs.ts';

export const NO_SANDBOX: SandboxState = {
  noNewPrivileges: false,
  notDumpable: false,
  systemCalls: false,
  landlock: null,
};

/** What a bridge needs beside what every bridge needs. */
export interface SandboxNeeds {
  readonly guest: GuestSpec;
  /** Where else it listens, or descriptors that it inherits. */
  readonly sockets: readonly SocketSpec[];
  /** TCP ports that it listens at. */
  readonly ports: readonly number[];
  /** Files that it reads. */
  readonly files: readonly string[];
  readonly control: string;
  /** The path of a recording. */
  readonly record: string | undefined;
  /** It reads the input devices of this machine. */
  readonly input: boolean;
}

/** A process that may open no other files than those a bridge needs. */
export interface EnteredSandbox {
  /** As in SandboxState. */
  readonly landlock: number | null;
  readonly guest: OpenedGuest;
  /** Descriptor of the recording, an empty file; the caller closes it. */
  readonly record: number | undefined;
}

/** A guest's device that was taken from a VMM: descriptors of the device and of the VMM. */
export type OpenedGuest = GuestSpec | { readonly vfio: { readonly fd: number; readonly process: number } };

/**
 * Limits the files of this process, which has to start again for that: Landlock limits the calling thread only, and
 * Node has others from its start. Returns in the second start. SysError if the kernel refuses what it offers; the file
 * system's error if there cannot be a recording.
 */
export function enterSandbox(needs: SandboxNeeds): EnteredSandbox {
  const { guest, sockets, ports, files, control, record, input } = needs;
  // Set for the second start: the process, the version of Landlock, the recording, and a VMM's device; 0 for none.
  const { SCANOUT_SANDBOX: started = '' } = process.env;
  const [pid, version, recording, device, vmm] = started.split(':').map(Number);
  if (pid === process.pid) {
    delete process.env.SCANOUT_SANDBOX;
    return {
      landlock: version! > 0 ? version! : null,
      guest: device! > 0 ? { vfio: { fd: device!, process: vmm! } } : guest,
      record: recording! > 0 ? recording : undefined,
    };
  }
  const vfio = 'vfio' in guest ? guest.vfio : null;
  // The kernel lets no process of a Landlock domain look into one outside.
  const taken = vfio && 'pid' in vfio ? takeFromProcess(vfio.pid, vfio.device ?? null) : null;
  // A VM's D-Bus display is connected to, which Landlock does not limit.
  const given = 'dbus' in guest ? [] : ['vfio' in guest ? guest.vfio : guest];
  const needed: readonly (SocketSpec | VfioSpec)[] = [...given, ...sockets];
  // No directory may be written to afterwards, and no file made.
  const file = record === undefined ? 0 : openReplacement(record);
  setNoNewPrivileges();
  const landlock = landlockOrNull();
  let paths: number[] = [];
  if (landlock !== null) {
    makeDirectory(dirname(control));
    if (sockets.some((spec) => 'socket' in spec && dirname(spec.socket) === privateDirectory()))
      makeDirectory(privateDirectory());
    paths = limitFiles(
      [
        ...rulesFor([control, ...needed.flatMap((spec) => ('socket' in spec ? [spec.socket] : []))]),
        ...(vfio && 'mdev' in vfio ? VFIO : []),
        ...(input ? inputRules() : []),
        ...files.map((path) => ({ path, access: 'read' }) as const),
      ],
      landlock,
      ports,
    );
  }
  if (noFilters() === null) filterCalls(ABSENT_CALLS);
  const inherited = needed.flatMap((spec) => ('fd' in spec ? [spec.fd] : []));
  const [deviceFd, vmmFd] = taken ? [taken.device.take(), taken.process.take()] : [0, 0];
  const wayland = Number(process.env['WAYLAND_SOCKET'] ?? NaN);
  return startAgain(
    { SCANOUT_SANDBOX: [process.pid, landlock ?? 0, file, deviceFd, vmmFd].join(':') },
    [...paths, ...inherited, file, deviceFd, vmmFd, wayland].filter((fd) => Number.isInteger(fd)),
  );
}

/** Locks a bridge that is set up. `entered` is what `enterSandbox` returned. SysError. */
export function lockSandbox(
  { landlock }: EnteredSandbox,
  { input }: Pick<SandboxNeeds, 'input'>,
  log: Log,
): SandboxState {
  setNotDumpable();
  const unfiltered = noFilters();
  if (unfiltered === null) filterCalls(bridgeFilter(process.pid, { input }), { log: true });
  else log('warn', `sandbox: system calls are not filtered: ${unfiltered}`);
  if (landlock === null) log('warn', 'sandbox: files are not limited: the kernel has no Landlock');
  const { noNewPrivileges, filtersCalls } = readConfinement();
  const state = { noNewPrivileges, notDumpable: true, systemCalls: filtersCalls && unfiltered === null, landlock };
  log('info', `sandbox: ${sandboxText(state)}`);
  return state;
}

function landlockOrNull(): number | null {
  try {
    return landlockVersion();
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return null;
  }
}

/** Programs and libraries, also those of NixOS and Guix; what they and libseat read at their start; and devices. */
const SYSTEM: readonly PathRule[] = [
  ...['/usr', '/lib', '/lib64', '/opt', '/nix/store', '/gnu/store', '/run/opengl-driver', '/etc', '/proc', '/sys'],
  ...['/dev/urandom', '/run/udev', '/run/systemd/seats', '/run/systemd/sessions', '/run/systemd/users'],
  // Of the fonts of title bars, which would all be read again.
  '/var/cache/fontconfig',
].map((path) => ({ path, access: 'read' }) as const);
const DEVICES: readonly PathRule[] = ['/dev/null', '/dev/dri', '/dev/udmabuf'].map((path) => ({
  path,
  access: 'device',
}));

/** Groups of devices, of which one is opened whenever its device is there. */
const VFIO: readonly PathRule[] = [{ path: '/dev/vfio', access: 'device' }];

/** Input devices, and the virtual terminal that must not get what is typed. A seat manager opens them itself. */
function inputRules(): PathRule[] {
  const terminal = terminalInFront();
  return ['/dev/input', ...(terminal === null ? [] : [terminal])].map((path) => ({ path, access: 'device' }));
}

function rulesFor(sockets: readonly string[]): PathRule[] {
  const node = realpathSync(process.execPath);
  const read = [node, join(dirname(node), '../lib'), ...packageFolders()];
  return [
    ...SYSTEM,
    ...DEVICES,
    ...read.map((path) => ({ path, access: 'read' }) as const),
    ...sockets.map((path) => ({ path: dirname(path), access: 'sockets' }) as const),
  ];
}

/** Where this package and those that it depends on are installed, however the package manager places them. */
function packageFolders(): string[] {
  const files = [packageFile('package.json'), createRequire(import.meta.url).resolve('koffi')];
  return files.map((file) => {
    const path = realpathSync(file);
    return /^.*?\/(?:node_modules|\.pnpm)(?=\/)/.exec(path)?.[0] ?? dirname(path);
  });
}

/** As the control socket does later, which then says why it cannot: a rule is about a directory that exists. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch {
    // Then there is nothing to have a rule for.
  }
}
