/** From a click to the picture that shows what it did, in a guest that answers each with other pixels. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { ControlClient } from '../../src/control/index.ts';
import { qemuFlags } from '../../src/qemu/flags.ts';
import { startDrawing, type Draw } from '../rig/guest-pictures.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { missingForGuests } from './guest-flips.ts';
import { lines } from './lines.ts';
import { clickClientProgram, missingCompiler, missingVncClient } from './native.ts';

const SIZE = [1280, 800] as const;
/** The pixels that a guest redraws. */
const CORNER = { x: 0, y: 0, width: 64, height: 64 };
const POINT = { x: 640, y: 400 };
const ROUNDS = 3;
const CLICKS = 100;
/** Between clicks, in ms; another each time, so that a server's timer is met at any moment. */
const PAUSE = (click: number): number => 60 + ((click * 37) % 50);
const GOAL = 1;

/** Clicks once; resolves with the milliseconds until its picture is here. */
type Click = () => Promise<number>;

class Side implements AsyncDisposable {
  readonly samples = { median: [] as number[], p99: [] as number[] };
  readonly #click: Click;
  readonly #draw: Draw;
  readonly #dispose: () => Promise<void>;

  private constructor(click: Click, draw: Draw, dispose: () => Promise<void>) {
    this.#click = click;
    this.#draw = draw;
    this.#dispose = dispose;
  }

  static async ours(directory: string): Promise<Side> {
    const path = (name: string): string => join(directory, name);
    const run = await ScanoutRun.start(
      ...['--guest', `vhost-user:${path('gpu')}`, '--input', `vhost-user:${path('input')}`],
      ...['--output', `headless:${SIZE.join('x')}`, '--control', path('control'), '--log-level', 'error'],
    );
    const flags = { socket: path('gpu'), inputs: [path('input')], memoryBytes: 2 ** 30, generic: false };
    const guest = await bootGuest({
      gpu: { kind: 'vhost-user', socket: path('gpu') },
      size: SIZE,
      // The input device and its socket, without memory and GPU.
      extraQemuArgs: qemuFlags(flags).slice(-2).flat(),
    });
    const bridge = new ControlClient(path('control'));
    const ending = new AbortController();
    const events = bridge.watch({ signal: ending.signal })[Symbol.asyncIterator]();
    // The first event is the state that the bridge was in.
    await events.next();
    const firstPixel = async (): Promise<number> =>
      Buffer.from((await bridge.screenshot({ region: CORNER })).data).readUInt32LE();
    const click = async (): Promise<number> => {
      const before = await firstPixel();
      const started = performance.now();
      await bridge.click(POINT.x, POINT.y);
      do await events.next();
      while ((await firstPixel()) === before);
      return performance.now() - started;
    };
    return Side.#start(guest, click, async () => {
      ending.abort();
      await run[Symbol.asyncDispose]();
    });
  }

  static async peer(directory: string): Promise<Side> {
    const address = join(directory, 'vnc');
    const guest = await bootGuest({
      gpu: { kind: 'builtin' },
      size: SIZE,
      extraQemuArgs: ['-vnc', `unix:${address}`, '-device', 'virtio-tablet-pci'],
    });
    const args = [address, String(POINT.x), String(POINT.y)];
    const client = spawn('setpriv', ['--pdeathsig', 'KILL', clickClientProgram(), ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const line = lines(client.stdout, 'the VNC viewer');
    await line();
    const click = async (): Promise<number> => {
      client.stdin.write('\n');
      return Number(await line()) / 1000;
    };
    return Side.#start(guest, click, async () => {
      const closed = once(client, 'close');
      client.kill();
      await closed;
    });
  }

  static async #start(guest: Guest, click: Click, dispose: () => Promise<void>): Promise<Side> {
    const draw = await startDrawing(guest);
    await draw(`mode ${SIZE.join(' ')}`);
    await draw('answer 0');
    return new Side(click, draw, async () => {
      await dispose();
      await guest[Symbol.asyncDispose]();
    });
  }

  async round(isCounted: boolean): Promise<void> {
    const answered = this.#draw(`answer ${CLICKS}`);
    const times: number[] = [];
    for (let click = 0; click < CLICKS; click++) {
      await setTimeout(PAUSE(click));
      times.push(await this.#click());
    }
    await answered;
    if (!isCounted) return;
    times.sort((a, b) => a - b);
    this.samples.median.push(times[CLICKS >> 1]!);
    this.samples.p99.push(times[Math.ceil(CLICKS * 0.99) - 1]!);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#dispose();
  }
}

export const click: Benchmark = {
  name: 'click',
  about: "a click through the control socket until its picture is here, against a VNC client on QEMU's own server",
  needsQuiet: true,
  missing: () => missingCompiler() ?? missingVncClient() ?? missingForGuests(),
  async run({ progress }) {
    const directory = mkdtempSync(join(tmpdir(), 'scanout-bench-click-'));
    try {
      progress('booting a guest on each side');
      await using ours = await Side.ours(directory);
      await using peer = await Side.peer(directory);
      for (let round = 0; round <= ROUNDS; round++) {
        progress(`round ${round} of ${ROUNDS}`);
        for (const side of [ours, peer]) await side.round(round > 0);
      }
      const row = (what: 'median' | 'p99', name: string): Measurement => ({
        name: `click/until the picture is here, ${name}`,
        unit: 'ms',
        better: 'less',
        ours: ours.samples[what],
        peer: { name: "libvncclient on QEMU's -vnc", samples: peer.samples[what] },
        goal: GOAL,
      });
      return [row('median', 'median'), row('p99', '99th percentile')];
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};
