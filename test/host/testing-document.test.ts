/** The README's chapter on tests, done as it says in a project that has nothing of ours but the packed package. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DISK_TOOLS, makeBootableDisk } from '../rig/bootable-disk.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';

const root = join(import.meta.dirname, '../..');
const chapter = /^## Tests that look at a guest's screen\n(.*?)^## /ms.exec(readFileSync(join(root, 'README.md'), 'utf8'))![1]!;
const WORKFLOW = '.github/workflows/screens.yml';

/** All code in the chapter: its language, and the file that its first line may name. */
const blocks = [...chapter.matchAll(/^```(\w+)\n((?:(?:\/\/|#) (\S+)\n)?.*?)^```/gms)].map(([, language, code, file]) => ({ language, code: code!, file }));

function commands(word: string): string[] {
  const lines = blocks.filter(({ language }) => language === 'sh').flatMap(({ code }) => code.split('\n'));
  return lines.filter((line) => line.includes(word));
}

describe.skipIf(skipWithoutGuest(...DISK_TOOLS, '/usr/lib/python3/dist-packages/yaml'))("the README's tests, pasted into a project that installs the package,", () => {
  let project: string;

  /** As a person's shell does: nothing is to be seen of the vitest that runs this. */
  function sh(command: string, { env = {}, stdin = '' } = {}): Promise<{ code: number; output: string }> {
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(VITEST|NODE_ENV$|TEST$|CI$|npm_(package|lifecycle))/.test(name)));
    return new Promise((resolve) => {
      const child = execFile('sh', ['-c', command], { cwd: project, env: { ...clean, ...env } }, (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, output: `$ ${command}\n${stdout}${stderr}` }));
      child.stdin!.end(stdin);
    });
  }

  async function expectDone(command: string, env?: Record<string, string>): Promise<string> {
    const { code, output } = await sh(command, { ...(env && { env }) });
    expect(code, output).toBe(0);
    return output;
  }

  const goldenPictures = (): Record<string, string> => {
    const folder = join(project, '__screenshots__');
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.png'));
    return Object.fromEntries(files.sort().map((name) => [name, readFileSync(join(folder, name), 'base64')]));
  };

  beforeAll(async () => {
    project = mkdtempSync(join(tmpdir(), 'scanout-readme-'));
    for (const { file, code } of blocks) {
      if (file === undefined) continue;
      mkdirSync(dirname(join(project, file)), { recursive: true });
      writeFileSync(join(project, file), code);
    }
    makeBootableDisk(join(project, 'disk.qcow2'));
    writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
    await expectDone(`npm pack --silent --pack-destination '${project}' '${root}'`);
    const [install] = commands('npm install') as [string];
    await expectDone(`${install.replace('scanout-bridge', './scanout-bridge-*.tgz')} --prefer-offline --no-audit --no-fund`);
  });
  afterAll(() => rmSync(project, { recursive: true }));

  test('make their golden pictures when they run first: of the recording, and of a real guest that boots from its disk', async () => {
    await expectDone('npx vitest run');

    expect(Object.keys(goldenPictures())).toEqual(['console.test.ts/console.png', 'login.test.ts/login.png', 'login.test.ts/shell.png']);
    await expectDone(`npx scanout compare '${root}/fixtures/console.png' __screenshots__/console.test.ts/console.png`);
    expect((await sh('npx scanout compare __screenshots__/login.test.ts/login.png __screenshots__/login.test.ts/shell.png')).code).toBe(1);
  });

  test("pass in CI by the workflow's steps, and leave a report where that takes it from", async () => {
    const golden = goldenPictures();
    const { output } = await sh(`python3 -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)["jobs"]["screens"]["steps"]))'`, { stdin: readFileSync(join(project, WORKFLOW), 'utf8') });
    const steps = JSON.parse(output.slice(output.indexOf('\n'))) as { run?: string; uses?: string; with?: { path?: string } }[];
    const runs = steps.flatMap(({ run }) => run ?? []);

    // This machine has its packages.
    for (const command of runs.filter((run) => !run.startsWith('apt-get '))) await expectDone(command, { CI: 'true' });

    expect(runs).toContain('npx vitest run');
    expect(goldenPictures()).toEqual(golden);
    const artifact = steps.find(({ uses }) => uses?.startsWith('actions/upload-artifact@'))!.with!.path!;
    expect(readFileSync(join(project, artifact, 'scanout/report.html'), 'utf8')).toContain('shell.png');
  });

  test('run in other runners, by assertScreenshot', async () => {
    const [, command] = /`(node --test \S+)`/.exec(chapter)!;
    await expectDone(command!);
    await expectDone(command!, { CI: 'true' });
    expect(readFileSync(join(project, 'golden/console.png'), 'base64')).toBe(goldenPictures()['console.test.ts/console.png']);
  });

  test('pass the type checker', async () => {
    const files = blocks.flatMap(({ file }) => (file?.endsWith('.ts') ? [file] : []));
    await expectDone(`'${root}/node_modules/.bin/tsc' --noEmit --ignoreConfig --strict --target es2022 --lib es2023,esnext.disposable --module nodenext --skipLibCheck --typeRoots '${root}/node_modules/@types' --types node ${files.join(' ')}`);
  });

  test('have a command that compares, with an exit code and a picture of what differs', async () => {
    copyFileSync(join(project, '__screenshots__/login.test.ts/login.png'), join(project, 'expected.png'));
    copyFileSync(join(project, '__screenshots__/login.test.ts/shell.png'), join(project, 'actual.png'));
    const [compare] = commands('scanout compare') as [string];

    expect(await sh(compare)).toMatchObject({ code: 1, output: expect.stringMatching(/actual.png: \d+ of \d+ pixels differ/) as string });
    expect(readdirSync(project)).toContain('diff.png');
  });
});
