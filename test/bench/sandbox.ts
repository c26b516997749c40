/** What the sandbox of `scanout run` costs a frame: each system call is checked by a filter. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutWeston, startWeston } from '../rig/weston.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';
import { cpuTime } from './cpu-time.ts';
import { Flipper } from './flipper.ts';

const [WIDTH, HEIGHT] = [640, 480];
/** Of each frame, so few pixels are new that what is copied costs little. */
const DRAWN = { width: 64, height: 64 };
const RAM = 0x4000_0000;
const BYTES = WIDTH * HEIGHT * 4;
const WARM_UP = 3000;
const ROUNDS = 9;
const GOAL = 1.05;

/** A bridge of its own process, and a guest that flips between two pictures. */
class Side implements AsyncDisposable {
  readonly #bridge: ScanoutRun;
  readonly #guest: FrontEnd;
  readonly #flipper: Flipper;

  private constructor(bridge: ScanoutRun, guest: FrontEnd, flipper: Flipper) {
    this.#bridge = bridge;
    this.#guest = guest;
    this.#flipper = flipper;
  }

  /** Its sockets are in `folder`. */
  static async open(folder: string, output: string, sandbox: 'on' | 'off'): Promise<Side> {
    const socket = join(folder, `guest-${sandbox}`);
    const bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${socket}`, '--output', output, '--control', join(folder, `control-${sandbox}`)],
      ...(sandbox === 'off' ? ['--sandbox=off'] : []),
    );
    const guest = FrontEnd.create({ socket: connectUnix(socket), memory: [{ guestAddress: RAM, size: 2 * BYTES }] });
    await guest.connect();
    const flipper = new Flipper(guest, { width: WIDTH, height: HEIGHT }, DRAWN);
    await flipper.prepare(RAM);
    return new Side(bridge, guest, flipper);
  }

  /** Microseconds of processor time per flip. */
  async cpuUs(flips: number): Promise<number> {
    const before = cpuTime([this.#bridge.pid]).host;
    for (let flip = 0; flip < flips; flip++) await this.#flipper.flip();
    return ((cpuTime([this.#bridge.pid]).host - before) * 1000) / flips;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#guest[Symbol.dispose]();
    await this.#bridge[Symbol.asyncDispose]();
  }
}

async function compare(name: string, outputs: readonly [string, string], flips: number): Promise<Measurement> {
  using stack = new DisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'scanout-sandbox-'));
  stack.defer(() => rmSync(folder, { recursive: true }));
  await using inside = await Side.open(folder, outputs[0], 'on');
  await using outside = await Side.open(folder, outputs[1], 'off');
  await inside.cpuUs(WARM_UP);
  await outside.cpuUs(WARM_UP);
  const { ours, peer } = await alternate(
    ROUNDS,
    () => inside.cpuUs(flips),
    () => outside.cpuUs(flips),
  );
  return {
    name: `sandbox/${name}`,
    unit: 'us/flip',
    better: 'less',
    ours,
    peer: { name: '--sandbox=off', samples: peer },
    goal: GOAL,
  };
}

export const sandbox: Benchmark = {
  name: 'sandbox',
  about: 'a flip of `scanout run` in its sandbox, against --sandbox=off',
  needsQuiet: true,
  missing: () => (skipWithoutWeston() ? 'weston: sh test/rig/install.sh' : null),
  async run({ progress }) {
    progress('headless');
    const headless = `headless:${WIDTH}x${HEIGHT}@240`;
    const first = await compare('headless', [headless, headless], 1000);
    progress('windows');
    const fast = { size: [WIDTH, HEIGHT] as const, extraArgs: ['--refresh-rate=240000'] };
    await using a = await startWeston(fast);
    await using b = await startWeston(fast);
    return [first, await compare('windows', [`wayland:${a.socket}`, `wayland:${b.socket}`], 1000)];
  },
};
