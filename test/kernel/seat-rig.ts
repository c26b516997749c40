import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readFileSync, rmSync, watch } from 'node:fs';
import type { Readable } from 'node:stream';
import { AtomicRequest } from '../../display/kms/atomic.ts';
import type { KmsDevice } from '../../display/kms/device.ts';
import type { BlobId } from '../../display/kms/ids.ts';
import { createBlob, destroyBlob, type Mode, type Pipe, Properties, readBlob } from '../../display/kms/resources.ts';
import type { LoginSeatListener } from '../../display/kms/seat.ts';
import { DRM_MODE_ATOMIC_ALLOW_MODESET, DRM_MODE_OBJECT_CRTC } from '../../protocols/drm-mode.ts';
import { VT_ACTIVATE } from '../../protocols/linux-vt.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { asNobody } from '../rig/as-nobody.ts';
import { firstPipe, skipWithoutVkms } from './kms-rig.ts';
import { expectSettled, skipWithoutProgram } from './machine.ts';

export const UDEVD = '/lib/systemd/systemd-udevd';
const SEATD = '/usr/sbin/seatd';
const GROUP = 'video';

/** For `describe.skipIf`, as `skipWithoutVkms`. */
export function skipWithoutSeatd(): boolean {
  return skipWithoutVkms() || skipWithoutProgram(SEATD);
}

/** A real seatd, for members of the group `video`. */
export class Seatd implements AsyncDisposable {
  readonly #process: ChildProcess;
  #isEnded = false;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  /** Resolves when it answers. By default its seat is bound to the virtual terminals. */
  static async start({ isVtBound = true } = {}): Promise<Seatd> {
    const child = spawn(SEATD, ['-g', GROUP, '-l', 'silent', '-n', '3'], {
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
      env: { ...process.env, SEATD_VTBOUND: isVtBound ? '1' : '0' },
    });
    await once(child.stdio[3] as Readable, 'data');
    return new Seatd(child);
  }

  /** Ends it. Rejects if it had ended by itself. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    this.#isEnded = true;
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const closed = once(this.#process, 'close');
      this.#process.kill(signal);
      await closed;
    }
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== 0 && signalCode !== signal) throw new Error(`seatd ended by itself: ${signalCode ?? exitCode}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isEnded) await this.end();
  }
}

/** A real udevd, which knows no devices yet. */
export class Udevd implements AsyncDisposable {
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  /** Resolves when it accepts events. */
  static async start(): Promise<Udevd> {
    mkdirSync('/run/udev', { recursive: true });
    const watcher = watch('/run/udev');
    const listens = new Promise<void>((resolve) => {
      watcher.on('change', (_, file) => {
        if (file === 'control') resolve();
      });
    });
    const child = spawn(UDEVD, { stdio: 'ignore' });
    await listens;
    watcher.close();
    return new Udevd(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'close');
    this.#process.kill();
    await ended;
    rmSync('/run/udev', { recursive: true });
  }
}

/** Makes this process a user who may do nothing but talk to seatd, until disposed. */
export function seatUser(): Disposable {
  return asNobody(Number(new RegExp(`^${GROUP}:[^:]*:(\\d+)`, 'm').exec(readFileSync('/etc/group', 'utf8'))![1]));
}

export function asSeatUser<T>(act: () => T): T {
  using _ = seatUser();
  return act();
}

/** The virtual terminal in front: `tty1`. */
export function terminalInFront(): string {
  return readFileSync('/sys/class/tty/tty0/active', 'utf8').trim();
}

/**
 * Switches to a virtual terminal. The kernel asks seatd for consent, so VT_WAITACTIVE would stop this process for good if
 * that did not answer.
 */
export async function switchTo(terminal: string): Promise<void> {
  using console = OwnedFd.adopt(openSync('/dev/tty0', 'r+'));
  ioctl(console, VT_ACTIVATE, 'VT_ACTIVATE', Number(terminal.slice('tty'.length)));
  await expectSettled(terminalInFront, terminal);
}

/** The events of a seat, one after the other. */
export class SeatEvents implements LoginSeatListener {
  readonly events: string[] = [];
  #onEvent: (() => void) | null = null;

  paused(): void {
    this.#add('paused');
  }

  resumed(): void {
    this.#add('resumed');
  }

  async next(): Promise<string> {
    while (this.events.length === 0) await new Promise<void>((resolve) => (this.#onEvent = resolve));
    return this.events.shift()!;
  }

  #add(event: string): void {
    this.events.push(event);
    this.#onEvent?.();
  }
}

/** Sets a mode on the first monitor's CRTC, without a picture, which only the card's master may do. */
export class Modeset implements Disposable {
  readonly #device: KmsDevice;
  readonly #pipe: Pipe;
  readonly #request: AtomicRequest;
  readonly #mode: Mode;
  readonly #blob: BlobId;

  constructor(device: KmsDevice) {
    const { pipe, offered } = firstPipe(device);
    const { connector, crtc } = pipe;
    this.#device = device;
    this.#pipe = pipe;
    this.#mode = offered.find(({ width }) => width === 640)!;
    this.#blob = createBlob(device, this.#mode.info);
    this.#request = new AtomicRequest([
      { id: connector.id, properties: [connector.properties.id('CRTC_ID')] },
      { id: crtc.id, properties: [crtc.properties.id('MODE_ID'), crtc.properties.id('ACTIVE')] },
    ]);
    [crtc.id, this.#blob, 1].forEach((value, slot) => this.#request.set(slot, value));
  }

  /** 0, or -errno. */
  commit(): number {
    return this.#request.commit(this.#device, DRM_MODE_ATOMIC_ALLOW_MODESET);
  }

  /** Whether the CRTC is on, in this mode. */
  get isSet(): boolean {
    const crtc = Properties.read(this.#device, this.#pipe.crtc.id, DRM_MODE_OBJECT_CRTC);
    const mode = readBlob(this.#device, crtc.value('MODE_ID'));
    return crtc.value('ACTIVE') === 1 && mode !== null && Buffer.compare(mode, this.#mode.info) === 0;
  }

  [Symbol.dispose](): void {
    this.#request[Symbol.dispose]();
    destroyBlob(this.#device, this.#blob);
  }
}
