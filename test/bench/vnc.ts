import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startDrawing, type Draw } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { RfbViewer, TIGHT, ZRLE } from '../rig/rfb-viewer.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { cpuTime } from './cpu-time.ts';
import { missingForGuests, startOurs } from './guest-flips.ts';

const SIZE = [1280, 800] as const;
/** Rounds that count, after one that does not. */
const ROUNDS = 5;
/** 10 a second, of which QEMU's server shows most, and ours all. */
const FLIPS = 50;
const FLIP_US = 100_000;
const REDRAWS = 10;
/** Until V8 has compiled what runs for each update, as in a process that runs for days. */
const WARM_UP_FLIPS = 1000;
const WARM_UP_FLIP_US = 20_000;
const WARM_UP_REDRAWS = 60;
/** Of the work and of the bytes. */
const GOAL = 1.2;

/** Compression level 2: the servers' own defaults differ. */
const LEVEL = -254;

const ENCODINGS = [
  ['Tight', TIGHT],
  ['ZRLE', ZRLE],
] as const;

interface Sample {
  /** Milliseconds of processor time for each update that the viewer gets, without the guest's own. */
  readonly cpuMs: number;
  /** Of each update. */
  readonly kilobytes: number;
  readonly updates: number;
}

/** A guest and its VNC server. */
class Side implements AsyncDisposable {
  readonly #pids: readonly number[];
  readonly #address: string;
  readonly #guest: Guest;
  readonly #draw: Draw;
  readonly #dispose: () => Promise<void>;
  #seed = 0;

  private constructor(
    pids: readonly number[],
    address: string,
    guest: Guest,
    draw: Draw,
    dispose: () => Promise<void>,
  ) {
    this.#pids = pids;
    this.#address = address;
    this.#guest = guest;
    this.#draw = draw;
    this.#dispose = dispose;
  }

  static async ours(directory: string): Promise<Side> {
    const address = join(directory, 'ours.sock');
    const backend = await startOurs(`vnc:${address},size=${SIZE.join('x')}`);
    const guest = await bootGuest({ gpu: { kind: 'vhost-user', socket: backend.socket }, size: SIZE });
    return Side.#start([backend.pid, guest.pid], address, guest, async () => {
      await backend[Symbol.asyncDispose]();
    });
  }

  static async qemu(directory: string): Promise<Side> {
    const address = join(directory, 'qemu.sock');
    const guest = await bootGuest({
      gpu: { kind: 'builtin' },
      size: SIZE,
      extraQemuArgs: ['-vnc', `unix:${address}`],
    });
    return Side.#start([guest.pid], address, guest, () => Promise.resolve());
  }

  static async #start(
    pids: readonly number[],
    address: string,
    guest: Guest,
    dispose: () => Promise<void>,
  ): Promise<Side> {
    const draw = await startDrawing(guest);
    await draw(`mode ${SIZE.join(' ')}`);
    await draw('alike');
    return new Side(pids, address, guest, draw, dispose);
  }

  async warmUp(encoding: number): Promise<void> {
    await this.flips(encoding, WARM_UP_FLIPS, WARM_UP_FLIP_US);
    await this.redraws(encoding, WARM_UP_REDRAWS);
  }

  /** Page flips of which a small part is new, though the guest damages all. */
  flips(encoding: number, flips = FLIPS, everyUs = FLIP_US): Promise<Sample> {
    return this.#watched(encoding, async () => {
      await this.#draw(`flip ${flips} every ${everyUs}`);
    });
  }

  /** Redraws of all pixels, each when the viewer has the one before. */
  async redraws(encoding: number, redraws = REDRAWS): Promise<Sample> {
    const sample = await this.#watched(encoding, async (updated) => {
      for (let redraw = 0; redraw < redraws; redraw++) {
        const next = updated();
        await this.#draw(`pattern ${++this.#seed}`);
        await next;
      }
    });
    await this.#draw('alike');
    return sample;
  }

  /** `updated` resolves with the viewer's next update; it always asks for another. */
  async #watched(encoding: number, draw: (updated: () => Promise<void>) => Promise<void>): Promise<Sample> {
    using viewer = await RfbViewer.connect(this.#address, { encodings: [encoding, LEVEL], decodes: false });
    let wake = (): void => undefined;
    const updated = (): Promise<void> => new Promise((resolve) => (wake = resolve));
    viewer.onUpdate = () => {
      viewer.request(true);
      wake();
    };
    const first = updated();
    viewer.request(false);
    await first;
    const before = { cpu: cpuTime(this.#pids).host, bytes: viewer.socket.bytesRead, updates: viewer.updates };
    await draw(updated);
    const updates = viewer.updates - before.updates;
    return {
      cpuMs: (cpuTime(this.#pids).host - before.cpu) / updates,
      kilobytes: (viewer.socket.bytesRead - before.bytes) / updates / 1000,
      updates,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#guest[Symbol.asyncDispose]();
    await this.#dispose();
  }
}

export const vnc: Benchmark = {
  name: 'vnc',
  about: "a real guest's frames for a VNC viewer, by our server and by QEMU's own",
  needsQuiet: true,
  missing: missingForGuests,
  async run({ progress }) {
    const directory = mkdtempSync(join(tmpdir(), 'scanout-bench-vnc-'));
    try {
      progress('booting a guest on each server');
      await using ours = await Side.ours(directory);
      await using qemu = await Side.qemu(directory);
      const measurements: Measurement[] = [];
      for (const [name, encoding] of ENCODINGS) {
        progress(`${name}: warming up`);
        for (const side of [ours, qemu]) await side.warmUp(encoding);
        for (const work of ['flips', 'redraws'] as const) {
          const samples = { ours: [] as Sample[], qemu: [] as Sample[] };
          for (let round = 0; round <= ROUNDS; round++) {
            progress(`${name} ${work}: round ${round} of ${ROUNDS}`);
            const sample = { ours: await ours[work](encoding), qemu: await qemu[work](encoding) };
            if (round === 0) continue;
            samples.ours.push(sample.ours);
            samples.qemu.push(sample.qemu);
          }
          measurements.push(...rows(`vnc/${name} ${work}`, samples.ours, samples.qemu));
        }
      }
      return measurements;
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};

function rows(name: string, ours: readonly Sample[], qemu: readonly Sample[]): Measurement[] {
  const row = (
    what: string,
    unit: string,
    better: 'more' | 'less',
    goal: number | null,
    of: (sample: Sample) => number,
  ): Measurement => ({
    name: `${name} ${what}`,
    unit,
    better,
    ours: ours.map(of),
    peer: { name: 'QEMU -vnc', samples: qemu.map(of) },
    goal,
  });
  return [
    row('CPU', 'ms/update', 'less', GOAL, (sample) => sample.cpuMs),
    row('bytes', 'kB/update', 'less', GOAL, (sample) => sample.kilobytes),
    row('updates', '', 'more', null, (sample) => sample.updates),
  ];
}
