/** docs/testing.md, followed to the letter in a project that has nothing but the packed package. */
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DISK_TOOLS, makeBootableDisk } from '../rig/bootable-disk.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { packProject } from '../rig/packed.ts';
import { buildScanout } from '../rig/scanout-run.ts';

const root = join(import.meta.dirname, '../..');
const document = readFileSync(join(root, 'docs/testing.md'), 'utf8');
const WORKFLOW = '.github/workflows/screens.yml';

/** All code in the document: its language, and the file that its first line may name. */
const blocks = [...document.matchAll(/^```(\w+)\n((?:(?:\/\/|#) (\S+)\n)?.*?)^```/gms)].map(
  ([, language, code, file]) => ({ language, code: code!, file }),
);

function installedVersion(name: string): string {
  const { version } = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}

function commands(word: string): string[] {
  const lines = blocks.filter(({ language }) => language === 'sh').flatMap(({ code }) => code.split('\n'));
  return lines.filter((line) => line.includes(word));
}

describe.skipIf(skipWithoutGuest(...DISK_TOOLS, '/usr/lib/python3/dist-packages/yaml'))(
  'docs/testing.md, in a project that installs the packed package',
  () => {
    let project: string;

    /** Runs a command as a user's shell does, without the environment of the vitest that runs this file. */
    function sh(command: string, { env = {}, stdin = '' } = {}): Promise<{ code: number; output: string }> {
      const clean = Object.fromEntries(
        Object.entries(process.env).filter(
          ([name]) => !/^(VITEST|NODE_ENV$|TEST$|CI$|npm_(package|lifecycle))/.test(name),
        ),
      );
      return new Promise((resolve) => {
        const child = execFile(
          'sh',
          ['-c', command],
          { cwd: project, env: { ...clean, ...env } },
          (error, stdout, stderr) =>
            resolve({ code: error ? Number(error.code) : 0, output: `$ ${command}\n${stdout}${stderr}` }),
        );
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
      // The newest release of a dependency must not change what is tested, nor need what a registry does not have yet.
      const overrides = { vite: installedVersion('vite') };
      writeFileSync(join(project, 'package.json'), JSON.stringify({ type: 'module', overrides }));
      buildScanout();
      await packProject(project, { isBuilt: true });
      const [install] = commands('npm install') as [string];
      await expectDone(
        `${install.replace('scanout-bridge', './scanout-bridge-*.tgz')} --prefer-offline --no-audit --no-fund`,
      );
    });
    afterAll(() => rmSync(project, { recursive: true }));

    test('a first run creates the golden pictures, of a recording and of a real guest booted from its disk', async () => {
      await expectDone('npx vitest run');

      expect(Object.keys(goldenPictures())).toEqual([
        'console.test.ts/console.png',
        'login.test.ts/login.png',
        'login.test.ts/shell.png',
      ]);
      await expectDone(
        `npx scanout compare '${root}/fixtures/console.png' __screenshots__/console.test.ts/console.png`,
      );
      expect(
        (
          await sh(
            'npx scanout compare __screenshots__/login.test.ts/login.png __screenshots__/login.test.ts/shell.png',
          )
        ).code,
      ).toBe(1);
    });

    test('the steps of the workflow pass with CI=true and leave the report where the workflow uploads it from', async () => {
      const golden = goldenPictures();
      const { output } = await sh(
        `python3 -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)["jobs"]["screens"]["steps"]))'`,
        { stdin: readFileSync(join(project, WORKFLOW), 'utf8') },
      );
      const steps = JSON.parse(output.slice(output.indexOf('\n'))) as {
        run?: string;
        uses?: string;
        with?: { path?: string };
      }[];
      const runs = steps.flatMap(({ run }) => run ?? []);

      // The packages are installed on this machine.
      for (const command of runs.filter((run) => !run.startsWith('apt-get ')))
        await expectDone(command, { CI: 'true' });

      expect(runs).toContain('npx vitest run');
      expect(goldenPictures()).toEqual(golden);
      const artifact = steps.find(({ uses }) => uses?.startsWith('actions/upload-artifact@'))!.with!.path!;
      expect(readFileSync(join(project, artifact, 'scanout/report.html'), 'utf8')).toContain('shell.png');
    });

    test('assertScreenshot works with node --test', async () => {
      const [, command] = /`(node --test \S+)`/.exec(document)!;
      await expectDone(command!);
      await expectDone(command!, { CI: 'true' });
      expect(readFileSync(join(project, 'golden/console.png'), 'base64')).toBe(
        goldenPictures()['console.test.ts/console.png'],
      );
    });

    test('every TypeScript file passes the type checker', async () => {
      const files = blocks.flatMap(({ file }) => (file?.endsWith('.ts') ? [file] : []));
      await expectDone(
        `'${root}/node_modules/.bin/tsc' --noEmit --ignoreConfig --strict --target es2022 --lib es2023,esnext.disposable --module nodenext --skipLibCheck --typeRoots '${root}/node_modules/@types' --types node ${files.join(' ')}`,
      );
    });

    test('scanout compare exits with 1 and writes a picture of the differences', async () => {
      copyFileSync(join(project, '__screenshots__/login.test.ts/login.png'), join(project, 'expected.png'));
      copyFileSync(join(project, '__screenshots__/login.test.ts/shell.png'), join(project, 'actual.png'));
      const [compare] = commands('scanout compare') as [string];

      expect(await sh(compare)).toMatchObject({
        code: 1,
        output: expect.stringMatching(/actual.png: \d+ of \d+ pixels differ/) as string,
      });
      expect(readdirSync(project)).toContain('diff.png');
    });
  },
);
