import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { decodePng, encodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';
import { buildScanout } from '../rig/scanout-run.ts';

const root = join(import.meta.dirname, '../..');
let project: string;

beforeAll(buildScanout);

beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), 'scanout-vitest-'));
  symlinkSync(join(root, 'node_modules'), join(project, 'node_modules'));
  writeFileSync(
    join(project, 'vitest.config.mjs'),
    `export default { test: { reporters: ['default', '${root}/dist/src/testing/vitest-reporter.js'], include: ['**/*.spec.mjs'] } };`,
  );
});

afterEach(() => {
  rmSync(project, { recursive: true });
});

function picture(grey: number): Picture {
  const data = new Uint8Array(8 * 4 * 4).fill(grey);
  for (let at = 3; at < data.length; at += 4) data[at] = 255;
  return { width: 8, height: 4, data };
}

/** The source of a test that compares a grey picture. `expected` is the function that makes the assertion. */
function spec(
  title: string,
  grey: number | string,
  { expected = 'expect', not = '', golden = 'login.png', options = '' } = {},
): string {
  return `test(${JSON.stringify(title)}, ${options && `${options}, `}async () => {
      const data = new Uint8Array(8 * 4 * 4).fill(${grey});
      for (let at = 3; at < data.length; at += 4) data[at] = 255;
      await ${expected}({ width: 8, height: 4, data })${not}.toMatchScreenshot('${golden}');
    });`;
}

/** Runs test files, each of which has the `spec`s given, by a vitest of its own. */
async function runFiles(
  sources: Record<string, readonly string[]>,
  { args = [], env = {} }: { args?: string[]; env?: NodeJS.ProcessEnv } = {},
): Promise<{ passed: boolean; output: string }> {
  for (const [name, specs] of Object.entries(sources)) {
    mkdirSync(dirname(join(project, name)), { recursive: true });
    writeFileSync(
      join(project, name),
      `import '${root}/dist/src/testing/vitest.js';\nimport { expect, test } from 'vitest';\n${specs.join('\n')}`,
    );
  }
  return new Promise((resolve) => {
    // The variables of the vitest that runs this file would change how the inner one behaves.
    const clean = Object.fromEntries(
      Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST') && name !== 'CI'),
    );
    execFile(
      join(root, 'node_modules/.bin/vitest'),
      ['run', '--no-color', ...args],
      { cwd: project, env: { ...clean, CI: '', ...env } },
      (error, stdout, stderr) => {
        resolve({ passed: error === null, output: stdout + stderr });
      },
    );
  });
}

function run(
  grey: number,
  {
    args = [],
    env = {},
    not = '',
    golden,
  }: { args?: string[]; env?: NodeJS.ProcessEnv; not?: string; golden?: string } = {},
): Promise<{ passed: boolean; output: string }> {
  return runFiles({ 'login.spec.mjs': [spec('it boots', grey, { not, ...(golden && { golden }) })] }, { args, env });
}

/** The records of the last run, sorted by test, with the folders they are in. */
function records(): { folder: string; test: string; status: string }[] {
  const results = join(project, 'test-results/scanout');
  return readdirSync(results, { recursive: true, encoding: 'utf8' })
    .filter((name) => basename(name) === 'match.json')
    .map((name) => ({
      folder: join(results, dirname(name)),
      ...(JSON.parse(readFileSync(join(results, name), 'utf8')) as { test: string; status: string }),
    }))
    .sort((a, b) => a.test.localeCompare(b.test) || a.folder.localeCompare(b.folder));
}

const golden = () => join(project, '__screenshots__/login.spec.mjs/login.png');

test('toMatchScreenshot: makes a golden picture, then fails for a different one with evidence, a report and advice', async () => {
  expect((await run(10)).passed).toBe(true);
  const { passed, output } = await run(20);

  expect(passed).toBe(false);
  expect(output).toContain('login.png: 32 of 32 pixels');
  expect(output).toContain('vitest -u');
  const results = join(project, 'test-results/scanout');
  const [record] = records();
  expect(record).toMatchObject({ test: 'login.spec.mjs > it boots', status: 'different' });
  expect(readdirSync(record!.folder).sort()).toEqual(['actual.png', 'diff.png', 'expected.png', 'match.json']);
  expect(decodePng(readFileSync(join(record!.folder, 'actual.png')))).toEqual(picture(20));
  expect(readFileSync(join(results, 'report.html'), 'utf8')).toContain(
    Buffer.from(encodePng(picture(20))).toString('base64'),
  );
  expect(decodePng(readFileSync(golden()))).toEqual(picture(10));
});

test('toMatchScreenshot: vitest -u replaces the golden picture', async () => {
  await run(10);

  expect((await run(20, { args: ['-u'] })).passed).toBe(true);
  expect(decodePng(readFileSync(golden()))).toEqual(picture(20));
});

test('toMatchScreenshot: fails in CI without a golden picture and makes none', async () => {
  const { passed, output } = await run(10, { env: { CI: 'true' } });

  expect(passed).toBe(false);
  expect(output).toContain('there is no golden picture');
  expect(existsSync(golden())).toBe(false);
});

