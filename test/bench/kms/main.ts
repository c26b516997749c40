/** Inside the VM: `node kms/main.js NAME FLIPS FLIP-LOOP` prints measurements as JSON, and progress on stderr. */
import type { BenchContext, Measurement } from '../benchmark.ts';
import { firstShow } from './first-show.ts';
import { flips } from './flips.ts';
import { kmsGarbage } from './garbage.ts';
import { latency } from './latency.ts';
import { scale } from './scale.ts';
import { vblanks } from './vblanks.ts';
import { vfioLooks } from './vfio.ts';
import { zeroCopy } from './zero-copy.ts';

const [name = '', count = '', program = ''] = process.argv.slice(2);

const benchmarks: Readonly<Record<string, (context: BenchContext) => Promise<readonly Measurement[]>>> = {
  'kms-flips': (context) => flips(program, context),
  'kms-garbage': kmsGarbage,
  'kms-vblanks': vblanks,
  'kms-first-show': firstShow,
  'kms-zero-copy': zeroCopy,
  'kms-scale': scale,
  'kms-latency': latency,
  'vfio-looks': vfioLooks,
};

console.log(JSON.stringify(await benchmarks[name]!({ progress: console.error, flips: Number(count) })));
