import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../bridge/bridge.ts';
import type { Size } from '../core/geometry.ts';
import type { GuestInput } from '../core/input.ts';
import type { Log } from '../core/log.ts';
import { VhostUserGuest } from '../guest/vhost-user/guest.ts';
import { type InputKind, VhostUserInput } from '../guest/vhost-user/input.ts';
import { qemuFlags, qemuValue } from '../qemu/flags.ts';
import { LaunchError, QemuProcess } from '../qemu/process.ts';
import { Qmp } from '../qemu/qmp.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { socketPair } from '../sys/socket.ts';

const MIB = 2 ** 20;

/** A console on the screen and on the serial port, with nothing that changes the screen by itself. */
const DEFAULT_APPEND = 'console=ttyS0 console=tty0 vt.global_cursor_default=0 consoleblank=0';

export type Accelerator = 'kvm' | 'tcg';

export interface LaunchOptions {
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
  /** How long the guest may take to show its first picture. Default 120000. */
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
 * `exited` or `timeout` and the last output of QEMU and the guest; UsageError for a size that no monitor has.
 */
export async function launchGuest(options: LaunchOptions): Promise<LaunchedGuest> {
  const { accel, log = () => undefined } = options;
  if (accel || !canOpenKvm()) return start(options, accel ?? 'tcg', log);
  try {
    return await start(options, 'kvm', log);
  } catch (error) {
    // /dev/kvm can exist and not work, for example inside a virtual machine.
    if (!(error instanceof LaunchError && error.code === 'exited')) throw error;
    log('warn', `with KVM ${error.message}\n  trying again without KVM`);
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
  const qmp = new Socket({ fd: ourQmp.take(), readable: true, writable: true });
  const guest = createGuest({ qemu, qmp, gpu, bridge, output, input: input?.sink ?? null, owned: owned.move() });
  try {
    await firstPicture(guest, gpu, timeoutMs, signal);
    return guest;
  } catch (error) {
    await guest.kill();
    throw error;
  }
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
  gpu: VhostUserGuest,
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
        timer = setTimeout(
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
function adviceFor(gpu: VhostUserGuest): string {
  if (gpu.stats.commands === 0)
    return 'its virtio-gpu driver did not start; on Linux that is CONFIG_DRM_VIRTIO_GPU, and a module (virtio-gpu.ko) has to be in the initrd or on the disk';
  return 'its virtio-gpu driver runs but has set no picture; on Linux a console (CONFIG_DRM_FBDEV_EMULATION) or a compositor does that';
}

/** What a LaunchedGuest is made of; it owns all of it. */
interface GuestParts {
  readonly qemu: QemuProcess;
  readonly qmp: Socket;
  readonly gpu: VhostUserGuest;
  readonly bridge: Bridge;
  readonly output: HeadlessOutput;
  readonly input: GuestInput | null;
  readonly owned: DisposableStack;
}

let createGuest: (parts: GuestParts) => LaunchedGuest;

/** A guest in a QEMU process, made by `launchGuest`. Its monitor stays connected whether or not a display is open. */
export class LaunchedGuest implements AsyncDisposable {
  readonly #parts: GuestParts;
  readonly #qmp: Promise<Qmp>;
  #killed: Promise<void> | null = null;

  static {
    createGuest = (parts) => new LaunchedGuest(parts);
  }

  private constructor(parts: GuestParts) {
    this.#parts = parts;
    this.#qmp = Qmp.open(parts.qmp);
    this.#qmp.catch(() => undefined);
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
   * Sends a command of QEMU's machine protocol (QMP) and resolves with its result. Rejects with QEMU's message if it
   * refuses, and with LaunchError `exited` when QEMU is gone.
   */
  async qmp(command: string, args?: Record<string, unknown>): Promise<unknown> {
    const gone = this.exited.then(() =>
      Promise.reject(new LaunchError('exited', `QMP ${command}: ${this.exitReason}`)),
    );
    return Promise.race([gone, this.#qmp.then((qmp) => qmp.command(command, args))]);
  }

  /** Kills QEMU; resolves when nothing of the guest is left: no process and no open descriptor. */
  kill(): Promise<void> {
    this.#killed ??= this.#kill();
    return this.#killed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  async #kill(): Promise<void> {
    const { qemu, qmp, owned } = this.#parts;
    await qemu.kill();
    if (!qmp.closed) await once(qmp.destroy(), 'close');
    owned[Symbol.dispose]();
  }
}
