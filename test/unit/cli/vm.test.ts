/** `scanout run -- QEMU` and `scanout view` with a program that behaves as QEMU, without a guest. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { requestStats } from '../../../src/control/client.ts';
import { eventually } from '../../rig/eventually.ts';
import { ended, type Outcome, scanout, start } from './scanout.ts';

const SHORT_WAITS = new URL('../../rig/short-waits.ts', import.meta.url).href;

let directory: string;
let children: ChildProcess[];
const file = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-vm-'));
  children = [];
  // The programs use `require`, whatever a package.json further up says.
  writeFileSync(file('package.json'), '{ "type": "commonjs" }');
  // Answers on its control channel, and says on stdout what it is asked and which signals it gets.
  program(
    'qemu',
    `
    const { Socket } = require('node:net');
    const option = (pattern) => Number(process.argv.join(' ').match(pattern)?.[1]);
    const has = (word) => process.argv.includes(word);
    const qmp = new Socket({ fd: option(/id=scanout-qmp,fd=(\\d+)/), readable: true, writable: true });
    qmp.on('error', () => undefined);
    if (!has('mute')) qmp.write('{"QMP":{}}\\n');
    let text = '';
    qmp.setEncoding('utf8').on('data', (more) => {
      const lines = (text += more).split('\\n');
      text = lines.pop();
      for (const { execute, id } of lines.map((line) => JSON.parse(line))) {
        if (!['qmp_capabilities', 'query-status'].includes(execute)) console.log('asked', execute);
        const status = has('stuck') ? 'internal-error' : 'running';
        if (!has('mute')) qmp.write(JSON.stringify({ return: { status }, id }) + '\\n');
        if (execute === 'system_powerdown' && !has('stubborn')) process.exit(0);
      }
    });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
      process.on(signal, () => {
        console.log('got', signal);
        if (!has('undying')) process.exit(has('stuck') ? 0 : 7);
      });
    setInterval(() => undefined, 60000);
    console.log('started', process.pid, JSON.stringify(process.argv.slice(2)));`,
  );
});

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

function program(name: string, source: string): void {
  writeFileSync(file(name), `#!${process.execPath}\n${source}`);
  chmodSync(file(name), 0o755);
}

function run(
  args: readonly string[],
  command = 'run',
  { env, ...options }: { env?: NodeJS.ProcessEnv; preload?: string } = {},
): ChildProcess {
  const child = start([command, '--control', file('control'), ...args], {
    env: { XDG_RUNTIME_DIR: directory, PATH: `${directory}:${process.env['PATH']}`, ...env },
    cwd: directory,
    ...options,
  });
  children.push(child);
  return child;
}

/** Starts the command; resolves when QEMU and the bridge run. */
async function running(
  qemuArgs: readonly string[],
  options: readonly string[] = [],
  { isHurried = false } = {},
): Promise<Running> {
  const child = run([...options, '--', file('qemu'), ...qemuArgs], 'run', isHurried ? { preload: SHORT_WAITS } : {});
  const outcome = ended(child);
  let said = '';
  child.stdout!.on('data', (text: Buffer) => (said += text.toString()));
  await eventually(() => expect(said).toMatch(/started \d+ .*\n/));
  const bridge = childrenOf(child.pid!).find((pid) => commandLine(pid).includes('vhost-user:fd='))!;
  return { child, outcome, said: () => said, bridge, qemu: Number(/started (\d+)/.exec(said)![1]) };
}

interface Running {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  readonly said: () => string;
  readonly bridge: number;
  readonly qemu: number;
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
}

function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
}

function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

