import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EV } from '../../protocols/input-event-codes.ts';
import { InnerQmp } from '../rig/inner-qmp.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { InputDriver } from './input-driver.ts';
import { FakeVmm, HEIGHT, Pictures, WIDTH } from './kiosk-rig.ts';
import { vkmsCard } from './kms-rig.ts';
import { Udevd } from './seat-rig.ts';

/** Positions of QEMU's devices, and of the guest's, are below this. */
export const AXIS = 0x8000;
/** The tracking id of no touch. */
export const UP = -1;

/* Events as `InputDriver` has them. */
export const key = (code: number, value: number): string => `${EV.KEY} ${code} ${value}`;
export const rel = (code: number, value: number): string => `${EV.REL} ${code} ${value}`;
export const abs = (code: number, value: number): string => `${EV.ABS} ${code} ${value}`;

/** A pixel's place on the axis. */
export const axis = (position: number, size: number): number => Math.ceil((position * AXIS) / size);

/** A machine whose input devices udevd knows, QEMU's own among them, and what its kiosks show. */
export class InputMachine implements AsyncDisposable {
  /** For sockets. */
  readonly directory = mkdtempSync(join(tmpdir(), 'input-machine-'));
  readonly pictures = new Pictures();
  readonly qmp = new InnerQmp();
  readonly #udevd: Udevd;

  private constructor(udevd: Udevd) {
    this.#udevd = udevd;
  }

  static async start(): Promise<InputMachine> {
    const udevd = await Udevd.start();
    execFileSync('udevadm', ['trigger', '--action=add', '--subsystem-match=input']);
    execFileSync('udevadm', ['settle']);
    return new InputMachine(udevd);
  }

  /** A key of QEMU's keyboard. */
  press(qcode: string, down: boolean): void {
    this.qmp.sendInput({ type: 'key', data: { key: { type: 'qcode', data: qcode }, down } });
  }

  type(...qcodes: string[]): void {
    for (const qcode of qcodes) for (const down of [true, false]) this.press(qcode, down);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    using _pictures = this.pictures;
    await using _udevd = this.#udevd;
    using _qmp = this.qmp;
    rmSync(this.directory, { recursive: true });
  }
}

/** A kiosk with a guest that shows a picture and takes input. */
export class Kiosk implements AsyncDisposable {
  readonly run: ScanoutRun;
  readonly keyboard: InputDriver;
  readonly touchscreen: InputDriver;
  readonly #vmm: FakeVmm;

  private constructor(run: ScanoutRun, keyboard: InputDriver, touchscreen: InputDriver, vmm: FakeVmm) {
    this.run = run;
    this.keyboard = keyboard;
    this.touchscreen = touchscreen;
    this.#vmm = vmm;
  }

  /** `directory` is for its sockets, `args` are added to those of the command. */
  static async start(directory: string, pictures: Pictures, ...args: string[]): Promise<Kiosk> {
    const socket = (name: string) => join(directory, name);
    const run = await ScanoutRun.start(
      ...['--guest', `vhost-user:${socket('gpu')}`, '--output', `kms:${vkmsCard()!},mode=${WIDTH}x${HEIGHT}`],
      ...['--input', `vhost-user:${socket('input')}`, '--input', `vhost-user:${socket('touch')},kind=touch`],
      ...['--control', socket('control'), ...args],
    );
    const keyboard = await InputDriver.connect(socket('input'));
    const touchscreen = await InputDriver.connect(socket('touch'));
    const vmm = await FakeVmm.connect(socket('gpu'));
    await vmm.show(pictures.one);
    return new Kiosk(run, keyboard, touchscreen, vmm);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of [this.#vmm, this.touchscreen, this.keyboard]) each[Symbol.dispose]();
    await this.run[Symbol.asyncDispose]();
  }
}
