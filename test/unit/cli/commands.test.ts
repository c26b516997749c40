import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createProgram } from '../../../src/cli/program.ts';
import { scanout } from './scanout.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-cli-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('scanout --help', () => {
  test.each([
    'run',
    'view',
    'replay',
    'record',
    'screenshot',
    'compare',
    'report',
    'stats',
    'doctor',
    'qemu-args',
    'libvirt',
    'vhost-user-gpu',
    'completions',
  ])('of %s ends with an example', async (name) => {
    const { code, stdout } = await scanout(name, '--help');

    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`\\nExample:\\n  \\$ scanout ${name}( |\\n)`));
  });

  test.each(['type', 'press', 'click', 'move', 'drag', 'scroll', 'touch', 'wait', 'watch', 'mcp'])(
    'of %s, which drives a bridge, ends with an example',
    async (name) => {
      const command = (await createProgram([name])).commands.find((each) => each.name() === name)!;
      let text = '';
      command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();

      expect(text).toMatch(new RegExp(`\\nExample:\\n  \\$ scanout ${name} `));
      expect(text).toContain('--control <socket>');
    },
  );

  test('lists every command; `help COMMAND` equals `COMMAND --help`', async () => {
    const { code, stdout } = await scanout('--help');

    expect(code).toBe(0);
    for (const name of [
      'run',
      'view',
      'replay',
      'record',
      'screenshot',
      ...['type', 'press', 'click', 'move', 'drag', 'scroll', 'touch', 'wait', 'watch', 'mcp'],
      'compare',
      'report',
      'stats',
      'doctor',
      'qemu-args',
      'libvirt',
      'vhost-user-gpu',
      'completions',
    ])
      expect(stdout).toContain(`\n  ${name} `);
    expect((await scanout('help', 'stats')).stdout).toBe((await scanout('stats', '--help')).stdout);
  });

  test('--version prints the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };

    expect(await scanout('--version')).toMatchObject({ code: 0, stdout: `${version}\n` });
  });
});

describe('an invalid command line exits with 2 and says what to do', () => {
  test.each([
    ['no command', [], 'Usage: scanout'],
    ['an unknown command', ['relpay'], 'Did you mean replay?'],
    ['an unknown option', ['stats', '--jsn'], 'Did you mean --json?'],
    ['a missing option', ['record', '/tmp/never'], "'--guest <spec>' not specified"],
    ['neither a guest nor QEMU', ['run'], 'write --guest vhost-user:SOCKET'],
    ['an unknown guest', ['run', '--guest', 'tcp:1234'], 'vhost-user:SOCKET'],
    ['an unknown output', ['run', '--guest', 'vhost-user:/tmp/x', '--output', 'kms:'], 'headless:WIDTHxHEIGHT'],
    ['an invalid mode', ['run', '--guest', 'vhost-user:/tmp/x', '--output', 'headless:0x1'], '1 to 16384'],
    ['an invalid number of monitors', ['run', '--guest', 'vhost-user:/tmp/x', '--scanouts', '17'], '1 to 16'],
    [
      'more outputs than monitors',
      [
        'run',
        '--guest',
        'vhost-user:/tmp/x',
        '--scanouts',
        '1',
        '--output',
        'headless:9x9',
        '--output',
        'headless:9x9',
      ],
      '--scanouts',
    ],
    [
      "the VMM's display twice",
      ['run', '--guest', 'vhost-user:/tmp/x', '--output', 'vmm', '--output', 'vmm:dmabuf'],
      'once',
    ],
    [
      'two exports',
      ['run', '--guest', 'vhost-user:/tmp/x', '--output', 'export:/tmp/y', '--output', 'export:/tmp/z'],
      'any number of consumers connect to it',
    ],
    [
      'a colour that no output can show',
      ['run', '--guest', 'vhost-user:/tmp/x', '--when-off', '#203040'],
      'works only with --output kms',
    ],
    ['a size without a unit', ['qemu-args', '--socket', '/tmp/x', '--memory', '2048'], '512M or 2G'],
    ['a replay to a VMM', ['replay', '--output', 'vmm'], 'a recording has no VMM'],
    ['a replay to other processes', ['replay', '--output', 'export:/tmp/y'], 'works with `scanout run`'],
    [
      'a PNG without a headless output',
      ['replay', '--output', 'kms', '--png', '/tmp/never.png'],
      'add --output headless:WIDTHxHEIGHT',
    ],
    [
      'more outputs than the recording has monitors',
      ['replay', '--output', 'headless:9x9', '--output', 'headless:9x9'],
      'a recording of 1 monitors',
    ],
    ['an unknown log level', ['replay', '--log-level', 'chatty'], 'info, warn, error'],
    ['a folder without comparisons', ['report', '/nonexistent'], 'no comparison is recorded in this folder'],
    ['a surplus argument', ['doctor', 'now'], 'too many arguments'],
  ])('%s', async (_what, args, hint) => {
    const { code, stdout, stderr } = await scanout(...args);

    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(hint);
  });
});

