/** `npm run bench`: see USAGE. */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { toRow, type Benchmark, type Measurement, type Row } from './benchmark.ts';
import { busyShare } from './busy.ts';
import { click } from './click.ts';
import { comparePicturesBench } from './compare-pictures.ts';
import { copy } from './copy.ts';
import { exportFrames } from './export.ts';
import { find } from './find.ts';
import { pngBench } from './png.ts';
import { flush } from './flush.ts';
import { guestFlips } from './guest-flips.ts';
import { kmsFirstShow, kmsFlips, kmsGarbage, kmsLatency, kmsScale, kmsVblanks, kmsZeroCopy, vfioLooks } from './kms.ts';
import { manyGuests } from './many-guests.ts';
import { neighbours } from './neighbours.ts';
import { nodeLines } from './node-lines.ts';
import { qemuDbus } from './qemu-dbus.ts';
import { comparison, goals, table } from './report.ts';
import { sandbox } from './sandbox.ts';
import { screenshots } from './screenshots.ts';
import { snapshots } from './snapshots.ts';
import { startUp } from './start-up.ts';
import { vnc } from './vnc.ts';
import { waitStable } from './wait-stable.ts';
import { waylandDmabuf, waylandHidden, waylandShm, waylandSimpleShm } from './wayland.ts';
import { wholeFrames, wholeFramesKms } from './whole-frames.ts';

const benchmarks: readonly Benchmark[] = [
  ...[
    copy,
    flush,
    startUp,
    nodeLines,
    sandbox,
    comparePicturesBench,
    pngBench,
    find,
    waitStable,
    snapshots,
    screenshots,
    guestFlips,
    neighbours,
    manyGuests,
    exportFrames,
    vnc,
    click,
    qemuDbus,
  ],
  ...[kmsFlips, kmsGarbage, kmsVblanks, kmsFirstShow, kmsZeroCopy, kmsScale, kmsLatency, vfioLooks],
  ...[waylandShm, waylandSimpleShm, waylandHidden, waylandDmabuf, wholeFrames, wholeFramesKms],
];

/** Default of --flips: enough for a rare missed vertical blank to occur. */
const FLIPS = 10_000;
/** What a machine is busy with that does nothing. */
const QUIET = 0.05;

const USAGE = `npm run bench -- [NAME...] [--json FILE] [--compare FILE] [--flips N] [--list]

Runs the named benchmarks, or all of them. If there is a peer, our samples and the peer's alternate
within the run. The table has the median, minimum and maximum of the samples.

ratio  our median / the peer's median, whatever the unit; of commands the median of the ratios of pairs
goal   bound for the ratio, or for our median if there is no peer: '>=' for rates (more is better),
       '<=' for costs (less is better)

At the end are all goals that were met or missed. Benchmarks marked 'quiet' in the list need a machine
that does nothing else; if it does, a line below their table says so.

--json FILE  writes the rows {name, unit, ours, peer, peerName, ratio, goal, met} as one array;
             values of a missing peer or goal are null
--compare FILE
             prints the change since an earlier run, whose rows --json wrote
--flips N    flips of kms-vblanks, and of each sample of kms-garbage: a multiple of 1000, or fewer than 1000
             (default ${FLIPS})
--list       lists the benchmarks

A missed goal is not a failure: the exit code is 0 unless a benchmark could not run. One that needs
something this machine lacks is skipped with a message; under CI=true that is a failure.
`;

function progress(name: string): (text: string) => void {
  if (process.stderr.isTTY) return (text) => void process.stderr.write(`\r\x1b[K${name}: ${text}`);
  return (text) => void process.stderr.write(`${name}: ${text}\n`);
}

/** Resolves with false if a benchmark failed or, under CI=true, was skipped. */
async function runAll(
  chosen: readonly Benchmark[],
  flips: number,
  json: string | undefined,
  before: readonly Row[] | null,
): Promise<boolean> {
  const measurements: Measurement[] = [];
  let ok = true;
  for (const benchmark of chosen) {
    const missing = benchmark.missing();
    if (missing !== null) {
      console.error(`${benchmark.name} skipped: ${missing}`);
      if (process.env['CI'] === 'true') ok = false;
      continue;
    }
    try {
      const busy = benchmark.needsQuiet ? await busyShare() : 0;
      const measured = await benchmark.run({ progress: progress(benchmark.name), flips });
      if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
      console.log(table(measured));
      if (busy > QUIET)
        console.log(`not quiet: other programs used ${Math.round(100 * busy)} % of this machine's processors`);
      console.log();
      measurements.push(...measured);
    } catch (error) {
      console.error(`${benchmark.name} failed:`, error);
      ok = false;
    }
  }
  if (measurements.some(({ goal }) => goal !== null)) console.log(goals(measurements));
  if (before) console.log(`\n${comparison(before, measurements)}`);
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(measurements.map(toRow), null, 2)}\n`);
  return ok;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'string' },
      compare: { type: 'string' },
      flips: { type: 'string', default: String(FLIPS) },
      list: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (values.list) {
    for (const { name, about, needsQuiet } of benchmarks)
      console.log(`${name.padEnd(20)}${needsQuiet ? 'quiet' : '     '}  ${about}`);
    return 0;
  }
  const unknown = positionals.filter((name) => !benchmarks.some((benchmark) => benchmark.name === name));
  if (unknown.length > 0) {
    console.error(`unknown benchmark ${unknown.join(', ')}; expected ${benchmarks.map(({ name }) => name).join(', ')}`);
    return 2;
  }
  const flips = Number(values.flips);
  if (!Number.isInteger(flips) || flips < 1 || (flips > 1000 && flips % 1000 !== 0)) {
    console.error(`--flips ${values.flips}: expected a multiple of 1000, or fewer than 1000`);
    return 2;
  }
  const chosen = positionals.length > 0 ? benchmarks.filter(({ name }) => positionals.includes(name)) : benchmarks;
  const before = values.compare === undefined ? null : (JSON.parse(readFileSync(values.compare, 'utf8')) as Row[]);
  return (await runAll(chosen, flips, values.json, before)) ? 0 : 1;
}

process.exitCode = await main();
