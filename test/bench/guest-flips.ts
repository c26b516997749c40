import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requestStats } from '../../src/control/client.ts';
import type { SessionStats } from '../../src/control/stats.ts';
import { guestImage } from '../rig/guest-image.ts';
import { startDrawing, type Draw } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { referenceProgram, startReferenceBackend } from '../rig/reference-backend.ts';
import type { BenchContext, Benchmark, Measurement } from './benchmark.ts';
import { cpuTime } from './cpu-time.ts';

const SIZES = [
  [1280, 800],
  [1920, 1080],
] as const;

const PROGRAM = join(import.meta.dirname, '../../dist/src/cli/main.js');

/** Rounds that count, after one that does not. */
const ROUNDS = 5;
const FULL_RATE_MS = 1500;
/** Slow enough for every back end to show all frames. */
const PACED_US = 20_000;
const PACED_FLIPS = 150;

export interface Backend extends AsyncDisposable {
  readonly socket: string;
  readonly pid: number;
  /** Frames shown so far; null if the back end shows every flip. */
  frames(): Promise<number | null>;
}

/** Starts the built `scanout run` in its own process; without `guest` it listens for a front end. */
export async function startOurs(output: string, guest?: string): Promise<Backend> {
  const dir = mkdtempSync(join(tmpdir(), 'scanout-bench-'));
  const socket = join(dir, 'socket');
  const control = join(dir, 'control');
  const args = [
    PROGRAM,
    'run',
    '--guest',
    guest ?? `vhost-user:${socket}`,
    '--output',
    output,
    '--control',
    control,
    '--log-level',
    'error',
  ];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  await Promise.race([
    once(child.stdout, 'data'),
    ended.then(() => Promise.reject(new Error(`${args.join(' ')} exited before it was listening`))),
  ]);
  return {
    socket,
    pid: child.pid!,
    async frames() {
      const { scanouts } = (await requestStats(control)) as SessionStats;
      return scanouts[0]?.screens[0]?.frames ?? 0;
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function startReference(): Promise<Backend> {
  const { socket, pid, [Symbol.asyncDispose]: dispose } = await startReferenceBackend();
  return { socket, pid, frames: () => Promise.resolve(null), [Symbol.asyncDispose]: dispose };
}

interface Sample {
  readonly flipsPerSecond: number;
  readonly shownPerSecond: number;
  /** Milliseconds of processor time per flip. */
  readonly hostMs: number;
  readonly vcpuMs: number;
}

/** A guest on a back end, both ready to flip. */
class Side implements AsyncDisposable {
  readonly name: string;
  readonly fullRate: Sample[] = [];
  readonly paced: Sample[] = [];
  readonly #backend: Backend;
  readonly #guest: Guest;
  readonly #draw: Draw;
  #flipsPerSecond = 100;

  private constructor(name: string, backend: Backend, guest: Guest, draw: Draw) {
    this.name = name;
    this.#backend = backend;
    this.#guest = guest;
    this.#draw = draw;
  }

  /** Takes ownership of the back end, even on failure. */
  static async boot(name: string, backend: Backend, [width, height]: readonly [number, number]): Promise<Side> {
    await using stack = new AsyncStack();
    stack.use(backend);
    const guest = stack.use(
      await bootGuest({ gpu: { kind: 'vhost-user', socket: backend.socket }, size: [width, height] }),
    );
    const draw = await startDrawing(guest);
    await draw(`mode ${width} ${height}`);
    stack.keep();
    return new Side(name, backend, guest, draw);
  }

  async round(counts: boolean): Promise<void> {
    const fullRate = await this.#flip(Math.ceil((this.#flipsPerSecond * FULL_RATE_MS) / 1000), 0);
    this.#flipsPerSecond = fullRate.flipsPerSecond;
    const paced = await this.#flip(PACED_FLIPS, PACED_US);
    if (!counts) return;
    this.fullRate.push(fullRate);
    this.paced.push(paced);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#guest[Symbol.asyncDispose]();
    await this.#backend[Symbol.asyncDispose]();
  }

  async #flip(flips: number, everyUs: number): Promise<Sample> {
    const pids = [this.#backend.pid, this.#guest.pid];
    const framesBefore = await this.#backend.frames();
    const before = cpuTime(pids);
    const seconds = Number(await this.#draw(`flip ${flips} plain every ${everyUs}`)) / 1e6;
    const after = cpuTime(pids);
    const frames = await this.#backend.frames();
    const shown = frames === null ? flips : frames - framesBefore!;
    return {
      flipsPerSecond: flips / seconds,
      shownPerSecond: shown / seconds,
      hostMs: (after.host - before.host) / flips,
      vcpuMs: (after.vcpu - before.vcpu) / flips,
    };
  }
}

/** Disposes what `use` added, in reverse order, unless `keep` was called. */
class AsyncStack implements AsyncDisposable {
  #things: AsyncDisposable[] = [];

  use<T extends AsyncDisposable>(thing: T): T {
    this.#things.push(thing);
    return thing;
  }

  keep(): void {
    this.#things = [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const thing of this.#things.reverse()) await thing[Symbol.asyncDispose]();
  }
}

async function measure(size: readonly [number, number], progress: BenchContext['progress']): Promise<Measurement[]> {
  const mode = size.join('x');
  await using stack = new AsyncStack();
  const boot = async (name: string, backend: Promise<Backend>): Promise<Side> => {
    progress(`${mode}: booting a guest on ${name}`);
    return stack.use(await Side.boot(name, await backend, size));
  };
  // A refresh rate beyond what a guest reaches, so that only the work is a limit, as for the peer, which has no refresh.
  const ours = [await boot('headless', startOurs(`headless:${mode}@1000`)), await boot('vmm', startOurs('vmm'))];
  const peer = await boot('vhost-user-gpu', startReference());
  for (let round = 0; round <= ROUNDS; round++) {
    progress(`${mode}: round ${round} of ${ROUNDS}`);
    for (const side of [...ours, peer]) await side.round(round > 0);
  }
  return ours.flatMap((side) => rows(mode, side, peer));
}

function rows(mode: string, side: Side, peer: Side): Measurement[] {
  const row = (
    what: string,
    unit: string,
    better: 'more' | 'less',
    goal: number | null,
    of: (side: Side) => number[],
  ): Measurement => ({
    name: `guest-flips/${mode} ${side.name} ${what}`,
    unit,
    better,
    ours: of(side),
    peer: { name: `${referenceProgram} (C)`, samples: of(peer) },
    goal,
  });
  return [
    // Without goals at full rate: ours shows the newest frames, the peer all of them.
    row('flips', '1/s', 'more', null, (s) => s.fullRate.map((sample) => sample.flipsPerSecond)),
    row('shown', '1/s', 'more', null, (s) => s.fullRate.map((sample) => sample.shownPerSecond)),
    row('host CPU', 'ms/flip', 'less', null, (s) => s.fullRate.map((sample) => sample.hostMs)),
    row('guest CPU', 'ms/flip', 'less', null, (s) => s.fullRate.map((sample) => sample.vcpuMs)),
    row('shown of 50/s', '1/s', 'more', null, (s) => s.paced.map((sample) => sample.shownPerSecond)),
    row('host CPU at 50/s', 'ms/flip', 'less', 1, (s) => s.paced.map((sample) => sample.hostMs)),
  ];
}

/** What is missing to show a guest with the built command; null if nothing. */
export function missingForGuests(): string | null {
  if (!existsSync(PROGRAM)) return `no ${PROGRAM}: npm run build`;
  try {
    guestImage();
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

export const guestFlips: Benchmark = {
  name: 'guest-flips',
  about: "a real guest's page flips on our device and on QEMU's back end in C, at full speed and at 50 per second",
  needsQuiet: true,
  missing() {
    if (!existsSync(referenceProgram)) return `no ${referenceProgram}: sh test/rig/install.sh`;
    return missingForGuests();
  },
  async run({ progress }) {
    const measurements: Measurement[] = [];
    for (const size of SIZES) measurements.push(...(await measure(size, progress)));
    return measurements;
  },
};