describe('scanout run -- QEMU', () => {
  test("passes on QEMU's output and exit code, and leaves nothing behind", async () => {
    program('exits', `console.log('out'); console.error('err'); process.exit(3);`);

    expect(await ended(run(['--', file('exits'), '-m', '512']))).toMatchObject({
      code: 3,
      stdout: 'out\n',
      stderr: expect.stringContaining('err\n') as string,
    });
    expect(readdirSync(directory).sort()).toEqual(['exits', 'package.json', 'qemu']);
  });

  test('gives QEMU the devices, and serves stats while it runs', async () => {
    const { child, outcome, said, bridge } = await running(['-m', '512'], ['--input', '--input', 'touch']);

    const args = JSON.parse(/started \d+ (.*)/.exec(said())![1]!) as string[];
    expect(args.filter((arg) => arg.startsWith('vhost-user'))).toEqual([
      'vhost-user-gpu-pci,chardev=scanout-vg',
      'vhost-user-input-pci,chardev=scanout-vi0',
      'vhost-user-input-pci,chardev=scanout-vi1',
    ]);
    expect(await requestStats(file('control'))).toMatchObject({ guest: { connected: true } });
    child.kill('SIGTERM');
    expect(await outcome).toMatchObject({ code: 7, stdout: expect.stringContaining('got SIGTERM') as string });
    expect(isRunning(bridge)).toBe(false);
  });

  test.each(['SIGINT', 'SIGHUP'] as const)('passes %s on to QEMU', async (signal) => {
    const { child, outcome } = await running([]);
    child.kill(signal);
    expect(await outcome).toMatchObject({ code: 7, stdout: expect.stringContaining(`got ${signal}`) as string });
  });

  test('kills a QEMU that ignores a signal when it gets a second one', async () => {
    const { child, outcome, said } = await running(['undying']);
    child.kill('SIGINT');
    await eventually(() => expect(said()).toContain('got SIGINT'));
    child.kill('SIGINT');
    expect((await outcome).code).toBe(128 + 9);
  });

  test('asks the guest to shut down when the bridge has ended, and fails', async () => {
    const { outcome, bridge } = await running([]);
    process.kill(bridge, 'SIGKILL');
    expect(await outcome).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('asked system_powerdown') as string,
      stderr: expect.stringContaining(
        'the bridge ended (SIGKILL): the guest is asked to shut down and has 60 s',
      ) as string,
    });
  });

  test('ends QEMU when the guest does not shut down in time', async () => {
    const { outcome, bridge } = await running(['stubborn'], ['--patience', '0']);
    process.kill(bridge, 'SIGKILL');
    const { code, stdout, stderr } = await outcome;
    expect({ code, stdout }).toEqual({
      code: 7,
      stdout: expect.stringMatching(/asked system_powerdown\ngot SIGTERM/) as string,
    });
    expect(stderr).toContain('the guest did not shut down: ending QEMU');
  });

  test('kills a QEMU that ignores SIGTERM as well', async () => {
    const { outcome, bridge } = await running(['stubborn', 'undying'], ['--patience', '0'], { isHurried: true });
    process.kill(bridge, 'SIGKILL');
    const { code, stdout, stderr } = await outcome;
    expect({ code, stdout }).toEqual({
      code: 128 + 9,
      stdout: expect.stringMatching(/asked system_powerdown\ngot SIGTERM/) as string,
    });
    expect(stderr).toContain('the guest did not shut down: ending QEMU');
  });

  test('ends a QEMU that has stopped its guest for good, says what may help, and fails', async () => {
    const { outcome } = await running(['stuck']);

    expect(await outcome).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/started [^]*got SIGTERM\n$/) as string,
      stderr: expect.stringMatching(
        /error .*could not go on.*-accel tcg for QEMU, --accel tcg for scanout view/,
      ) as string,
    });
  });

  test('ends a QEMU that does not answer on its control channel', async () => {
    const { outcome, bridge } = await running(['mute'], [], { isHurried: true });
    process.kill(bridge, 'SIGKILL');
    expect(await outcome).toMatchObject({
      code: 7,
      stdout: expect.stringContaining('got SIGTERM') as string,
      stderr: expect.stringContaining(
        'QEMU cannot be asked to shut the guest down (QEMU did not answer in 5 s): ending QEMU',
      ) as string,
    });
  });

  test('ends a QEMU whose control channel is closed', async () => {
    program(
      'deaf',
      `require('node:fs').closeSync(3 + 1); console.log('started', process.pid); setInterval(() => {}, 1000);`,
    );
    const child = run(['--', file('deaf')]);
    const outcome = ended(child);
    await once(child.stdout!, 'data');
    process.kill(
      childrenOf(child.pid!).find((pid) => commandLine(pid).includes('vhost-user:fd='))!,
      'SIGKILL',
    );
    expect(await outcome).toMatchObject({
      code: 128 + 15,
      stderr: expect.stringMatching(
        /QEMU cannot be asked to shut the guest down \(QMP .*: QEMU closed its QMP socket\)/,
      ) as string,
    });
  });

  test('QEMU and the bridge end with it, however it ends', async () => {
    const { child, outcome, bridge, qemu, said } = await running([]);
    child.kill('SIGKILL');
    await eventually(() =>
      expect([said(), isRunning(qemu), isRunning(bridge)]).toEqual([
        expect.stringContaining('got SIGTERM'),
        false,
        false,
      ]),
    );
    await outcome;
    expect(existsSync(file('control'))).toBe(false);
  });

  test.each([
    ['a clashing flag of QEMU', ['--', 'qemu', '-vga', 'std'], 2, 'remove it'],
    ['an output that is none', ['--output', 'screen', '--', 'qemu'], 2, '--output: cannot use'],
    ['an invalid mode', ['--output', 'headless:0x1', '--', 'qemu'], 2, '1 to 16384'],
    ['an input that is a socket', ['--input', 'vhost-user:/tmp/x', '--', 'qemu'], 2, '--input touch'],
    ['two keyboards', ['--input', '--input', '--', 'qemu'], 2, 'at most one keyboard'],
    ['a guest as well', ['--guest', 'vhost-user:/tmp/x', '--', 'qemu'], 2, 'leave it out'],
    ['a patience that is none', ['--patience', '-1', '--', 'qemu'], 2, 'from 0 to 86400'],
    ['no program', ['--', 'qemu-system-none'], 1, 'program qemu-system-none not found: install QEMU'],
  ])('starts no QEMU with %s', async (_what, args, code, why) => {
    const outcome = await ended(run(args));
    expect({ ...outcome, stderr: '' }).toEqual({ code, stdout: '', stderr: '' });
    expect(outcome.stderr).toContain(why);
    expect(outcome.stderr).not.toMatch(/\n {4}at /);
  });
});

