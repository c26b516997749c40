/** The script of README.md that drives a guest, in front of a real one that boots from its disk; and `scanout mcp`. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import { ControlClient } from '../../src/control/client.ts';
import { DISK_TOOLS, makeBootableDisk } from '../rig/bootable-disk.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { expectSamePicture } from '../rig/picture.ts';
import { buildScanout, MAIN } from '../rig/scanout-run.ts';

const project = join(import.meta.dirname, '../..');
const readme = readFileSync(join(project, 'README.md'), 'utf8');
/** Its lines, without the comments at their ends; the first one starts the bridge. */
const [, pasted] = /^### A guest that a script or an agent operates\n\n```sh\n(.*?)```/ms.exec(readme)!;
const [start, ...script] = pasted!
  .trim()
  .split('\n')
  .map((line) => line.replace(/ +#.*/, ''));

describe.skipIf(skipWithoutGuest(...DISK_TOOLS))('the script of README.md that drives a guest', () => {
  let dir: string;
  let env: NodeJS.ProcessEnv;
  let running: ChildProcess;
  let log = '';
  let bridge: ControlClient;

  /** Runs lines of shell as a user's shell does, until one fails. */
  function sh(...lines: readonly string[]): Promise<{ code: number; output: string }> {
    const command = lines.join('\n');
    return new Promise((resolve) =>
      execFile('sh', ['-e', '-c', command], { cwd: dir, env }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code) : 0, output: `$ ${command}\n${stdout}${stderr}${log}` }),
      ),
    );
  }

  async function done(...lines: readonly string[]): Promise<void> {
    const { code, output } = await sh(...lines);
    expect(code, output).toBe(0);
  }

  beforeAll(() => {
    buildScanout();
    dir = mkdtempSync(join(tmpdir(), 'scanout-drive-'));
    makeBootableDisk(join(dir, 'disk.qcow2'));
    mkdirSync(join(dir, 'bin'));
    writeFileSync(join(dir, 'bin/scanout'), `#!/bin/sh\nexec ${process.execPath} ${MAIN} "$@"\n`, { mode: 0o755 });
    env = { ...process.env, PATH: `${join(dir, 'bin')}:${process.env['PATH']!}`, XDG_RUNTIME_DIR: dir };
    bridge = new ControlClient(join(dir, 'scanout-bridge.sock'));
    const command = start!.replace(/ &$/, '');
    running = spawn('setpriv', ['--pdeathsig', 'KILL', 'sh', '-c', `exec ${command}`], {
      cwd: dir,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [running.stdout!, running.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => (log += text));
    running.on('close', (code) => (log += `scanout run ended with ${code}\n`));
  });
  afterAll(async () => {
    if (running.exitCode === null && running.signalCode === null) {
      const ended = once(running, 'close');
      running.kill('SIGTERM');
      await ended;
    }
    rmSync(dir, { recursive: true, force: true });
  });

  test('logs in, runs an editor, and compares a golden picture', async () => {
    const [match] = script.slice(-1);
    // The control socket is there once the bridge listens.
    await done('until scanout stats >/dev/null 2>&1; do sleep 0.1; done', ...script.slice(0, -1));
    // The golden picture is made by hand, once.
    await done('scanout wait stable --quiet-ms 1000', 'scanout screenshot editor.png');
    expect(match).toBe('scanout wait match editor.png');
    await done("scanout type ':q!' && scanout press enter", 'scanout type clear && scanout press enter');
    const missed = await sh(`${match!} --timeout-ms 500`);
    await done(...script.slice(-2));

    expect(missed.code).toBe(1);
    expect(missed.output).toMatch(/scanout 0 did not show the expected picture \(last: .*\) within 500 ms/);
    const golden = decodePng(readFileSync(join(dir, 'editor.png')));
    expectSamePicture(await bridge.screenshot(), golden, 'drive-editor');
    // An empty buffer: a column of tildes at the left, and nothing else above the last line.
    const lit = Array.from({ length: golden.width * (golden.height - 16) }, (_, i) => i).filter(
      (i) => golden.data[i * 4] !== 0,
    );
    expect(lit.length).toBeGreaterThan(0);
    expect(lit.every((i) => i % golden.width < 8)).toBe(true);
  });

  test('scanout mcp types, waits and takes the picture that the editor then shows', async () => {
    const client = new Client({ name: 'test', version: '1' });
    await client.connect(
      new StdioClientTransport({
        command: join(dir, 'bin/scanout'),
        args: ['mcp'],
        env: env as Record<string, string>,
      }),
    );
    const call = (name: string, args: Record<string, unknown> = {}) => client.callTool({ name, arguments: args });
    await call('type', { text: 'ihello\n' });
    await call('wait_stable', { quietMs: 1000 });
    const { content } = await call('screenshot', { region: { x: 0, y: 0, width: 320, height: 64 } });
    copyFileSync(join(dir, 'editor.png'), join(dir, 'other.png'));
    const differs = await call('wait_match', { golden: join(dir, 'other.png'), timeoutMs: 500 });
    await client.close();

    const { data } = content[0] as { data: string };
    const region = { x: 0, y: 0, width: 320, height: 64 };
    expectSamePicture(decodePng(Buffer.from(data, 'base64')), await bridge.screenshot({ region }), 'drive-mcp');
    expect(differs).toMatchObject({ isError: true });
  });

  test('watch tells of the frame that a key causes, and where it changed something', async () => {
    const events = bridge.watch();
    const { value: before } = await events.next();
    const changed = events.next();
    await bridge.type('x');
    const { value } = await changed;
    await events.return();

    expect(before).toMatchObject({ frames: 0 });
    expect(value!.frames).toBeGreaterThan(0);
    expect(value!.damage.length).toBeGreaterThan(0);
  });

  test('scanout stats --trace writes when each frame that keys cause came to each stage', async () => {
    const over = new AbortController();
    const typing = (async () => {
      while (!over.signal.aborted) await bridge.type('y');
    })();
    const frames = bridge.trace();
    const { value } = await frames.next();
    await frames.return();
    const said = await sh('scanout stats --trace trace.json --seconds 1');
    over.abort();
    await typing;

    for (const { output, flushed, staged, presented, onScreen } of value!.frames) {
      expect(output).toMatch(/^headless/);
      expect([flushed, staged, presented, onScreen].toSorted((a, b) => a - b)).toEqual([
        flushed,
        staged,
        presented,
        onScreen,
      ]);
    }
    expect(said).toMatchObject({ code: 0, output: expect.stringMatching(/trace\.json: [1-9]\d* frames/) as string });
    expect(readFileSync(join(dir, 'trace.json'), 'utf8')).toContain('"on the way to the screen"');
  });
});
