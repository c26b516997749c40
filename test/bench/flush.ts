import { setImmediate } from 'node:timers/promises';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { DriverQueue } from '../../src/guest/replay/driver-queue.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';
import { GpuRig, HEAP, PAGE } from '../unit/guest/virtio-gpu/rig.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { InstantOutput } from './instant-output.ts';

const WIDTH = 1280;
const HEIGHT = 800;
const PAGES = (WIDTH * HEIGHT * 4) / PAGE;
const BUFFERS = 3;
const RESPONSE = 24;

/** Each takes up to six descriptors of the rig's ring, which has 64. */
const FLUSHES_PER_DRAIN = 8;
const WARM_UP = 200_000;
const ROUNDS = 21;
const FLUSHES = 50_000;

/** Flushes between two readings of the heap size: few enough that most rounds pass without garbage collection. */
const HEAP_FLUSHES = 10_000;

interface Case {
  readonly name: string;
  /** Requests of one flush; the entries, one per buffer, are used in turn. */
  readonly batches: readonly (readonly Uint8Array[])[];
}

const buffers = Array.from({ length: BUFFERS }, (_, i) => i + 1);

const CASES: readonly Case[] = [
  {
    name: 'flip',
    batches: buffers.map((id) => [
      requests.setScanout(0, id, 0, 0, WIDTH, HEIGHT),
      requests.transfer(id, 0, 0, WIDTH, HEIGHT, 0),
      requests.flush(id, 0, 0, WIDTH, HEIGHT, { id: 1n }),
    ]),
  },
  { name: 'redraw', batches: [[requests.flush(1, 100, 100, 64, 64)]] },
];

/** Driver, ring, device, bridge and an output that costs nothing, in one thread. */
class Loop implements Disposable {
  readonly #resources: DisposableStack;
  readonly #rig: GpuRig;
  readonly #driver: DriverQueue;
  readonly #output: InstantOutput;
  readonly #batches: Case['batches'];
  readonly #used = (): void => undefined;
  #flushes = 0;

  constructor({ batches }: Case) {
    using resources = new DisposableStack();
    this.#rig = resources.use(new GpuRig({}, false));
    this.#driver = this.#rig.drivers[0]!;
    this.#output = resources.use(new InstantOutput({ readsPages: true }));
    resources.use(new Bridge(this.#rig.gpu, { zeroCopy: 'all' })).show(0, this.#output);
    this.#batches = batches;
    for (const id of buffers) {
      this.#rig.send(requests.create2d(id, WIDTH, HEIGHT));
      this.#rig.send(requests.attach(id, requests.scattered(PAGES, HEAP + (id - 1) * 2 * PAGES * PAGE)));
    }
    this.#rig.send(requests.setScanout(0, 1, 0, 0, WIDTH, HEIGHT));
    this.#resources = resources.move();
  }

  async run(flushes: number): Promise<void> {
    for (let i = 0; i < flushes; i++) {
      this.#submit();
      this.#rig.gpu.kicked(0);
      this.#output.vblank();
      if (this.#flushes % FLUSHES_PER_DRAIN === 0 && this.#drain() > 0) await this.#catchUp();
    }
    this.#check();
  }

  /** Milliseconds spent outside the driver, including those to read the clock. */
  async time(flushes: number): Promise<number> {
    let spent = 0;
    for (let i = 0; i < flushes; i++) {
      this.#submit();
      const started = performance.now();
      this.#rig.gpu.kicked(0);
      this.#output.vblank();
      spent += performance.now() - started;
      if (this.#flushes % FLUSHES_PER_DRAIN === 0 && this.#drain() > 0) await this.#catchUp();
    }
    this.#check();
    return spent;
  }

  /** Lets the device finish what it left for the next turn of the event loop, as it does after a pause of this process. */
  async #catchUp(): Promise<void> {
    while (this.#driver.inFlight > 0) {
      await setImmediate();
      this.#output.vblank();
      this.#output.frames--;
      this.#driver.drain(this.#used);
    }
  }

  [Symbol.dispose](): void {
    this.#resources[Symbol.dispose]();
  }

  #submit(): void {
    const driver = this.#driver;
    const batch = this.#batches[this.#flushes % this.#batches.length]!;
    for (let i = 0; i < batch.length; i++) driver.submit(batch[i]!, RESPONSE);
    this.#flushes++;
  }

  /** The number of commands that are not answered. */
  #drain(): number {
    this.#driver.drain(this.#used);
    return this.#driver.inFlight;
  }

  #check(): void {
    this.#drain();
    if (this.#driver.inFlight > 0) throw new Error(`${this.#driver.inFlight} commands were not answered`);
    const { errors, storeBytes } = this.#rig.gpu.stats;
    if (errors > 0 || storeBytes > 0) throw new Error(`${errors} commands failed, ${storeBytes} bytes were copied`);
    if (this.#output.frames !== this.#flushes)
      throw new Error(`${this.#flushes} flushes showed ${this.#output.frames} frames`);
  }
}

/** Milliseconds that `time` spends reading the clock. */
function clockMs(reads: number): number {
  let spent = 0;
  for (let i = 0; i < reads; i++) {
    const started = performance.now();
    spent += performance.now() - started;
  }
  return spent;
}

/** Bytes the heap grows by while `run` runs; less, even negative, if garbage is collected in between. */
async function growth(run: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage().heapUsed;
  await run();
  return process.memoryUsage().heapUsed - before;
}

async function measure(one: Case): Promise<Measurement[]> {
  using loop = new Loop(one);
  // The device handles what it was sent so far.
  await setImmediate();
  await loop.run(WARM_UP);
  await loop.time(WARM_UP);
  clockMs(WARM_UP);
  const times: number[] = [];
  const bytes: number[] = [];
  for (let i = 0; i < ROUNDS; i++) times.push((((await loop.time(FLUSHES)) - clockMs(FLUSHES)) / FLUSHES) * 1000);
  for (let i = 0; i < ROUNDS; i++) {
    // Reading the heap size and checking allocate too, so subtract that. Less than a twentieth of a byte is noise.
    const look = await growth(() => loop.run(0));
    bytes.push(Math.round((((await growth(() => loop.run(HEAP_FLUSHES))) - look) / HEAP_FLUSHES) * 10) / 10);
  }
  return [
    { name: `flush/${one.name}`, unit: 'us', better: 'less', ours: times, peer: null, goal: null },
    { name: `flush/${one.name} allocations`, unit: 'bytes', better: 'less', ours: bytes, peer: null, goal: 0 },
  ];
}

export const flush: Benchmark = {
  name: 'flush',
  about:
    'one flush without a copy, from the ring to the screen and back: ring, device and bridge, without the driver and the wake-up by a kick',
  needsQuiet: true,
  missing: () => null,
  async run({ progress }) {
    const measurements: Measurement[] = [];
    for (const one of CASES) {
      progress(one.name);
      measurements.push(...(await measure(one)));
    }
    return measurements;
  },
};
