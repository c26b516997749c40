/** What the sandbox of `scanout run` costs a frame: each system call is checked by a filter. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutWeston, startWeston } from '../rig/weston.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';
import { cpuTime } from './cpu-time.ts';

const [WIDTH, HEIGHT] = [640, 480];
/** Of each frame, so few pixels are new that what is copied costs little. */
const SIDE = 64;
const RAM = 0x4000_0000;
const SIZE = WIDTH * HEIGHT * 4;
const RESPONSE = 24;
const WARM_UP = 3000;
const ROUNDS = 9;
const GOAL = 1.05;

/** A bridge of its own process, and a guest that flips between two pictures. */
class Side implements AsyncDisposable {
  readonly #bridge: ScanoutRun;
  readonly #guest: FrontEnd;
  readonly #folder: string;
  #flips = 0;

  private constructor(bridge: ScanoutRun, guest: FrontEnd, folder: string) {
    this.#bridge = bridge;
    this.#guest = guest;
    this.#folder = folder;
  }

  static async open(output: string, sandbox: 'on' | 'off'): Promise<Side> {
    const folder = mkdtempSync(join(tmpdir(), 'scanout-sandbox-'));
    const socket = join(folder, 'guest.sock');
    const bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${socket}`, '--output', output, '--control', join(folder, 'control.sock')],
      ...(sandbox === 'off' ? ['--sandbox=off'] : []),
    );
    const guest = FrontEnd.create({ socket: connectUnix(socket), memory: [{ guestAddress: RAM, size: 2 * SIZE }] });
    await guest.connect();
    for (const id of [1, 2]) {
      await guest.request(0, requests.create2d(id, WIDTH, HEIGHT), RESPONSE);
      await guest.request(0, requests.attach(id, requests.contiguous(SIZE, RAM + (id - 1) * SIZE)), RESPONSE);
    }
    return new Side(bridge, guest, folder);
  }

  /** Microseconds of processor time per flip, each of which is on screen before the next. */
  async cpuUs(flips: number): Promise<number> {
    const before = cpuTime([this.#bridge.pid]).host;
    for (let flip = 0; flip < flips; flip++) {
      const id = (this.#flips++ % 2) + 1;
      void this.#guest.request(0, requests.setScanout(0, id, 0, 0, WIDTH, HEIGHT), RESPONSE);
      void this.#guest.request(0, requests.transfer(id, 0, 0, SIDE, SIDE, 0), RESPONSE);
      await this.#guest.request(0, requests.flush(id, 0, 0, SIDE, SIDE, { id: BigInt(this.#flips) }), RESPONSE);
    }
    return ((cpuTime([this.#bridge.pid]).host - before) * 1000) / flips;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#guest[Symbol.dispose]();
    await this.#bridge[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true });
  }
}

async function compare(name: string, outputs: readonly [string, string], flips: number): Promise<Measurement> {
  await using inside = await Side.open(outputs[0], 'on');
  await using outside = await Side.open(outputs[1], 'off');
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
