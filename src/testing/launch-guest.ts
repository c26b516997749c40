import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../bridge/bridge.ts';
import type { Size } from '../core/geometry.ts';
import type { GuestInput } from '../core/input.ts';
import type { Log } from '../core/log.ts';
import { scanoutId } from '../core/source.ts';
import { VhostUserGuest } from '../guest/vhost-user/guest.ts';
import { type InputKind, VhostUserInput } from '../guest/vhost-user/input.ts';
import { qemuFlags, qemuValue } from '../qemu/flags.ts';
import { LaunchError, QemuProcess } from '../qemu/process.ts';
import { Qmp } from '../qemu/qmp.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { socketPair } from '../sys/socket.ts';

const MIB = 2 ** 20;

/** The console on the screen and on the log, and nothing that changes the screen by itself. */
const DEFAULT_APPEND = 'console=ttyS0 console=tty0 vt.global_cursor_default=0 consoleblank=0';

export type Accelerator = 'kvm' | 'tcg';

export interface LaunchOptions {
  /** A Linux kernel to boot, with its initrd and its command line (default: a console on the screen, without a cursor). */
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  /** A disk image. What the guest writes to it is forgotten, so that each test finds the same disk. */
  readonly disk?: string;
  /** The program. Default `qemu-system-x86_64`. */
  readonly qemu?: string;
  /** More arguments of QEMU's, after ours. It has no devices by default: no network, for one. */
  readonly args?: readonly string[];
  /** Default 1024. */
  readonly memoryMiB?: number;
  /** The guest's monitor, in pixels. Default 1280x800. */
  readonly size?: Size;
  /** A keyboard and a pointer of ours. Default true. */
  readonly input?: boolean;
  /** A touchscreen of ours. Default false. */
  readonly touch?: boolean;
  /** Default: KVM where it works, else TCG, which emulates the processor and is many times slower. */
  readonly accel?: Accelerator;
  /** How long the guest's driver may take until it shows something. Default 120000. */
  readonly timeoutMs?: number;
  /** Ends the launch, which rejects with its reason. */
  readonly signal?: AbortSignal;
  readonly log?: Log;
}

/**
 * Starts QEMU with our GPU and input devices, and waits until the guest's driver shows something:
 *
 *     await using guest = await launchGuest({ disk: 'guest.qcow2' });
 *     using display = openDisplay({ guest });
 *
 * QEMU dies with this process, however that ends, and leaves no file behind. LaunchError `missing`, `exited`,
 * `timeout`, with what QEMU and the guest said last; UsageError for a size that no monitor has.
 */
export async function launchGuest(options: LaunchOptions): Promise<LaunchedGuest> {
  const { accel, log = () => undefined } = options;
  if (accel || !canOpenKvm()) return start(options, accel ?? 'tcg', log);
  try {
    return await start(options, 'kvm', log);
  } catch (error) {
    // It may be there and not work: in a virtual machine, for one.
    if (!(error instanceof LaunchError && error.code === 'exited')) throw error;
    log('warn', `with KVM ${error.message}\n  trying again without it`);
    return start(options, 'tcg', log);
  }
}

async function start(options: LaunchOptions, accel: Accelerator, log: Log): Promise<LaunchedGuest> {
  const { size = { width: 1280, height: 800 }, qemu = 'qemu-system-x86_64', timeoutMs = 120_000, signal } = options;
  signal?.throwIfAborted();
  const kinds: InputKind[] = [...(options.input === false ? [] : ['keyboard-pointer' as const]), ...(options.touch ? ['touch' as const] : [])];
  using owned = new DisposableStack();
  using theirs = new DisposableStack();
  const sockets: OwnedFd[] = [];
  const connect = (): OwnedFd => {
    const [our, their] = socketPair();
    sockets.push(theirs.use(their));
    return our;
  };
  const gpu = owned.use(VhostUserGuest.open({ socket: connect(), log }));
  const input = kinds.length > 0 ? owned.use(new VhostUserInput({ log })) : null;
  for (const kind of kinds) input?.serve(kind, connect());
  const output = owned.use(HeadlessOutput.open({ ...size, name: 'test display' }));
  const bridge = owned.use(new Bridge(gpu, { log, ...(input && { input: input.sink }) }));
  bridge.show(scanoutId(0), output);
  using ourQmp = connect();
  const process = new QemuProcess(qemu, qemuArgs(options, accel, kinds.length), sockets);
  const qmp = new Socket({ fd: ourQmp.take(), readable: true, writable: true });
  const guest = new LaunchedGuest({ qemu: process, qmp, gpu, bridge, output, input: input?.sink ?? null, owned: owned.move() });
  try {
    await guest.lit(timeoutMs, signal);
    return guest;
  } catch (error) {
    await guest.kill();
    throw error;
  }
}

