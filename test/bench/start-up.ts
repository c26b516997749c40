/** What each start of the command costs, and what it holds when it runs. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { decodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { FrontEnd } from '../rig/front-end.ts';
import { MAIN, ScanoutRun } from '../rig/scanout-run.ts';
import * as requests from '../unit/guest/virtio-gpu/requests.ts';
import { alternate, type Benchmark, type Measurement } from './benchmark.ts';

const ROUNDS = 41;
const CONSOLE = join(import.meta.dirname, '../../fixtures/console.png');
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

/** Of a program against the start of Node alone. */
async function start(name: string, goal: number | null, ...args: readonly string[]): Promise<Measurement> {
  const { ours, peer } = await alternate(
    ROUNDS,
    () => duration(...args),
    () => duration('-e', '0'),
  );
  return {
    name: `start-up/${name}`,
    unit: 'ms',
    better: 'less',
    ours,
    peer: { name: 'node -e 0', samples: peer },
    isPaired: true,
    goal,
  };
}

/** Of the process, in MB. */
function residentMemory(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) / 1024;
}

/** A guest that shows a picture. */
async function connectGuest(socket: string, { width, height, data }: Picture): Promise<FrontEnd> {
  const size = data.length;
  const frontEnd = FrontEnd.create({ socket: connectUnix(socket), memory: [{ guestAddress: RAM, size: 2 * size }] });
  // Its pixels are B, G, R, X.
  const pixels = data.slice();
  for (let at = 0; at < size; at += 4) [pixels[at], pixels[at + 2]] = [data[at + 2]!, data[at]!];
  frontEnd.memory.write(RAM, pixels);
  await frontEnd.connect();
  for (const request of [
    requests.create2d(1, width, height),
    requests.attach(1, [{ addr: RAM, length: size }]),
    requests.setScanout(0, 1, 0, 0, width, height),
    requests.transfer(1, 0, 0, width, height, 0),
    requests.flush(1, 0, 0, width, height),
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
    const picture = decodePng(readFileSync(CONSOLE));
    const empty = join(folder, 'empty.mjs');
    writeFileSync(empty, '');
    const output = `headless:${picture.width}x${picture.height}`;
    await using bridge = await ScanoutRun.start(
      ...['--guest', `vhost-user:${guest}`, '--output', output, '--control', control],
    );
    progress('memory');
    await setTimeout(SETTLE_MS);
    const memory = residentMemory(bridge.pid);
    stack.use(await connectGuest(guest, picture));
    progress('an empty module');
    const limit = await start('an empty module', null, empty);
    progress('run --help');
    const help = await start('run --help', 1.6, MAIN, 'run', '--help');
    progress('stats');
    const stats = await start('stats', 1.4, MAIN, 'stats', '--control', control);
    progress('screenshot');
    const screenshot = await start('screenshot', 1.4, MAIN, 'screenshot', join(folder, 'o.png'), '--control', control);
    return [
      limit,
      help,
      stats,
      screenshot,
      { name: 'start-up/memory of an idle run', unit: 'MB', better: 'less', ours: [memory], peer: null, goal: 60 },
    ];
  },
};
