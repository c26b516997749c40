/** Bundles the benchmarks and the programs that they start. */
import { join } from 'node:path';
import { bundle } from '../rig/bundle.ts';
import { BUNDLE } from './programs.ts';

const PROGRAMS = [
  'main',
  'export-child',
  'neighbours-host',
  'many-guests-host',
  'kms/main',
  'wayland/main',
  'whole-frames/vm',
];

await bundle(
  PROGRAMS.map((name) => join(import.meta.dirname, `${name}.ts`)),
  import.meta.dirname,
  BUNDLE,
);
