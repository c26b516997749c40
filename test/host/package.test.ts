/** The packed package: what publint and attw say of it, and the programs of examples/ in a project that installs it. */
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Picture } from '../../src/core/picture.ts';
import { comparePictures } from '../../display/picture/compare.ts';
import { decodePng } from '../../display/picture/png.ts';
import { packProject } from '../rig/packed.ts';

const ROOT = join(import.meta.dirname, '../..');
const BIN = join(ROOT, 'node_modules/.bin');
const BAR = 0xff;

let project: string;
let tarball: string;

/** Runs a program in the project as a user's shell does, without the environment of the vitest that runs this file. */
function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_ENV$|TEST$|CI$|npm_(package|lifecycle))/.test(name)),
  );
  return new Promise((resolve, reject) => {
    execFile(program, args, { cwd: project, env: { ...clean, NO_COLOR: '1', ...env } }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program} ${args.join(' ')}\n${stdout}${stderr}`, { cause: error }));
      else resolve(stdout);
    });
  });
}

beforeAll(async () => {
  project = mkdtempSync(join(tmpdir(), 'scanout-package-'));
  cpSync(join(ROOT, 'examples'), project, { recursive: true });
  writeFileSync(join(project, 'package.json'), '{ "type": "module", "private": true }');
  tarball = await packProject(project);
  await run('npm', ['install', '--save-dev', tarball, 'vitest@4', '--prefer-offline', '--no-audit', '--no-fund']);
});
afterAll(() => rmSync(project, { recursive: true }));

describe('the packed package', () => {
  test('has nothing that publint complains of', async () => {
    expect(await run(join(BIN, 'publint'), [tarball, '--strict'])).toContain('All good!');
  });

  test('has types that attw finds right for ESM and bundlers, at every entry', async () => {
    await run(join(BIN, 'attw'), [tarball, '--profile', 'esm-only', '--no-definitely-typed']);
  });

  test('can be loaded at every entry that needs no test runner, with classes of the names that are exported', async () => {
    const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      exports: Record<string, unknown>;
    };
    const entries = Object.keys(exports)
      .filter((name) => !/vitest|json/.test(name))
      .map((name) => name.replace('.', 'scanout-bridge'));
    // Errors and traces show the names of classes.
    const program = `
      for (const entry of ${JSON.stringify(entries)}) {
        const values = Object.entries(await import(entry));
        if (values.length === 0) throw new Error(entry);
        for (const [name, value] of values)
          if (String(value).startsWith('class') && value.name !== name) throw new Error(entry + ': ' + name + ' is ' + value.name);
      }`;

    await run(process.execPath, ['--input-type=module', '--eval', program]);
  });

  test('runs its command with what is bundled of commander, and has its licence', async () => {
    const modules = join(project, 'node_modules');
    expect(existsSync(join(modules, 'commander'))).toBe(false);
    expect(await run(join(modules, '.bin/scanout'), ['stats', '--help'])).toContain('scanout stats');
    expect(readFileSync(join(modules, 'scanout-bridge/dist/LICENSE.commander'), 'utf8')).toContain('Permission');
  });

  test('has source maps that name the TypeScript in stack traces', async () => {
    const program =
      "import { decodePng } from 'scanout-bridge'; try { decodePng(new Uint8Array()); } catch (error) { console.log(error.stack); }";

    const trace = await run(process.execPath, ['--enable-source-maps', '--input-type=module', '--eval', program]);

    const [, line] = /at \S*decodePng \(.*\/display\/picture\/png\.ts:(\d+):\d+\)/.exec(trace) ?? [trace];
    const source = readFileSync(join(ROOT, 'display/picture/png.ts'), 'utf8').split('\n');
    expect(source[Number(line) - 1]).toContain('parse(');
  });

  test('has declarations that the strict type checker takes without skipping any of ours', async () => {
    writeFileSync(
      join(project, 'entries.ts'),
      "export * from 'scanout-bridge';\nexport * as kms from 'scanout-bridge/kms';\nexport * as wayland from 'scanout-bridge/wayland';\nexport * as client from 'scanout-bridge/wayland-client';\nexport * as imported from 'scanout-bridge/import';\nexport * as testing from 'scanout-bridge/testing';\nexport * as gbm from 'scanout-bridge/gbm';\nexport * as fourcc from 'scanout-bridge/drm-fourcc';\n",
    );
    await tsc('--noEmit', '--skipLibCheck', 'false', 'entries.ts');
    rmSync(join(project, 'entries.ts'));
  });
});

test('the API reference is written without a warning', async () => {
  await run(join(BIN, 'typedoc'), [
    '--options',
    join(ROOT, 'typedoc.json'),
    '--tsconfig',
    join(ROOT, 'tsconfig.json'),
    '--out',
    join(project, 'api'),
  ]);

  expect(readFileSync(join(project, 'api/index.html'), 'utf8')).toContain('scanout-bridge');
});

describe('examples', () => {
  beforeAll(() => tsc('--project', '.'));

  test('own-output writes pictures that together are what the recorded guest shows', async () => {
    const output = await run(process.execPath, [
      'build/own-output.js',
      'node_modules/scanout-bridge/fixtures/console-boot.scanout',
      'frames',
    ]);

    expect(output).toMatch(/^\d+ commands, \d+ frames in frames\n$/);
    const shown = layered(join(project, 'frames'), 1280, 800);
    expect(comparePictures(decodePng(readFileSync(join(ROOT, 'fixtures/console.png'))), shown).explanation).toBe('');
  });

  test('own-source shows its bar where it was drawn last, and nowhere else', async () => {
    await run(process.execPath, ['build/own-source.js', 'bar.png']);

    const { width, data } = decodePng(readFileSync(join(project, 'bar.png')));
    const lit = Array.from({ length: width }, (_, x) => x).filter((x) => data[(100 * width + x) * 4] === BAR);
    expect(lit).toEqual(Array.from({ length: 16 }, (_, i) => 59 * 4 + i));
  });

  test('guest-screen and the suite over own-output pass under vitest, also in CI', async () => {
    const output = await run('npx', ['vitest', 'run', '--reporter', 'verbose'], { CI: 'true' });

    expect(output).toMatch(/Test Files +2 passed/);
    expect(output).toMatch(/passed \| 1 skipped/);
    expect(output).toContain('PpmOutput: presents each frame once');
  });
});

function tsc(...args: readonly string[]): Promise<string> {
  const own = ['--typeRoots', join(ROOT, 'node_modules/@types')];
  const flags =
    args[0] === '--project'
      ? own
      : [
          ...own,
          '--ignoreConfig',
          '--strict',
          '--target',
          'es2022',
          '--lib',
          'es2023,esnext.disposable',
          '--module',
          'nodenext',
          '--types',
          'node',
        ];
  return run(join(BIN, 'tsc'), [...args, ...flags]);
}

/** The PPM pictures of a folder on top of each other, in the order of their names, each where its name says. */
function layered(folder: string, width: number, height: number): Picture {
  const data = new Uint8Array(width * height * 4);
  for (let i = 3; i < data.length; i += 4) data[i] = 255;
  for (const name of readdirSync(folder).toSorted()) {
    const [, left, top] = /-(\d+)-(\d+)\.ppm$/.exec(name)!.map(Number) as [number, number, number];
    const bytes = readFileSync(join(folder, name));
    const header = /^P6 (\d+) (\d+) 255\n/.exec(bytes.toString('latin1', 0, 32))!;
    const [columns, rows] = [Number(header[1]), Number(header[2])];
    let from = header[0].length;
    for (let y = top; y < top + rows; y++) {
      for (let x = left; x < left + columns; x++) {
        data.set(bytes.subarray(from, from + 3), (y * width + x) * 4);
        from += 3;
      }
    }
  }
  return { width, height, data };
}
