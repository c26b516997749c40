import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { decodePng, encodePng } from '../../display/picture/png.ts';
import type { Picture } from '../../src/core/picture.ts';

const root = join(import.meta.dirname, '../..');
let project: string;

beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), 'scanout-vitest-'));
  symlinkSync(join(root, 'node_modules'), join(project, 'node_modules'));
  writeFileSync(
    join(project, 'vitest.config.mjs'),
    `export default { test: { reporters: ['default', '${root}/src/testing/vitest-reporter.ts'], include: ['*.spec.mjs'] } };`,
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

/** Runs a test that compares a grey picture, by a vitest of its own. */
async function run(grey: number, { args = [], env = {}, not = '' }: { args?: string[]; env?: NodeJS.ProcessEnv; not?: string } = {}): Promise<{ passed: boolean; output: string }> {
  writeFileSync(
    join(project, 'login.spec.mjs'),
    `import '${root}/src/testing/vitest.ts';
    import { expect, test } from 'vitest';
    test('it boots', async () => {
      const data = new Uint8Array(8 * 4 * 4).fill(${grey});
      for (let at = 3; at < data.length; at += 4) data[at] = 255;
      await expect({ width: 8, height: 4, data })${not}.toMatchScreenshot('login.png');
    });`,
  );
  return new Promise((resolve) => {
    // Of the vitest this runs in nothing is to be seen.
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST') && name !== 'CI'));
    execFile(join(root, 'node_modules/.bin/vitest'), ['run', '--no-color', ...args], { cwd: project, env: { ...clean, CI: '', ...env } }, (error, stdout, stderr) => {
      resolve({ passed: error === null, output: stdout + stderr });
    });
  });
}

const golden = () => join(project, '__screenshots__/login.spec.mjs/login.png');

test('a first run makes the golden picture, and the next fails where it differs, with evidence, a report, and what to do', async () => {
  expect((await run(10)).passed).toBe(true);
  const { passed, output } = await run(20);

  expect(passed).toBe(false);
  expect(output).toContain('login.png: 32 of 32 pixels');
  expect(output).toContain('vitest -u');
  const results = join(project, 'test-results/scanout');
  const evidence = join(results, 'login.spec.mjs-it-boots');
  expect(readdirSync(evidence).sort()).toEqual(['login-actual.png', 'login-diff.png', 'login-match.json']);
  expect(decodePng(readFileSync(join(evidence, 'login-actual.png')))).toEqual(picture(20));
  expect(readFileSync(join(results, 'report.html'), 'utf8')).toContain(Buffer.from(encodePng(picture(20))).toString('base64'));
  expect(decodePng(readFileSync(golden()))).toEqual(picture(10));
});

test('-u makes the picture there is the golden one', async () => {
  await run(10);

  expect((await run(20, { args: ['-u'] })).passed).toBe(true);
  expect(decodePng(readFileSync(golden()))).toEqual(picture(20));
});

test('in CI a missing golden picture fails and none is made', async () => {
  const { passed, output } = await run(10, { env: { CI: 'true' } });

  expect(passed).toBe(false);
  expect(output).toContain('there is no golden picture');
  expect(existsSync(golden())).toBe(false);
});

test('.not passes for another picture and fails for the golden one', async () => {
  await run(10);

  expect((await run(20, { not: '.not' })).passed).toBe(true);
  expect((await run(10, { not: '.not' })).passed).toBe(false);
});
