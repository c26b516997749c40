/**
 * The second half of `npm run build`: one bundled file per entry point and program of the package, and what several of
 * them use in dist/chunks. A bundle loads in two thirds of the time of its modules, and stack traces keep their names: nothing is
 * minified, and the source maps hold the TypeScript (`node --enable-source-maps`).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { build } from 'esbuild';

const { exports, bin, dependencies, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const entries = Object.values(exports).flatMap((target) => target.default ?? []);
/** Started by the others, by their paths. */
const PROGRAMS = ['src/sys/console-guardian.ts', 'display/vnc/encoding-thread-main.ts'];
const sourceOf = (built) => built.replace(/^(\.\/)?dist\//, '').replace(/\.js$/, '.ts');

const { outputFiles } = await build({
  entryPoints: [...[...entries, ...Object.values(bin)].map(sourceOf), ...PROGRAMS],
  outbase: '.',
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  // What is bundled is ours, and commander: every command loads it, and CommonJS takes Node longer.
  external: Object.keys({ ...dependencies, ...peerDependencies }).flatMap((name) => [name, `${name}/*`]),
  sourcemap: true,
  write: false,
  logLevel: 'warning',
});

const written = new Set();
for (const { path, text } of outputFiles) {
  mkdirSync(dirname(path), { recursive: true });
  replaceFile(path, withBuiltins(withoutInnerNames(text)));
  written.add(relative('dist', path));
}

replaceFile('dist/LICENSE.commander', readFileSync('node_modules/commander/LICENSE', 'utf8'));

// Of an earlier build. What is in use by a running command keeps its name as long as it does not change.
for (const file of readdirSync('dist', { recursive: true }))
  if (/\.js(\.map)?$/.test(file) && !written.has(file)) rmSync(join('dist', file));

/** In one step, and only if it differs: a command that is starting loads all files of one build. */
function replaceFile(path, contents) {
  if (existsSync(path) && readFileSync(path, 'utf8') === contents) return;
  const unfinished = `${path}.${process.pid}`;
  writeFileSync(unfinished, contents);
  renameSync(unfinished, path);
}

/** esbuild writes `var SysError = class _SysError`, and errors, traces and `inspect` would show that name. */
function withoutInnerNames(code) {
  const names = new Set(Array.from(code.matchAll(/^var (\w+) = class _\1\b/gm), ([, name]) => `_${name}`));
  return code.replaceAll(/\b_\w+\b/g, (word) => (names.has(word) ? word.slice(1) : word));
}

/** CommonJS that was bundled requires modules of Node, and ES modules have no `require`. */
function withBuiltins(code) {
  return code.replaceAll(/\b__require\("(node:\w+)"\)/g, 'globalThis.process.getBuiltinModule("$1")');
}
