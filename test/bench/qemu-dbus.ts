import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { QemuDbusGuest } from '../../src/guest/qemu-dbus/guest.ts';
import { dbusByQmp } from '../../src/qemu/dbus-display.ts';
import { startDrawing, type Draw } from '../rig/guest-pictures.ts';
import { bootGuest } from '../rig/guest.ts';
import { RfbViewer, TIGHT } from '../rig/rfb-viewer.ts';
import { systemCallsWhile } from '../rig/system-calls.ts';
import type { Benchmark, Measurement } from './benchmark.ts';
import { cpuTime } from './cpu-time.ts';
import { missingForGuests, startOurs } from './guest-flips.ts';
import { lines } from './lines.ts';
import { dbusClientProgram, missingCompiler, missingSystemd } from './native.ts';

const SIZE = [1280, 800] as const;
const MODE = SIZE.join('x');
/** Viewers take turns, because QEMU has one client at a time. */
const TURNS = 3;
const ROUNDS = 3;
/** Flips that do not count: until V8 has compiled what they need. */
const WARM_UP = 2000;
const FRAMES = 150;
const FLIPS = `flip ${FRAMES} plain every 20000`;
const REDRAWS = 20;
const CPU_GOAL = 1.5;
const BYTES_GOAL = 0.1;

/** A process that shows what QEMU's D-Bus display exports. */
interface Viewer extends AsyncDisposable {
  readonly pid: number;
  /** Frames shown so far. */
  frames(): Promise<number>;
}

async function ours(qmp: string): Promise<Viewer> {
  const {
    pid,
    frames,
    [Symbol.asyncDispose]: dispose,
  } = await startOurs(`headless:${MODE}@1000`, `qemu-dbus:qmp=${qmp}`);
  return { pid, frames: async () => (await frames()) ?? 0, [Symbol.asyncDispose]: dispose };
}

async function peer(qmp: string): Promise<Viewer> {
  using socket = await dbusByQmp(qmp)();
  const child: ChildProcess = spawn('setpriv', ['--pdeathsig', 'KILL', dbusClientProgram()], {
    stdio: ['pipe', 'pipe', 'inherit', socket.fd],
  });
  const closed = once(child, 'close');
  const line = lines(child.stdout!, 'client.c');
  const dispose = async (): Promise<void> => {
    child.kill('SIGKILL');
    await closed;
  };
  try {
    await line();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    pid: child.pid!,
    async frames() {
      child.stdin!.write('\n');
      return Number(await line());
    },
    [Symbol.asyncDispose]: dispose,
  };
}

interface Sample {
  /** Milliseconds of processor time a flip. */
  readonly viewerMs: number;
  readonly qemuMs: number;
  readonly shown: number;
}

/** What `FRAMES` flips cost the viewer and QEMU, without the guest's own processor. */
async function flips(viewer: Viewer, qemuPid: number, draw: Draw): Promise<Sample> {
  const cpu = (): number[] => [viewer.pid, qemuPid].map((pid) => cpuTime([pid]).host);
  const framesBefore = await viewer.frames();
  const before = cpu();
  await draw(FLIPS);
  const [viewerMs, qemuMs] = cpu().map((ms, i) => (ms - before[i]!) / FRAMES) as [number, number];
  return { viewerMs, qemuMs, shown: (await viewer.frames()) - framesBefore };
}

/** Bytes a flip that arrive at the viewer's sockets. */
async function socketBytes(viewer: Viewer, draw: Draw): Promise<number> {
  const calls = await systemCallsWhile(viewer.pid, () => draw(FLIPS), 'recvmsg,recvfrom');
  const received = calls.flatMap((call) => /^recv.* = (\d+)$/.exec(call)?.[1] ?? []);
  return received.reduce((sum, count) => sum + Number(count), 0) / FRAMES / 1000;
}

/** Milliseconds from the command to draw until `next`, which the frame resolves, for each of some redraws. */
async function latencies(draw: Draw, next: () => Promise<void>): Promise<number[]> {
  const samples: number[] = [];
  for (let seed = 1; seed <= REDRAWS; seed++) {
    const start = performance.now();
    const shown = next();
    await draw(`pattern ${seed}`);
    await shown;
    samples.push(performance.now() - start);
  }
  return samples;
}

