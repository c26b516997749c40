import { closeSync, existsSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../bridge/bridge.ts';
import { UsageError } from '../core/errors.ts';
import type { Size } from '../core/geometry.ts';
import type { GuestInput } from '../core/input.ts';
import { type Log, printable } from '../core/log.ts';
import { QemuDbusGuest } from '../guest/qemu-dbus/guest.ts';
import { VhostUserGuest } from '../guest/vhost-user/guest.ts';
import { type InputKind, VhostUserInput } from '../guest/vhost-user/input.ts';
import { passDisplaySocket } from '../qemu/dbus-display.ts';
import { qemuFlags, qemuValue } from '../qemu/flags.ts';
import { KeyboardController } from '../qemu/keyboard-controller.ts';
import { findQemu, LaunchError, QemuProcess } from '../qemu/process.ts';
import { Qmp, QmpError } from '../qemu/qmp.ts';
import { startTimer } from '../sys/clock.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { OwnedFd } from '../sys/fd.ts';
import { socketPair } from '../sys/socket.ts';
import { CD, DISK, resume, type Snapshot, Snapshots } from './snapshots.ts';

const MIB = 2 ** 20;

/** A console on the screen and on the serial port, with nothing that changes the screen by itself. */
const DEFAULT_APPEND = 'console=ttyS0 console=tty0 vt.global_cursor_default=0 consoleblank=0';

export type Accelerator = 'kvm' | 'tcg';

export type Firmware = 'bios' | 'uefi';

/** Where distributions have the firmware of a UEFI machine: its code, and the variables of a new one. */
const UEFI = [
  ['/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'],
  ['/usr/share/edk2/ovmf/OVMF_CODE.fd', '/usr/share/edk2/ovmf/OVMF_VARS.fd'],
  ['/usr/share/edk2/x64/OVMF_CODE.4m.fd', '/usr/share/edk2/x64/OVMF_VARS.4m.fd'],
] as const;

export interface LaunchOptions {
  /**
   * How the guest's screen comes here: `virtio-gpu` is this package's own GPU, for guests that have a driver for it;
   * `dbus` is QEMU's D-Bus display, which shows any guest from its firmware on, on a standard VGA unless `args` has
   * another card. Default `virtio-gpu`.
   */
  readonly display?: 'virtio-gpu' | 'dbus';
  /** QEMU's machine, with `display: 'dbus'`; default `q35`. */
  readonly machine?: string;
  /** Default `bios`. `uefi` needs OVMF (Debian: ovmf), and forgets its variables. Only with `display: 'dbus'`. */
  readonly firmware?: Firmware;
  /** A CD image, with `display: 'dbus'`. `eject` removes it. */
  readonly cdrom?: string;
  /**
   * Goes on from what `LaunchedGuest.snapshot` saved under this name for a guest with these options, with
   * `display: 'dbus'`. It is gone once QEMU, the disk or another file of the guest has changed.
   */
  readonly snapshot?: string;
  /** Makes that snapshot where there is none: brings the guest, which has booted, to where it is to be saved. */
  readonly prepare?: (guest: LaunchedGuest) => Promise<void>;
  /** A Linux kernel to boot. `append` is its command line (default: a console on the screen, without a cursor). */
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  /** A disk image. QEMU discards what the guest writes to it, so each test finds the same disk. */
  readonly disk?: string;
  /** The program. Default `qemu-system-x86_64`. */
  readonly qemu?: string;
  /** Further arguments for QEMU, added last. By default the guest has no other devices: no network, for example. */
  readonly args?: readonly string[];
  /** Default 1024. */
  readonly memoryMiB?: number;
  /** The guest's monitor, in pixels. Default 1280x800. */
  readonly size?: Size;
  /** Give the guest a keyboard and a pointer. Default true. */
  readonly input?: boolean;
  /** Give the guest a touchscreen. Default false. */
  readonly touch?: boolean;
  /** Default: KVM if it works, else TCG, which emulates the processor and is many times slower. */
  readonly accel?: Accelerator;
  /** How long the guest may take to show its first picture. Default 120000; Infinity waits as long as it takes. */
  readonly timeoutMs?: number;
  /** Ends the launch, which rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  readonly log?: Log;
}

/**
 * Starts QEMU with this package's GPU and input devices, and waits until the guest's driver shows a picture:
 *
 *     await using guest = await launchGuest({ disk: 'guest.qcow2' });
 *     using display = openDisplay({ guest });
 *
 * QEMU dies with this process, however that ends, and leaves no file behind. Rejects with LaunchError `missing`,
 * `exited` or `timeout` and the last output of QEMU and the guest, or `no-snapshot`; QmpError for a snapshot that QEMU
 * cannot save or read; UsageError for a size that no monitor has; and as `prepare` does.
 */
export async function launchGuest(options: LaunchOptions): Promise<LaunchedGuest> {
  const { accel, log = () => undefined } = options;
  if (accel || !canOpenKvm()) return start(options, accel ?? 'tcg', log);
  try {
    return await start(options, 'kvm', log);
  } catch (error) {
    // /dev/kvm can exist and not work, for example inside a virtual machine: what was saved there ran without it.
    if (!(error instanceof LaunchError && (error.code === 'exited' || error.code === 'no-snapshot'))) throw error;
    if (error.code === 'exited') log('warn', `with KVM ${error.message}\n  trying again without KVM`);
    return start(options, 'tcg', log);
  }
}

async function start(options: LaunchOptions, accel: Accelerator, log: Log): Promise<LaunchedGuest> {
  const {
    size = { width: 1280, height: 800 },
    qemu: program = 'qemu-system-x86_64',
    timeoutMs = 120_000,
    signal,
  } = options;
  signal?.throwIfAborted();
  if (options.display === 'dbus') return startAny(options, accel, size, log);
  checkVirtio(options);
  const kinds: InputKind[] = [
    ...(options.input === false ? [] : ['keyboard-pointer' as const]),
    ...(options.touch ? ['touch' as const] : []),
  ];
  using owned = new DisposableStack();
  using theirs = new DisposableStack();
  const sockets: OwnedFd[] = [];
  const connect = (): OwnedFd => {
    const [our, their] = socketPair();
    sockets.push(theirs.use(their));
    return our;
  };
  const gpu = owned.use(VhostUserGuest.open({ socket: connect(), log }));
  const input = kinds.length > 0 ? owned.use(VhostUserInput.open({ log })) : null;
  for (const kind of kinds) input?.serve(kind, connect());
  const output = owned.use(HeadlessOutput.open({ ...size, name: 'test display' }));
  const bridge = owned.use(new Bridge(gpu, { log, ...(input && { input: input.sink }) }));
  bridge.show(0, output);
  using ourQmp = connect();
  const qemu = new QemuProcess(program, qemuArgs(options, accel, kinds.length), sockets);
  const qmp = openQmp(ourQmp);
  void endWithGuest(qemu, qmp);
  const guest = createGuest({
    ...{ qemu, qmp, gpu, bridge, output },
    ...{ input: input?.sink ?? null, saved: null, owned: owned.move() },
  });
  try {
    await firstPicture(guest, gpu, timeoutMs, signal);
    return guest;
  } catch (error) {
    await guest.kill();
    throw error;
  }
}

/** A guest on QEMU's D-Bus display. */
async function startAny(options: LaunchOptions, accel: Accelerator, size: Size, log: Log): Promise<LaunchedGuest> {
  const { qemu: program = 'qemu-system-x86_64', timeoutMs = 120_000, signal, snapshot: name, prepare } = options;
  const snapshots = new Snapshots({
    arguments: [program, ...anyArgs(options, accel, null)],
    files: filesOf(options),
  });
  const snapshot = name === undefined ? null : snapshots.find(name);
  if (name !== undefined && !snapshot && !prepare)
    throw new LaunchError(
      'no-snapshot',
      `launchGuest: there is no snapshot '${printable(name)}' of this guest, or no longer one: launch it without \`snapshot\` and call guest.snapshot('${printable(name)}'), or give \`prepare\``,
    );
  using owned = new DisposableStack();
  const output = owned.use(HeadlessOutput.open({ ...size, name: 'test display' }));
  const [ours, theirs] = socketPair();
  using socket = ours;
  const qemu = new QemuProcess(program, anyArgs(options, accel, snapshot), [theirs]);
  owned.defer(() => void qemu.kill());
  const qmp = openQmp(socket);
  void endWithGuest(qemu, qmp);
  const resumed = qmp.then((qmp) => (snapshot ? resume(qmp, snapshot) : undefined)).catch(rethrowUnlessClosed);
  resumed.catch(() => undefined);
  const keyboard = new KeyboardController(() => qmp);
  const vm = {
    connect: () => resumed.then(async () => passDisplaySocket(await qmp)),
    // A machine that is gone holds no keys.
    keysRead: () => keyboard.emptied().catch(rethrowUnlessClosed),
  };
  const gpu = owned.use(QemuDbusGuest.open({ vm, log }));
  const input = options.input === false ? null : gpu.input;
  const bridge = owned.use(new Bridge(gpu, { log, ...(input && { input }) }));
  bridge.show(0, output);
  const saved = { snapshots, isRestored: snapshot !== null };
  const guest = createGuest({ qemu, qmp, gpu, bridge, output, input, saved, owned: owned.move() });
  try {
    await Promise.all([firstPicture(guest, gpu, timeoutMs, signal), resumed]);
    if (name !== undefined && !snapshot) {
      await prepare!(guest);
      await snapshots.save(name, await qmp, { replaces: false, hasWholeDisk: false });
    }
    return guest;
  } catch (error) {
    await guest.kill();
    throw error;
  }
}

/** For what a QEMU that exits ends: `exited` reports that, with its last output. */
function rethrowUnlessClosed(error: unknown): void {
  if (!(error instanceof QmpError && error.code === 'closed')) throw error;
}

/** What a guest on the D-Bus display is made of. Throws LaunchError `missing`. */
function filesOf({ qemu = 'qemu-system-x86_64', kernel, initrd, disk, cdrom, firmware }: LaunchOptions): string[] {
  const files = [kernel, initrd, disk, cdrom].filter((file) => file !== undefined).map(absolute);
  return [findQemu(qemu), ...files, ...(firmware === 'uefi' ? uefiFiles() : [])];
}

/** As the overlay in a snapshot has to name its disk. What QEMU knows by another name than a path stays. */
function absolute(file: string): string {
  return existsSync(file) ? resolve(file) : file;
}

/** Consumes the socket. */
function openQmp(socket: OwnedFd): Promise<Qmp> {
  const qmp = Qmp.open(OwnedFd.adopt(socket.take()));
  qmp.catch(() => undefined);
  return qmp;
}

/** QEMU keeps a guest that cannot go on, and its last picture, on which a test would wait in vain. */
async function endWithGuest(qemu: QemuProcess, qmp: Promise<Qmp>): Promise<void> {
  try {
    await (await qmp).internalError();
    await qemu.kill('has stopped the guest, whose processor could not go on');
  } catch {
    // QEMU has exited, or speaks no QMP. The next command to it is rejected.
  }
}

/** Throws UsageError for what only a guest on the D-Bus display has. */
function checkVirtio({ machine, firmware, cdrom, snapshot, prepare }: LaunchOptions): void {
  for (const [name, value] of Object.entries({ machine, firmware, cdrom, snapshot, prepare }))
    if (value !== undefined) throw new UsageError(`launchGuest: ${name} works only with display: 'dbus'`);
}

/** For a guest without any driver of virtio: a VGA, disks on SATA, a USB tablet, the keyboard of a PC. */
function anyArgs(options: LaunchOptions, accel: Accelerator, snapshot: Snapshot | null): string[] {
  const { kernel, initrd, append = DEFAULT_APPEND, disk, cdrom, memoryMiB = 1024, args = [] } = options;
  const hasCard = args.some((arg) => arg === '-vga' || /^(.*-)?(vga|VGA|ramfb|gpu|bochs-display)\b/.test(arg));
  const drive = (id: string, device: string, choices: string, file: string | null): string[] => [
    ...['-drive', `if=none,id=${id},${choices}${file === null ? '' : `,file=${qemuValue(absolute(file))}`}`],
    ...['-device', `${device},id=${id}-drive,drive=${id}`],
  ];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'dbus,p2p=yes', '-machine', options.machine ?? 'q35'],
    ...['-accel', accel, '-cpu', 'max', '-smp', '2', '-m', String(memoryMiB)],
    ...['-chardev', `socket,id=qmp,fd=${QemuProcess.descriptorOf(0)}`, '-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', 'stdio,id=log,signal=off', '-serial', 'chardev:log'],
    ...(options.firmware === 'uefi' ? uefiArgs() : []),
    ...(hasCard ? [] : ['-device', 'VGA']),
    ...(options.input === false ? [] : ['-device', 'qemu-xhci', '-device', 'usb-tablet']),
    ...(options.touch ? ['-device', 'virtio-multitouch-pci'] : []),
    ...(kernel === undefined ? [] : ['-kernel', kernel, '-append', append]),
    ...(initrd === undefined ? [] : ['-initrd', initrd]),
    ...(disk === undefined ? [] : drive(DISK, 'ide-hd', 'snapshot=on', snapshot?.disk ?? disk)),
    ...(cdrom === undefined ? [] : drive(CD, 'ide-cd', 'media=cdrom,readonly=on', snapshot?.isCdOut ? null : cdrom)),
    ...args,
    ...(snapshot ? ['-incoming', 'defer'] : []),
  ];
}