/** Sockets in the order of QEMU's descriptors: GPU, input devices, QMP. */
function qemuArgs({ kernel, initrd, append = DEFAULT_APPEND, disk, memoryMiB = 1024, args = [] }: LaunchOptions, accel: Accelerator, inputs: number): string[] {
  const socket = (index: number): number => QemuProcess.descriptorOf(index);
  const flags = qemuFlags({ socket: socket(0), inputs: Array.from({ length: inputs }, (_, index) => socket(1 + index)), memoryBytes: memoryMiB * MIB, generic: false });
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    // With more than one processor TCG keeps the memory barriers that rings in shared memory stand on.
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

/** What a LaunchedGuest is made of, all of it its own. */
export interface GuestParts {
  readonly qemu: QemuProcess;
  readonly qmp: Socket;
  readonly gpu: VhostUserGuest;
  readonly bridge: Bridge;
  readonly output: HeadlessOutput;
  readonly input: GuestInput | null;
  readonly owned: DisposableStack;
}

/** A guest in a QEMU of ours: `launchGuest` makes it. Its one monitor is there as long as it is, whoever looks. */
export class LaunchedGuest implements AsyncDisposable {
  readonly #parts: GuestParts;
  readonly #qmp: Promise<Qmp>;
  #killed: Promise<void> | null = null;

  constructor(parts: GuestParts) {
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

  /** Its keyboard, pointer and touchscreen; null if it was to have none. */
  get input(): GuestInput | null {
    return this.#parts.input;
  }

  /** QEMU's process. */
  get pid(): number {
    return this.#parts.qemu.pid!;
  }

  /** What the guest said on its serial console, and QEMU on stderr; the last 64 K characters. */
  get log(): string {
    return this.#parts.qemu.log;
  }

  /** Resolves when QEMU is gone: it was killed, or its guest powered off. */
  get exited(): Promise<void> {
    return this.#parts.qemu.exited;
  }

  /** How QEMU ended, and its last words. */
  get obituary(): string {
    return this.#parts.qemu.obituary;
  }

  /** A command of QEMU's machine protocol (QMP); its answer. Rejects with QEMU's words when it refuses, LaunchError `exited` when it is gone. */
  async qmp(command: string, args?: Record<string, unknown>): Promise<unknown> {
    const gone = this.exited.then(() => Promise.reject(new LaunchError('exited', `QMP ${command}: ${this.obituary}`)));
    return Promise.race([gone, this.#qmp.then((qmp) => qmp.command(command, args))]);
  }

  /** Resolves when the guest's driver shows something. Rejects with LaunchError, or the reason of the signal. */
  async lit(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { output, gpu } = this.#parts;
    let stop = (): void => undefined;
    let aborted = (): void => undefined;
    let timer: NodeJS.Timeout | undefined;
    try {
      await Promise.race([
        new Promise<void>((resolve) => (stop = output.onFrame((frame) => !frame.isDark && resolve()))),
        this.exited.then(() => Promise.reject(new LaunchError('exited', `the guest showed nothing: ${this.obituary}`))),
        new Promise<never>((_, reject) => {
          timer = setTimeout(() => reject(new LaunchError('timeout', `the guest showed nothing for ${timeoutMs / 1000} s: ${adviceFor(gpu)}\n${this.obituary}`)), timeoutMs);
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

  /** Ends QEMU at once; resolves when nothing of the guest is left: no process, no open descriptor. */
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

/** What of the guest is up says what is missing. */
function adviceFor(gpu: VhostUserGuest): string {
  if (gpu.stats.commands === 0) return 'its driver for virtio-gpu did not start; Linux has it with CONFIG_DRM_VIRTIO_GPU, as a module (virtio-gpu.ko) it has to be in the initrd or on the disk';
  return 'its driver for virtio-gpu is up and sets no picture; on Linux a console (CONFIG_DRM_FBDEV_EMULATION) or a compositor does';
}
