/** How launches fail, with programs in QEMU's place; test/host has real guests. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { launchGuest } from '../../../src/testing/launch-guest.ts';
import { mappingCount, openFds } from '../../rig/process-resources.ts';

const PATIENCE_MS = 30_000;

let directory: string;
let before: unknown[];

const resources = (): unknown[] => [openFds(), mappingCount()];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-launch-'));
  // What Node keeps open from the first child on.
  await once(spawn('true', { stdio: ['ignore', 'pipe', 'pipe'] }), 'close');
  before = resources();
});
afterEach(() => {
  expect(resources()).toEqual(before);
  rmSync(directory, { recursive: true });
});

function program(script: string): string {
  const path = join(directory, 'qemu');
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

/** A program that does nothing, and what tells of its life: descriptors it holds open. */
function idler(): { qemu: string; began: Promise<unknown>; ended: Promise<unknown> } {
  const fifo = join(directory, 'life');
  execFileSync('mkfifo', [fifo]);
  const life = createReadStream(fifo);
  const [began, ended] = [once(life, 'data'), once(life, 'close')];
  return { qemu: program(`exec 9>${fifo}; echo alive >&9; exec sleep 1000`), began, ended };
}

test('without QEMU: what to install', async () => {
  await expect(launchGuest({ qemu: 'qemu-system-none' })).rejects.toMatchObject({ code: 'missing', message: expect.stringMatching(/no program qemu-system-none: install QEMU \(Debian: qemu-system-x86\)/) as string });
});

test('QEMU refuses its arguments: its own words', async () => {
  await expect(launchGuest({ qemu: program('echo "qemu: there is no such machine" >&2; exit 3'), accel: 'tcg' })).rejects.toMatchObject({
    code: 'exited',
    message: expect.stringMatching(/ended with exit code 3; it said last:\n {2}qemu: there is no such machine$/) as string,
  });
});

test('KVM that is there and does not work is done without', async () => {
  const qemu = program('case "$*" in *"-accel kvm"*) echo "no KVM after all" >&2; kill -ABRT $$;; *) echo "without it" >&2; exit 4;; esac');

  await expect(launchGuest({ qemu })).rejects.toMatchObject({ code: 'exited', message: expect.stringContaining('without it') as string });
  await expect(launchGuest({ qemu, accel: 'kvm' })).rejects.toMatchObject({ code: 'exited', message: expect.stringMatching(/SIGABRT[^]*no KVM after all/) as string });
});

test('nothing is ever shown: what is missing, and the process is gone', async () => {
  const { qemu, ended } = idler();

  await expect(launchGuest({ qemu, accel: 'tcg', timeoutMs: 300 })).rejects.toMatchObject({ code: 'timeout', message: expect.stringMatching(/showed nothing for 0.3 s: its virtio-gpu driver did not start/) as string });
  await ended;
}, PATIENCE_MS);

test('a launch that is given up leaves no process', async () => {
  const { qemu, began, ended } = idler();
  const giveUp = new AbortController();
  const failed = expect(launchGuest({ qemu, accel: 'tcg', signal: giveUp.signal })).rejects.toThrow('enough');
  await began;
  giveUp.abort(new Error('enough'));

  await failed;
  await ended;
}, PATIENCE_MS);

test('this process is killed while QEMU runs: QEMU is gone too', async () => {
  const { qemu, began, ended } = idler();
  const source = JSON.stringify(join(import.meta.dirname, '../../../src/testing/launch-guest.ts'));
  const code = `const { launchGuest } = await import(${source}); await launchGuest({ qemu: ${JSON.stringify(qemu)}, accel: 'tcg' });`;
  const launcher = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], { stdio: ['ignore', 'inherit', 'inherit'] });
  const closed = once(launcher, 'close');
  await began;
  launcher.kill('SIGKILL');

  await ended;
  await closed;
}, PATIENCE_MS);
