import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { HeadlessOutput } from '../../display/headless/output.ts';
import type { Bridge } from '../bridge/bridge.ts';
import type { GuestInput } from '../core/input.ts';
import type { VhostUserGuest } from '../guest/vhost-user/guest.ts';
import type { DisposableStack } from '../sys/disposable-stack.ts';
import { LaunchError, type QemuProcess } from '../qemu/process.ts';
import { Qmp } from '../qemu/qmp.ts';

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
