import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Size } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { cpuTime } from './cpu-time.ts';
import { Flipper } from './flipper.ts';

const RAM = 0x4000_0000;

interface Options {
  readonly output: string;
  /** Of the guest's pictures. */
  readonly size: Size;
  /** The part that is new in each frame; default: all of it. */
  readonly drawn?: Size;
  /** More of `scanout run`. */
  readonly args?: readonly string[];
  /** The Node that runs it, and its options; default: that of this process. */
  readonly node?: readonly string[];
}

/** A `scanout run` in its own process, and a guest that flips between two pictures. */
export class FlippingBridge implements AsyncDisposable {
  readonly flipper: Flipper;
  /** The path of the bridge's control socket. */
  readonly control: string;
  readonly #run: ScanoutRun;
  readonly #stack: DisposableStack;

  private constructor(flipper: Flipper, control: string, run: ScanoutRun, stack: DisposableStack) {
    this.flipper = flipper;
    this.control = control;
    this.#run = run;
    this.#stack = stack;
  }

  static async open({ output, size, drawn, args = [], node }: Options): Promise<FlippingBridge> {
    using stack = new DisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'scanout-bench-bridge-'));
    stack.defer(() => rmSync(folder, { recursive: true }));
    const [socket, control] = [join(folder, 'guest'), join(folder, 'control')];
    const run = await ScanoutRun.startOn(
      node ?? [process.execPath],
      ...['--guest', `vhost-user:${socket}`, '--output', output, '--control', control],
      ...args,
    );
    const memory = [{ guestAddress: RAM, size: 2 * size.width * size.height * 4 }];
    const guest = stack.use(FrontEnd.create({ socket: connectUnix(socket), memory }));
    await guest.connect();
    const flipper = new Flipper(guest, size, drawn);
    await flipper.prepare(RAM);
    return new FlippingBridge(flipper, control, run, stack.move());
  }

  /** Milliseconds of processor time of the bridge so far. */
  get cpuMs(): number {
    return cpuTime([this.#run.pid]).host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#run[Symbol.asyncDispose]();
    this.#stack[Symbol.dispose]();
  }
}