test('toMatchScreenshot: takes any file name for a golden picture, but no path', async () => {
  const names = ['écran-de-connexion.png', 'login+2fa (1).png', '登录.png', '../login.png'];
  const { output } = await runFiles({ 'login.spec.mjs': names.map((name) => spec(name, 10, { golden: name })) });

  expect(readdirSync(dirname(golden())).sort()).toEqual(names.slice(0, 3).sort());
  expect(output).toContain("'../login.png' cannot name a golden picture");
  expect(output).toContain('3 screenshots compared');
});

test('toMatchScreenshot: refuses the expect that concurrent tests share, which does not know its test', async () => {
  const shared = await runFiles({
    'login.spec.mjs': [
      spec('one', 10).replace('test(', 'test.concurrent('),
      spec('two', 10).replace('test(', 'test.concurrent('),
    ],
  });
  const isRecorded = existsSync(join(project, 'test-results'));
  const own = await runFiles({
    'login.spec.mjs': [spec('one', 10).replace('test(', 'test.concurrent(').replace('async ()', 'async ({ expect })')],
  });

  expect(shared.passed).toBe(false);
  expect(shared.output.match(/in a concurrent one on its own `expect`/g)!.length).toBeGreaterThan(1);
  expect(isRecorded).toBe(false);
  expect(own.passed).toBe(true);
});

describe('not.toMatchScreenshot', () => {
  test('passes for a picture that differs from the golden one, leaves no evidence and counts as a success in the report', async () => {
    await run(10);

    expect((await run(20, { not: '.not' })).passed).toBe(true);
    expect(records().map(({ folder }) => readdirSync(folder).sort())).toEqual([['expected.png', 'match.json']]);
    expect(readFileSync(join(project, 'test-results/scanout/report.html'), 'utf8')).toContain(
      '1 compared, <span class="matched">0 failed',
    );
  });

  test('fails for a picture that matches the golden one, and the report shows the failure', async () => {
    await run(10);

    expect((await run(10, { not: '.not' })).passed).toBe(false);
    expect(readFileSync(join(project, 'test-results/scanout/report.html'), 'utf8')).toContain(
      '1 compared, <span class="different">1 failed',
    );
  });

  test('fails when the golden picture does not exist, and makes none', async () => {
    const { passed, output } = await run(10, { not: '.not', golden: 'missing.png' });

    expect(passed).toBe(false);
    expect(output).toContain('missing.png: there is no golden picture');
    expect(existsSync(join(project, '__screenshots__'))).toBe(false);
  });
});

describe('the evidence of a failed toMatchScreenshot', () => {
  test('survives other tests: in files of the same name, with titles that are not ASCII or are too long for a file name', async () => {
    const titles = ['it boots', '日本語', '中文', 'x'.repeat(320)];
    const files = (grey: number) => ({
      'bios/boot.spec.mjs': titles.map((title) => spec(title, grey)),
      'uefi/boot.spec.mjs': titles.map((title) => spec(title, 10)),
    });
    await runFiles(files(10));

    const { output } = await runFiles(files(20));

    expect(records().map(({ test, status, folder }) => [test, status, existsSync(join(folder, 'actual.png'))])).toEqual(
      [
        ...titles.map((title) => [`bios/boot.spec.mjs > ${title}`, 'different', true]),
        ...titles.map((title) => [`uefi/boot.spec.mjs > ${title}`, 'matched', false]),
      ].sort(([a], [b]) => (a as string).localeCompare(b as string)),
    );
    expect(output).toContain('8 screenshots compared');
  });

  test('survives another comparison with the same golden picture in the test', async () => {
    await run(10);

    await runFiles({
      'login.spec.mjs': [
        `${spec('it boots', 20, { expected: 'expect.soft' }).slice(0, -'});'.length)}
      await expect({ width: 8, height: 4, data: data.map((value, at) => (at % 4 === 3 ? 255 : 10)) }).toMatchScreenshot('login.png');
    });`,
      ],
    });

    expect(records().map(({ status, folder }) => [status, existsSync(join(folder, 'actual.png'))])).toEqual([
      ['different', true],
      ['matched', false],
    ]);
  });

  test('comes from the last attempt of a retried test', async () => {
    await run(10);

    const { passed } = await runFiles({
      'login.spec.mjs': [
        'let attempts = 0;',
        spec('it boots', '(attempts++ === 0 ? 20 : 10)', { options: '{ retry: 1 }' }),
      ],
    });

    expect(passed).toBe(true);
    expect(records().map(({ status }) => status)).toEqual(['matched']);
  });

  test('is kept for each repetition of a test', async () => {
    await run(10);

    await runFiles({
      'login.spec.mjs': [
        'let times = 0;',
        spec('it boots', '(times++ === 0 ? 20 : 10)', { options: '{ repeats: 1 }' }),
      ],
    });

    expect(records().map(({ test, status }) => [test, status])).toEqual([
      ['login.spec.mjs > it boots', 'different'],
      ['login.spec.mjs > it boots (repeat 1)', 'matched'],
    ]);
  });
});
