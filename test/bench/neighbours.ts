/** What a guest notices of one in the same process that keeps the device as busy as it can. */
import { setTimeout } from 'node:timers/promises';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';
import { Flipper } from './flipper.ts';
import { Host } from './host.ts';

const SIZE = { width: 1280, height: 800 };
const MIB = 2 ** 20;
const RAM = 0x4000_0000;
const RESPONSE = 24;
const ROUNDS = 5;
const SAMPLE_MS = 3000;
/** Requests of the busy guest that are not answered yet. */
const IN_FLIGHT = 64;
/** How long the busy guest has been busy before frames count. */
const SETTLE_MS = 500;
const GOAL = 0.9;

/** A picture of `mebibytes` whose backing is the same 64 KiB again and again, as a guest may have it. */
async function makeLarge(frontEnd: FrontEnd, mebibytes: number): Promise<readonly [width: number, height: number]> {
  const [width, height] = [8192, (mebibytes * MIB) / (8192 * 4)];
  const piece = { addr: RAM, length: 65536 };
  await frontEnd.request(0, requests.create2d(1, width, height), RESPONSE);
  await frontEnd.request(0, requests.attach(1, Array<typeof piece>(mebibytes * 16).fill(piece)), RESPONSE);
  await frontEnd.request(0, requests.setScanout(0, 1, 0, 0, width, height), RESPONSE);
  return [width, height];
}

/** What a busy guest sends, and how it gets ready for that. */
const BUSY: Readonly<Record<string, (frontEnd: FrontEnd) => Promise<Uint8Array>>> = {
  'flushes of 160 MiB': async (frontEnd) => requests.flush(1, 0, 0, ...(await makeLarge(frontEnd, 160))),
  'transfers of 160 MiB': async (frontEnd) => {
    // Beyond the end of the backing, so that the device has to copy what it is sent.
    const [width, height] = await makeLarge(frontEnd, 160);
    return requests.transfer(1, 0, 0, width, height - 1, width * 4);
  },
  'small commands': () => Promise.resolve(requests.getEdid(0)),
};

async function connect(socket: string): Promise<FrontEnd> {
  const memory = [{ guestAddress: RAM, size: 64 * MIB }];
  const frontEnd = FrontEnd.create({ socket: connectUnix(socket), memory, queueSizes: [256, 16] });
  await frontEnd.connect();
  return frontEnd;
}

async function flipsPerSecond(flipper: Flipper): Promise<number> {
  const started = performance.now();
  let count = 0;
  for (; performance.now() - started < SAMPLE_MS; count++) await flipper.flip();
  return (count * 1000) / (performance.now() - started);
}

/** Keeps the device busy with one request, again and again, while `isBusy`. */
class BusyGuest {
  readonly #frontEnd: FrontEnd;
  readonly #request: Uint8Array;
  #isBusy = false;
  #inFlight = 0;
  #onIdle: (() => void) | null = null;

  constructor(frontEnd: FrontEnd, request: Uint8Array) {
    this.#frontEnd = frontEnd;
    this.#request = request;
    frontEnd.whenUsed(0, () => {
      this.#inFlight--;
      if (this.#isBusy) this.#send();
      else if (this.#inFlight === 0) this.#onIdle?.();
    });
  }

  start(): void {
    this.#isBusy = true;
    while (this.#inFlight < IN_FLIGHT) this.#send();
  }

  /** Resolves when everything is answered. */
  async stop(): Promise<void> {
    this.#isBusy = false;
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  #send(): void {
    if (this.#frontEnd.submit(0, this.#request, RESPONSE) < 0) throw new Error('the ring is full');
    this.#inFlight++;
    this.#frontEnd.kick(0);
  }
}

async function measure(name: string, prepare: (frontEnd: FrontEnd) => Promise<Uint8Array>): Promise<Measurement> {
  // Both guests' devices, bridges and 60 Hz outputs are in one process of their own.
  await using host = await Host.start('neighbours-host');
  const sockets = JSON.parse(host.line) as [string, string];
  using stack = new DisposableStack();
  const flipper = new Flipper(stack.use(await connect(sockets[0])), SIZE);
  const other = stack.use(await connect(sockets[1]));
  const busy = new BusyGuest(other, await prepare(other));
  await flipper.prepare(RAM + 8 * MIB);
  const beside = async (): Promise<number> => {
    busy.start();
    await setTimeout(SETTLE_MS);
    const rate = await flipsPerSecond(flipper);
    await busy.stop();
    return rate;
  };
  const { ours, peer } = await alternate(ROUNDS, beside, () => flipsPerSecond(flipper));
  return {
    name: `neighbours/${name}`,
    unit: 'flips/s',
    better: 'more',
    ours,
    peer: { name: 'alone', samples: peer },
    goal: GOAL,
  };
}

export const neighbours: Benchmark = {
  name: 'neighbours',
  about: 'flips of a guest at 60 Hz beside another of the same process that keeps the device busy, against alone',
  needsQuiet: true,
  missing: () => null,
  async run({ progress }) {
    const measurements: Measurement[] = [];
    for (const [name, prepare] of Object.entries(BUSY)) {
      progress(name);
      measurements.push(await measure(name, prepare));
    }
    return measurements;
  },
};
