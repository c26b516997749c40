/** What each of many guests costs that are shown by one process. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Size } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { PAGE_SIZE } from '../../src/sys/mapping.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { scattered } from '../unit/guest/virtio-gpu/requests.ts';
import type { Benchmark, BenchContext, Measurement } from './benchmark.ts';
import { cpuTime } from './cpu-time.ts';
import { Flipper } from './flipper.ts';
import { Host } from './host.ts';

const SIZE = { width: 1280, height: 800 };
const GUESTS = 32;
const ROUNDS = 5;
/** Of each guest in a round: 5 seconds. */
const FLIPS = 300;

const LARGE = { width: 3840, height: 2160 };
const LARGE_GUESTS = 64;
/** Linear views begin when a picture is read for the second time. */
const LARGE_FLIPS = 4;
/** After this, what is mapped beside the copies is complete. */
const SETTLE_MS = 3000;

/** Two shadows and the pages of each large guest, in bytes, and some more. */
const NEEDED = 8 * 2 ** 30;

const RAM = 0x4000_0000;
/** The memory of each guest, by its name in the list of mappings. */
const GUEST_MEMORY = '/memfd:guest-ram';

/** Writes the time to a socket, for most of a round, in step with nothing. Prints the answer. */
const WAKER = `
  const socket = require('node:net').connect(process.argv[1]);
  const stamp = Buffer.alloc(8);
  let left = 900;
  const timer = setInterval(() => {
    stamp.writeBigUInt64LE(process.hrtime.bigint());
    if (left-- > 0) socket.write(Buffer.from(stamp));
    else { clearInterval(timer); socket.end(); }
  }, 5);
  socket.pipe(process.stdout);
`;

/** A process that shows some guests, and these guests, which flip between two pictures in scattered pages. */
class Guests implements AsyncDisposable {
  readonly flippers: readonly Flipper[];
  readonly #host: Host;
  readonly #folder: string;
  readonly #stack: DisposableStack;

  private constructor(flippers: readonly Flipper[], host: Host, folder: string, stack: DisposableStack) {
    this.flippers = flippers;
    this.#host = host;
    this.#folder = folder;
    this.#stack = stack;
  }

  static async start(count: number, size: Size): Promise<Guests> {
    using stack = new DisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'scanout-bench-guests-'));
    stack.defer(() => rmSync(folder, { recursive: true }));
    const host = await Host.start('many-guests-host', folder, ...[count, size.width, size.height].map(String));
    const flippers: Flipper[] = [];
    const pages = Math.ceil((size.width * size.height * 4) / PAGE_SIZE);
    // Both pictures are in the same, every second page. What they show does not matter.
    const memory = [{ guestAddress: RAM, size: 2 * pages * PAGE_SIZE }];
    for (let i = 0; i < count; i++) {
      const guest = stack.use(FrontEnd.create({ socket: connectUnix(join(folder, String(i))), memory }));
      await guest.connect();
      const flipper = new Flipper(guest, size);
      await flipper.prepare(scattered(pages, RAM));
      flippers.push(flipper);
    }
    return new Guests(flippers, host, folder, stack.move());
  }

  /** The refreshes without a flip, of all guests, and the share of a processor that the process took. */
  async flip(flips: number): Promise<{ missed: number; cpu: number }> {
    const started = performance.now();
    const before = cpuTime([this.#host.pid]).host;
    const missed = await Promise.all(this.flippers.map((flipper) => flipper.missed(flips)));
    const cpuMs = cpuTime([this.#host.pid]).host - before;
    return { missed: missed.reduce((sum, count) => sum + count), cpu: cpuMs / (performance.now() - started) };
  }

  /** The 99th percentile, ms. */
  async wakeUpLatency(): Promise<number> {
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', WAKER, join(this.#folder, 'wake-ups')]);
    return Number(stdout);
  }

  /** What the process holds in memory, without the guests' own, in MB. */
  memory(): number {
    const mappings = readFileSync(`/proc/${this.#host.pid}/smaps`, 'latin1').split(/^(?=[\da-f]+-[\da-f]+ )/m);
    const sizes = mappings
      .filter((mapping) => !mapping.includes(GUEST_MEMORY))
      .map((mapping) => Number(/^Rss: +(\d+) kB$/m.exec(mapping)![1]));
    return sizes.reduce((sum, kilobytes) => sum + kilobytes) / 1024;
  }

  mappings(): number {
    return readFileSync(`/proc/${this.#host.pid}/maps`, 'latin1').trimEnd().split('\n').length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#host[Symbol.asyncDispose]();
    this.#stack[Symbol.dispose]();
  }
}

async function flipping(progress: BenchContext['progress']): Promise<Measurement[]> {
  progress('one guest');
  const alone = await memoryOfOne();
  progress(`${GUESTS} guests: warming up`);
  await using guests = await Guests.start(GUESTS, SIZE);
  await guests.flip(FLIPS);
  const memory = (guests.memory() - alone) / (GUESTS - 1);
  const rounds: { missed: number; cpu: number }[] = [];
  const latencies: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    progress(`${GUESTS} guests: round ${round + 1} of ${ROUNDS}`);
    rounds.push(await guests.flip(FLIPS));
    // Not while the others are measured, because it wakes the process.
    const [latency] = await Promise.all([guests.wakeUpLatency(), guests.flip(FLIPS)]);
    latencies.push(latency);
  }
  const row = (what: string, unit: string, goal: number, ours: readonly number[]): Measurement => ({
    name: `many-guests/${GUESTS} guests of ${SIZE.width}x${SIZE.height} at 60 Hz, ${what}`,
    unit,
    better: 'less',
    ours,
    peer: null,
    goal,
  });
  return [
    row(
      'CPU',
      'of a core',
      0.45,
      rounds.map(({ cpu }) => cpu),
    ),
    row(`refreshes missed in ${ROUNDS * FLIPS * GUESTS}`, 'blanks', 0, [
      rounds.reduce((sum, { missed }) => sum + missed, 0),
    ]),
    row('99th percentile of wake-up latency', 'ms', 2, latencies),
    row('memory of each beside its own', 'MB', 12, [memory]),
  ];
}

async function memoryOfOne(): Promise<number> {
  await using guests = await Guests.start(1, SIZE);
  await guests.flip(FLIPS);
  return guests.memory();
}

async function large(progress: BenchContext['progress']): Promise<Measurement[]> {
  progress(`${LARGE_GUESTS} guests of 4K`);
  await using guests = await Guests.start(LARGE_GUESTS, LARGE);
  const shown = await Promise.allSettled(
    guests.flippers.map(async (flipper) => {
      for (let flip = 0; flip < LARGE_FLIPS; flip++) await flipper.flip();
    }),
  );
  await setTimeout(SETTLE_MS);
  const name = `many-guests/${LARGE_GUESTS} guests of ${LARGE.width}x${LARGE.height}`;
  return [
    {
      name: `${name}, shown`,
      unit: 'guests',
      better: 'more',
      ours: [shown.filter(({ status }) => status === 'fulfilled').length],
      peer: null,
      goal: LARGE_GUESTS,
    },
    { name: `${name}, mappings`, unit: 'mappings', better: 'less', ours: [guests.mappings()], peer: null, goal: null },
  ];
}

export const manyGuests: Benchmark = {
  name: 'many-guests',
  about: 'guests in one process: 32 that flip at 60 Hz, and 64 of 4K',
  needsQuiet: true,
  missing: () => (freemem() < NEEDED ? `${NEEDED / 2 ** 30} GiB of free memory` : null),
  run: async ({ progress }) => [...(await flipping(progress)), ...(await large(progress))],
};