test('scanout run: without a guest and without QEMU says how to give either', async () => {
  expect(await scanout('run', '--input')).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/write --guest vhost-user:SOCKET.*or a QEMU command after --/) as string,
  });
});

describe('scanout view', () => {
  test('runs QEMU with the disk and says how', async () => {
    program('qemu-system-x86_64', `console.log(process.argv.slice(2).join(' ')); process.exit(4);`);
    writeFileSync(file('my disk.qcow2'), 'QFI\xfb', 'latin1');

    const { code, stdout, stderr } = await ended(
      run(['--output', 'headless:64x48', '--memory', '1G', '--cpus', '2', 'my disk.qcow2'], 'view'),
    );

    const command = '-machine q35,accel=kvm:tcg -cpu max -smp 2 -m 1G -drive';
    expect(code).toBe(4);
    expect(stdout).toContain(`${command} if=virtio,format=qcow2,file=my disk.qcow2 -object memory-backend-memfd`);
    expect(stdout).toContain('vhost-user-input-pci');
    expect(stderr).toContain(
      `scanout run --input -- qemu-system-x86_64 ${command} 'if=virtio,format=qcow2,file=my disk.qcow2'\n`,
    );
  });

  test('runs the guest without KVM where that is asked for', async () => {
    program('qemu-system-x86_64', `console.log(process.argv.slice(2).join(' ')); process.exit(0);`);
    writeFileSync(file('disk.raw'), '');

    const { stdout } = await ended(run(['--output', 'headless:64x48', '--accel', 'tcg', 'disk.raw'], 'view'));

    expect(stdout).toMatch(/^-machine q35,accel=tcg -cpu max /);
  });

  test('without a compositor says how to give it another output', async () => {
    writeFileSync(file('disk.raw'), '');
    expect(await ended(run(['disk.raw'], 'view', { env: { WAYLAND_DISPLAY: '', WAYLAND_SOCKET: '' } }))).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/no Wayland compositor .*WAYLAND_DISPLAY is not set.*--output kms/) as string,
    });
  });

  test.each([
    ['no such file', ['/nonexistent.qcow2'], '/nonexistent.qcow2: no such file'],
    ['a directory', ['/tmp'], 'is a directory'],
    ['an image of unknown format', ['--output', 'headless:9x9', 'qemu'], 'perhaps --format raw'],
    ['memory that is none', ['--memory', '2', 'qemu'], '512M or 2G'],
    ['processors that are none', ['--cpus', '0', 'qemu'], '1 to 255'],
  ])('refuses %s', async (_what, args, why) => {
    const outcome = await ended(run(args, 'view'));
    expect(outcome).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(why) as string });
  });
});
