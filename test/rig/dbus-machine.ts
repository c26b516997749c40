import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { Picture } from '../../src/core/picture.ts';
import { QemuDbusGuest, type QemuDbusGuestOptions } from '../../src/guest/qemu-dbus/guest.ts';
import { passDisplaySocket } from '../../src/qemu/dbus-display.ts';
import { QemuProcess } from '../../src/qemu/process.ts';
import { Qmp } from '../../src/qemu/qmp.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { socketPair } from '../../src/sys/socket.ts';
import { readPpm } from './picture.ts';

/** A machine of QEMU whose D-Bus display is shown on headless outputs. The caller owns it. */
export class DbusMachine implements AsyncDisposable {
  readonly process: QemuProcess;
  readonly qmp: Qmp;
  readonly guest: QemuDbusGuest;
  readonly outputs: readonly HeadlessOutput[];
  readonly bridge: Bridge;
  readonly log: string[];
  readonly #directory: string;
  readonly #owned: DisposableStack;

  private constructor(
    process: QemuProcess,
    qmp: Qmp,
    { size, ...options }: MachineOptions,
    owned: DisposableStack,
    directory: string,
  ) {
    this.process = process;
    this.qmp = qmp;
    this.#directory = directory;
    this.log = [];
    this.guest = owned.use(
      QemuDbusGuest.open({
        vm: { connect: () => passDisplaySocket(qmp) },
        log: (level, message) => this.log.push(`${level}: ${message}`),
        ...options,
      }),
    );
    const [width, height] = size ?? [1024, 768];
    this.outputs = Array.from({ length: this.guest.scanouts }, (_, index) =>
      owned.use(HeadlessOutput.open({ width, height, name: `screen ${index}` })),
    );
    this.bridge = owned.use(new Bridge(this.guest, { input: this.guest.input, keepLast: true }));
    this.outputs.forEach((output, index) => this.bridge.show(index, output));
    this.#owned = owned;
  }

  /** Starts QEMU without any device that `args` do not add. */
  static async start(args: readonly string[], options: MachineOptions = {}): Promise<DbusMachine> {
    const { renderNode, accel = 'tcg' } = options;
    const [ours, theirs] = socketPair();
    const process = new QemuProcess(
      options.qemu ?? 'qemu-system-x86_64',
      [
        ...['-nodefaults', '-no-user-config', '-accel', accel === 'tcg' ? 'tcg,tb-size=128' : accel],
        ...['-m', '256', '-vga', 'none'],
        ...['-display', `dbus,p2p=yes${renderNode === undefined ? '' : `,gl=on,rendernode=${renderNode}`}`],
        ...['-chardev', `socket,id=qmp,fd=${QemuProcess.descriptorOf(0)}`],
        ...['-mon', 'chardev=qmp,mode=control', '-chardev', 'stdio,id=log,signal=off', '-serial', 'chardev:log'],
        ...args,
      ],
      [theirs],
    );
    const gone = process.exited.then(() => Promise.reject(new Error(process.exitReason)));
    gone.catch(() => undefined);
    const qmp = await Promise.race([Qmp.open(ours), gone]);
    const owned = new DisposableStack();
    return new DbusMachine(process, qmp, options, owned, mkdtempSync(join(tmpdir(), 'dbus-machine-')));
  }

  /** The picture that QEMU has of a device's console, by the device's id. */
  async screendump(device?: string, head = 0): Promise<Picture> {
    const filename = join(this.#directory, 'screen.ppm');
    await this.qmp.command('screendump', { filename, ...(device !== undefined && { device, head }) });
    return readPpm(readFileSync(filename));
  }

  /** What a screen shows, without the cursor. */
  capture(scanout = 0): Picture | null {
    return this.outputs[scanout]!.capture({ cursor: false });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#owned[Symbol.dispose]();
    this.qmp[Symbol.dispose]();
    await this.process.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export interface MachineOptions extends Omit<QemuDbusGuestOptions, 'vm' | 'log'> {
  readonly qemu?: string;
  /** The render node that QEMU draws with: it exports dma-bufs instead of memory. */
  readonly renderNode?: string;
  /** Default `tcg`. */
  readonly accel?: 'kvm' | 'tcg';
  /** Of the outputs. */
  readonly size?: readonly [width: number, height: number];
}