/** The code of the firmware, and its variables. Throws LaunchError `missing`. */
function uefiFiles(): readonly [code: string, variables: string] {
  const found = UEFI.find((files) => files.every((file) => existsSync(file)));
  if (!found) throw new LaunchError('missing', 'launchGuest: no firmware for UEFI: install OVMF (Debian: ovmf)');
  return found;
}

function uefiArgs(): string[] {
  const [code, variables] = uefiFiles();
  return [
    ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${code}`],
    ...['-drive', `if=pflash,unit=1,format=raw,snapshot=on,file=${variables}`],
  ];
}

/** Uses the sockets in the order of QEMU's descriptors: GPU, input devices, QMP. */
function qemuArgs(
  { kernel, initrd, append = DEFAULT_APPEND, disk, memoryMiB = 1024, args = [] }: LaunchOptions,
  accel: Accelerator,
  inputs: number,
): string[] {
  const socket = (index: number): number => QemuProcess.descriptorOf(index);
  const flags = qemuFlags({
    socket: socket(0),
    inputs: Array.from({ length: inputs }, (_, index) => socket(1 + index)),
    memoryBytes: memoryMiB * MIB,
    generic: false,
  });
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    // With a single processor TCG omits the memory barriers that rings in shared memory need.
    ...['-accel', accel, '-cpu', 'max', '-smp', '2'],
    ...flags.flat(),
    ...['-chardev', `socket,id=qmp,fd=${socket(1 + inputs)}`, '-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', 'stdio,id=log,signal=off', '-serial', 'chardev:log'],
    ...(kernel === undefined ? [] : ['-kernel', kernel, '-append', append]),
    ...(initrd === undefined ? [] : ['-initrd', initrd]),
    ...(disk === undefined ? [] : ['-drive', `if=virtio,snapshot=on,file=${qemuValue(disk)}`]),
    ...args,
  ];
}

function canOpenKvm(): boolean {
  try {
    closeSync(openSync('/dev/kvm', 'r+'));
    return true;
  } catch {
    return false;
  }
}

/** Resolves when the guest's driver shows a picture. Rejects with LaunchError, or the reason of the signal. */
async function firstPicture(
  guest: LaunchedGuest,
  gpu: VhostUserGuest | QemuDbusGuest,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  let stop = (): void => undefined;
  let aborted = (): void => undefined;
  let timer: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      new Promise<void>((resolve) => (stop = guest.output.onFrame((frame) => !frame.isDark && resolve()))),
      guest.exited.then(() =>
        Promise.reject(new LaunchError('exited', `the guest showed nothing: ${guest.exitReason}`)),
      ),
      new Promise<never>((_, reject) => {
        timer = startTimer(
          () =>
            reject(
              new LaunchError(
                'timeout',
                `the guest showed nothing for ${timeoutMs / 1000} s: ${adviceFor(gpu)}\n${guest.exitReason}`,
              ),
            ),
          timeoutMs,
        );
        aborted = () => reject(signal!.reason as Error);
        signal?.throwIfAborted();
        signal?.addEventListener('abort', aborted);
      }),
    ]);
  } finally {
    stop();
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  }
}

/** How far the guest's driver came shows what is missing. */
function adviceFor(gpu: VhostUserGuest | QemuDbusGuest): string {
  if (gpu instanceof QemuDbusGuest)
    return gpu.isConnected ? 'its screen is black' : "QEMU's D-Bus display did not answer (Debian: qemu-system-gui)";
  if (gpu.stats.commands === 0)
    return 'its virtio-gpu driver did not start; on Linux that is CONFIG_DRM_VIRTIO_GPU, and a module (virtio-gpu.ko) has to be in the initrd or on the disk';
  return 'its virtio-gpu driver runs but has set no picture; on Linux a console (CONFIG_DRM_FBDEV_EMULATION) or a compositor does that';
}

/** What a LaunchedGuest is made of; it owns all of it. */
interface GuestParts {
  readonly qemu: QemuProcess;
  readonly qmp: Promise<Qmp>;
  readonly gpu: VhostUserGuest | QemuDbusGuest;
  readonly bridge: Bridge;
  readonly output: HeadlessOutput;
  readonly input: GuestInput | null;
  /** Null for a guest that cannot be saved. */
  readonly saved: { readonly snapshots: Snapshots; readonly isRestored: boolean } | null;
  readonly owned: DisposableStack;
}

let createGuest: (parts: GuestParts) => LaunchedGuest;

/** A guest in a QEMU process, made by `launchGuest`. Its monitor stays connected whether or not a display is open. */
export class LaunchedGuest implements AsyncDisposable {
  readonly #parts: GuestParts;
  #killed: Promise<void> | null = null;

  static {
    createGuest = (parts) => new LaunchedGuest(parts);
  }

  private constructor(parts: GuestParts) {
    this.#parts = parts;
  }

  /** Shows scanout 0 on `output`. */
  get bridge(): Bridge {
    return this.#parts.bridge;
  }

  get output(): HeadlessOutput {
    return this.#parts.output;
  }

  /** The guest's keyboard, pointer and touchscreen; null if it was launched without. */
  get input(): GuestInput | null {
    return this.#parts.input;
  }

  /** The id of QEMU's process. */
  get pid(): number {
    return this.#parts.qemu.pid!;
  }

  /** The guest's serial console and QEMU's stderr; the last 64 Ki characters. */
  get log(): string {
    return this.#parts.qemu.log;
  }

  /** Resolves when QEMU has exited, because it was killed or the guest powered off. */
  get exited(): Promise<void> {
    return this.#parts.qemu.exited;
  }

  /** How QEMU exited, and its last output. */
  get exitReason(): string {
    return this.#parts.qemu.exitReason;
  }

  /**
   * Sends a command of QEMU's machine protocol (QMP) and resolves with its result. Rejects with QmpError `refused` and
   * QEMU's message if it refuses, and with LaunchError `exited` when QEMU is gone.
   */
  async qmp(command: string, args?: Record<string, unknown>): Promise<unknown> {
    return this.#ask(`QMP ${command}`, (qmp) => qmp.command(command, args));
  }

  /** Resets the machine, as its reset button does. */
  async reset(): Promise<void> {
    await this.qmp('system_reset');
  }

  /** Presses the power button for a moment; a guest that listens shuts down. */
  async powerButton(): Promise<void> {
    await this.qmp('system_powerdown');
  }

  /** Takes the CD out, whether or not the guest has locked it. Rejects with QmpError if there is no drive. */
  async eject(): Promise<void> {
    await this.qmp('eject', { id: 'cd-drive', force: true });
  }

  /**
   * Saves the guest as it is now, with its memory, its screen and what it has written to its disk, for
   * `launchGuest({ snapshot: name })` with the same other options, in place of an earlier snapshot of that name. It lies in
   * the user's cache folder. The guest stands still meanwhile, and then goes on.
   *
   * Rejects with UsageError for a guest without `display: 'dbus'`, whose GPU is this process, and with QmpError `refused`
   * for a device that QEMU cannot save, or a disk that `args` has added.
   */
  async snapshot(name: string): Promise<void> {
    const { saved } = this.#parts;
    if (!saved) throw new UsageError("guest.snapshot works only with display: 'dbus'");
    const choices = { replaces: true, hasWholeDisk: saved.isRestored };
    await this.#ask('snapshot', (qmp) => saved.snapshots.save(name, qmp, choices));
  }

  /** Kills QEMU; resolves when nothing of the guest is left: no process and no open descriptor. */
  kill(): Promise<void> {
    this.#killed ??= this.#kill();
    return this.#killed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  async #ask<T>(what: string, ask: (qmp: Qmp) => Promise<T>): Promise<T> {
    try {
      return await ask(await this.#parts.qmp);
    } catch (error) {
      if (!(error instanceof QmpError && error.code === 'closed')) throw error;
      // QEMU closes its sockets as it exits, before it is reaped.
      await this.exited;
      throw new LaunchError('exited', `${what}: ${this.exitReason}`, { cause: error });
    }
  }

  async #kill(): Promise<void> {
    const { qemu, owned } = this.#parts;
    await qemu.kill();
    const qmp = await this.#parts.qmp.catch(() => null);
    qmp?.[Symbol.dispose]();
    owned[Symbol.dispose]();
  }
}
