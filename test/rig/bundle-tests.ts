/**
 * The kernel tests as files that an emulated machine can load: compiling and importing their modules one by one takes it
 * minutes. Each test file becomes one in folder `chunks`, beside what they share, which Node loads by itself, and one outside
 * that only imports it, which vitest finds and transforms.
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

/** Bundles the tests of folder `from` into `to`, which is emptied before. */
export async function bundleTests(from: string, to: string): Promise<void> {
  rmSync(to, { recursive: true, force: true });
  const files = readdirSync(from).filter((name) => name.endsWith('.test.ts'));
  await build({
    entryPoints: files.map((name) => join(from, name)),
    outdir: join(to, 'chunks'),
    chunkNames: '[hash]',
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
  for (const name of files) {
    const test = `${basename(name, '.ts')}.js`;
    writeFileSync(join(to, test), `import './chunks/${test}';\n`);
  }
}
