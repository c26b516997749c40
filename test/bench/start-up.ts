/** What each start of the command costs, and what it holds when it runs. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { MAIN, ScanoutRun } from '../rig/scanout-run.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';

const ROUNDS = 15;
const [WIDTH, HEIGHT] = [1280, 800];
const RAM = 0x4000_0000;
const RESPONSE = 24;
/** After this, an idle process is as it stays. */
const SETTLE_MS = 5000;

/** Milliseconds that Node takes to run and to end. */
function duration(...args: readonly string[]): number {
  const start = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ms = performance.now() - start;
  if (status !== 0) throw new Error(`node ${args.join(' ')}: ${stderr.toString()}`);
  return ms;
}

/** Against the start of Node alone. */
async function start(name: string, goal: number, ...args: readonly string[]): Promise<Measurement> {
  const { ours, peer } = await alternate(
    ROUNDS,
    () => duration(MAIN, ...args),
    () => duration('-e', '0'),
  );
  return {
    name: `start-up/${name}`,
    unit: 'ms',
    better: 'less',
    ours,
    peer: { name: 'node -e 0', samples: peer },
    goal,
  };
}

/** Of the process, in MB. */
function residentMemory(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) / 1024;
}

/** A guest that has drawn one picture. */
async function connectGuest(socket: string): Promise<FrontEnd> {
  const size = WIDTH * HEIGHT * 4;
  const frontEnd = FrontEnd.create({ socket: connectUnix(socket), memory: [{ guestAddress: RAM, size: 2 * size }] });
  await frontEnd.connect();
  for (const request of [
    requests.create2d(1, WIDTH, HEIGHT),
    requests.attach(1, [{ addr: RAM, length: size }]),
    requests.setScanout(0, 1, 0, 0, WIDTH, HEIGHT),
    requests.transfer(1, 0, 0, WIDTH, HEIGHT, 0),
    requests.flush(1, 0, 0, WIDTH, HEIGHT),
  ])
    await frontEnd.request(0, request, RESPONSE);
  return frontEnd;
}

export const startUp: Benchmark = {
  name: 'start-up',
  about: 'the time that commands take against the start of Node alone, and the memory of an idle bridge',
  needsQuiet: true,
  missing: () => null,
  async run({ progress }) {
    using stack = new DisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'scanout-start-up-'));
    stack.defer(() => rmSync(folder, { recursive: true }));
    const [guest, control] = [join(folder, 'guest.sock'), join(folder, 'control.sock')];
    const output = `headless:${WIDTH}x${HEIGHT}`;
    await using bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${guest}`, '--output', output, '--control', control],
    );
    progress('memory');
    await setTimeout(SETTLE_MS);
    const memory = residentMemory(bridge.pid);
    stack.use(await connectGuest(guest));
    progress('run --help');
    const help = await start('run --help', 1.6, 'run', '--help');
    progress('stats');
    const stats = await start('stats', 1.4, 'stats', '--control', control);
    progress('screenshot');
    const screenshot = await start('screenshot', 1.4, 'screenshot', join(folder, 'o.png'), '--control', control);
    return [
      help,
      stats,
      screenshot,
      { name: 'start-up/memory of an idle run', unit: 'MB', better: 'less', ours: [memory], peer: null, goal: 60 },
    ];
  },
};