describe('a command that fails exits with 1 and prints one line without a stack', () => {
  test.each([
    ['stats', ['stats', '--control', '/nonexistent/x.sock'], 'no bridge answers at /nonexistent/x.sock'],
    ['screenshot', ['screenshot', '--control', '/nonexistent/x.sock', '/tmp/never.png'], 'no bridge answers'],
    ['run', ['run', '--guest', 'vhost-user:/nonexistent/x.sock'], 'its directory does not exist'],
    ['run on a descriptor that is not open', ['run', '--guest', 'vhost-user:fd=99'], 'it is not open'],
    ['replay of no file', ['replay', '/nonexistent.scanout'], '/nonexistent.scanout'],
    ['replay of another kind of file', ['replay', '/etc/passwd'], 'not a recording'],
  ])('%s', async (_what, args, hint) => {
    const { code, stdout, stderr } = await scanout(...args);

    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^scanout: [^\n]*\n$/);
    expect(stderr).toContain(hint);
  });
});

describe('scanout doctor', () => {
  test('prints all checks and the rung of each output, as text and as JSON', async () => {
    const text = await scanout('doctor');
    const json = await scanout('doctor', '--json');
    const { checks, rungs } = JSON.parse(json.stdout) as {
      checks: { name: string; ok: boolean; detail: string }[];
      rungs: { output: string; rung: string; why: string }[];
    };

    expect([text.code, json.code]).toEqual([0, 0]);
    const names = checks.map(({ name }) => name);
    expect(names.filter((name) => !name.startsWith('KMS'))).toEqual([
      'udmabuf',
      'memfd',
      'pixman',
      'vm.max_map_count',
      'DRM devices',
      'libgbm',
      'libseat',
      'libudev',
      'pango and cairo',
      'libinput',
      'input devices',
      'Wayland compositor',
      'clipboard',
      'QEMU with vhost-user-gpu',
      'D-Bus',
      'mediated devices',
      'libvirt',
      'seccomp',
      'Landlock',
    ]);
    expect(names).toContainEqual(expect.stringMatching(/^KMS/));
    expect(checks.find(({ name }) => name === 'memfd')!.ok).toBe(true);
    expect(rungs.map(({ output }) => output).filter((output) => !output.startsWith('kms:'))).toEqual([
      'headless',
      'vmm',
      'vmm:dmabuf',
      'export',
      'vnc',
      'wayland',
    ]);
    expect(rungs[0]!.rung).toBe(existsSync('/dev/udmabuf') ? 'udmabuf' : 'shadow');
    for (const { detail } of checks) expect(text.stdout).toContain(detail);
    for (const { why } of rungs) expect(text.stdout).toContain(why);
  });
});

test('scanout qemu-args: prints shell lines, or a JSON array of arguments', async () => {
  const json = await scanout('qemu-args', '--socket', '/tmp/gpu.sock', '--memory', '1G', '--json');

  expect((await scanout('qemu-args', '--socket', '/tmp/gpu.sock', '--memory', '1G')).stdout).toContain(
    '-object memory-backend-memfd,id=mem,size=1G,share=on \\\n',
  );
  expect((JSON.parse(json.stdout) as string[]).slice(-2)).toEqual(['-device', 'vhost-user-gpu-pci,chardev=vg']);
});
