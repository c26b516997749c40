/**
 * The second half of `npm run build`: one bundled file per entry point and program of the package, and what several of
 * them use in dist/chunks. A bundle loads in two thirds of the time of its modules, and stack traces keep their names: nothing is
 * minified, and the source maps hold the TypeScript (`node --enable-source-maps`).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { build } from 'esbuild';

const { exports, dependencies, peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const entries = Object.values(exports).flatMap((target) => target.default ?? []);
/** Started by the others, by their paths. */
const PROGRAMS = ['src/sys/console-guardian.ts', 'display/vnc/encoding-thread-main.ts'];
const sourceOf = (built) => built.replace(/^(\.\/)?dist\//, '').replace(/\.js$/, '.ts');

const COMMAND = 'src/cli/main.ts';
/** Commands that end soon: they are part of the command's own file, because one file starts sooner than several. */
const LIGHT = ['stats', 'screenshot', 'operate', 'wait', 'compare'].map((name) => resolve(`src/cli/${name}.ts`));
/** What they load is one file, too. */
const LOADED_BY_LIGHT = 'src/cli/comparison.ts';

/** @type {import('esbuild').BuildOptions} */
const options = {
  outbase: '.',
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  // What is bundled is ours, and commander: every command loads it, and CommonJS takes Node longer.
  external: Object.keys({ ...dependencies, ...peerDependencies }).flatMap((name) => [name, `${name}/*`]),
  sourcemap: true,
  write: false,
  logLevel: 'warning',
};

/** commander can start programs as its commands, which none of ours are, and loads what it needs for that at once. */
const noSubprocesses = {
  name: 'no-subprocesses',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes('/node_modules/commander/') ? { path: 'none', namespace: 'no-subprocesses' } : null,
    );
    onLoad({ filter: /./, namespace: 'no-subprocesses' }, () => ({ contents: 'module.exports = {};' }));
  },
};

/** What the command loads when it needs it, by the paths of the sources. */
const loaded = new Set();
const loadedLater = {
  name: 'loaded-later',
  setup({ onResolve }) {
    onResolve({ filter: /^\.{1,2}\// }, ({ kind, path, resolveDir }) => {
      const source = resolve(resolveDir, path);
      if (kind !== 'dynamic-import' || LIGHT.includes(source)) return null;
      loaded.add(relative('.', source));
      const built = relative(dirname(COMMAND), relative('.', source)).replace(/\.ts$/, '.js');
      return { path: built.startsWith('.') ? built : `./${built}`, external: true };
    });
  },
};
const command = await build({ ...options, entryPoints: [COMMAND], plugins: [noSubprocesses, loadedLater] });
const alone = await build({ ...options, entryPoints: [LOADED_BY_LIGHT] });
loaded.delete(LOADED_BY_LIGHT);

const others = await build({
  ...options,
  entryPoints: [...entries.map(sourceOf), ...PROGRAMS, ...loaded],
  chunkNames: 'chunks/[name]-[hash]',
  splitting: true,
  plugins: [noSubprocesses],
});

const written = new Set();
for (const { path, text } of [...command.outputFiles, ...alone.outputFiles]) write(path, withoutFacades(text));
for (const { path, text } of others.outputFiles) write(path, text);

replaceFile('dist/LICENSE.commander', readFileSync('node_modules/commander/LICENSE', 'utf8'));

// Of an earlier build. What is in use by a running command keeps its name as long as it does not change.
for (const file of readdirSync('dist', { recursive: true }))
  if (/\.js(\.map)?$/.test(file) && !written.has(file)) rmSync(join('dist', file));

function write(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  replaceFile(path, withBuiltins(withoutInnerNames(text)));
  written.add(relative('dist', path));
}

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

/**
 * For an import from one of its own modules, Node builds an ES module and reads all exports, of which some load other
 * modules: too much for a command that ends soon.
 */
function withoutFacades(code) {
  return code.replaceAll(
    /^import \{([^}]*)\} from "(node:[^"]*)";$/gm,
    (_, names, module) => `const {${names.replaceAll(' as ', ': ')}} = process.getBuiltinModule("${module}");`,
  );
}

/** CommonJS that was bundled requires modules of Node, and ES modules have no `require`. */
function withBuiltins(code) {
  return code.replaceAll(/\b__require\("(node:\w+)"\)/g, 'globalThis.process.getBuiltinModule("$1")');
}