async function ourLatencies(qmp: string, draw: Draw): Promise<number[]> {
  using guest = QemuDbusGuest.open({ vm: { connect: dbusByQmp(qmp) } });
  using output = HeadlessOutput.open({ width: SIZE[0], height: SIZE[1], refreshMhz: 1_000_000 });
  using bridge = new Bridge(guest);
  let wake = (): void => undefined;
  output.onFrame(() => wake());
  const next = (): Promise<void> => new Promise((resolve) => (wake = resolve));
  const first = next();
  bridge.show(0, output);
  await first;
  return await latencies(draw, next);
}

async function vncSamples(address: string, draw: Draw): Promise<{ latencies: number[]; kilobytes: number }> {
  using viewer = await RfbViewer.connect(address, { encodings: [TIGHT] });
  let wake = (): void => undefined;
  viewer.onUpdate = () => {
    viewer.request(true);
    wake();
  };
  const next = (): Promise<void> => new Promise((resolve) => (wake = resolve));
  const first = next();
  viewer.request(false);
  await first;
  // Before the flips, of which a viewer that decodes slowly is still to get some when they are over.
  const times = await latencies(draw, next);
  const before = viewer.socket.bytesRead;
  await draw(FLIPS);
  return { latencies: times, kilobytes: (viewer.socket.bytesRead - before) / FRAMES / 1000 };
}

export const qemuDbus: Benchmark = {
  name: 'qemu-dbus',
  about: "a real guest's frames from QEMU's D-Bus display, against a client in C and QEMU's VNC",
  needsQuiet: true,
  missing: () => missingForGuests() ?? missingCompiler() ?? missingSystemd(),
  async run({ progress }) {
    const directory = mkdtempSync(join(tmpdir(), 'scanout-bench-dbus-'));
    const [qmp, vnc] = [join(directory, 'qmp'), join(directory, 'vnc')];
    try {
      progress('booting a guest');
      await using guest = await bootGuest({
        gpu: { kind: 'builtin' },
        size: SIZE,
        extraQemuArgs: [
          ...['-display', 'dbus,p2p=yes', '-vnc', `unix:${vnc}`],
          ...['-chardev', `socket,id=bench,path=${qmp},server=on,wait=off`, '-mon', 'chardev=bench,mode=control'],
        ],
      });
      const draw = await startDrawing(guest);
      await draw(`mode ${SIZE.join(' ')}`);
      const samples = { ours: [] as Sample[], peer: [] as Sample[] };
      const bytes: number[] = [];
      for (let turn = 1; turn <= TURNS; turn++) {
        for (const [side, start] of [
          ['ours', ours],
          ['peer', peer],
        ] as const) {
          progress(`turn ${turn} of ${TURNS}: ${side === 'ours' ? 'scanout run' : 'client.c'}`);
          await using viewer = await start(qmp);
          await draw(`flip ${WARM_UP} plain`);
          for (let round = 0; round < ROUNDS; round++) samples[side].push(await flips(viewer, guest.pid, draw));
          if (side === 'ours') bytes.push(await socketBytes(viewer, draw));
        }
      }
      progress('latency');
      const ourTimes = await ourLatencies(qmp, draw);
      const viaVnc = await vncSamples(vnc, draw);
      const row = (
        name: string,
        unit: string,
        goal: number | null,
        sampled: readonly number[],
        peerSamples: readonly number[],
        peerName = 'QEMU -vnc, Tight',
      ): Measurement => ({
        name: `qemu-dbus/${name}`,
        unit,
        better: 'less',
        ours: sampled,
        peer: { name: peerName, samples: peerSamples },
        goal,
      });
      const againstC = (name: string, unit: string, goal: number | null, of: (sample: Sample) => number): Measurement =>
        row(name, unit, goal, samples.ours.map(of), samples.peer.map(of), 'client.c');
      return [
        againstC('viewer CPU', 'ms/flip', CPU_GOAL, (sample) => sample.viewerMs),
        againstC('QEMU CPU', 'ms/flip', null, (sample) => sample.qemuMs),
        { ...againstC('shown', `of ${FRAMES}`, null, (sample) => sample.shown), better: 'more' },
        row('socket', 'kB/flip', BYTES_GOAL, bytes, [viaVnc.kilobytes]),
        row('draw to frame', 'ms', 1, ourTimes, viaVnc.latencies),
      ];
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
};
