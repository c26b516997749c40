/**
 * Bundles of TypeScript that is not in the package: the kernel tests, whose modules an emulated machine takes minutes to
 * compile and import one by one, and the benchmarks, which measure the code as it ships.
 */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';

/** The folder of sources is not that of the bundle. */
const keepPaths: Plugin = {
  name: 'keep-paths',
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const places = { dirname: dirname(path), filename: path, url: pathToFileURL(path).href };
      const source = await readFile(path, 'utf8');
      const contents = source.replaceAll(/\bimport\.meta\.(dirname|filename|url)\b/g, (_, place: keyof typeof places) =>
        JSON.stringify(places[place]),
      );
      return { contents, loader: 'ts' };
    });
  },
};

/** Bundles programs, each into a file at its place below `outbase`, in folder `to`, which is emptied before. */
export async function bundle(entryPoints: readonly string[], outbase: string, to: string): Promise<void> {
  rmSync(to, { recursive: true, force: true });
  await build({
    entryPoints: [...entryPoints],
    outbase,
    outdir: to,
    chunkNames: 'chunks/[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    packages: 'external',
    // An error then tells the line of the source.
    sourcemap: 'inline',
    logLevel: 'warning',
    plugins: [keepPaths],
  });
}

/**
 * Bundles the tests of folder `from` into `to`. Each test file becomes one in folder `bundled`, which Node loads by itself,
 * and one outside that only imports it, which vitest finds and transforms.
 */
export async function bundleTests(from: string, to: string): Promise<void> {
  const files = readdirSync(from).filter((name) => name.endsWith('.test.ts'));
  rmSync(to, { recursive: true, force: true });
  await bundle(
    files.map((name) => join(from, name)),
    from,
    join(to, 'bundled'),
  );
  for (const name of files) {
    const test = `${basename(name, '.ts')}.js`;
    writeFileSync(join(to, test), `import './bundled/${test}';\n`);
  }
}
