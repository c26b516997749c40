/** Failing launches, with other programs in place of QEMU; test/host has real guests. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { launchGuest } from '../../../src/testing/launch-guest.ts';
import { mappingCount, openFds } from '../../rig/process-resources.ts';

let directory: string;
let before: unknown[];

const resources = (): unknown[] => [openFds(), mappingCount()];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-launch-'));
  // Node keeps descriptors open from its first child process on.
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

/** A program that does nothing; promises for its start and its end, both observed through a FIFO that it holds open. */
function idler(): { qemu: string; began: Promise<unknown>; ended: Promise<unknown> } {
  const fifo = join(directory, 'life');
  execFileSync('mkfifo', [fifo]);
  const life = createReadStream(fifo);
  const [began, ended] = [once(life, 'data'), once(life, 'close')];
  return { qemu: program(`exec 9>${fifo}; echo alive >&9; exec sleep 1000`), began, ended };
}

test('launchGuest: rejects without QEMU and says what to install', async () => {
  await expect(launchGuest({ qemu: 'qemu-system-none' })).rejects.toMatchObject({
    code: 'missing',
    message: expect.stringMatching(
      /program qemu-system-none not found: install QEMU \(Debian: qemu-system-x86\)/,
    ) as string,
  });
});

test("launchGuest: rejects with QEMU's message when QEMU refuses its arguments", async () => {
  await expect(
    launchGuest({ qemu: program('echo "qemu: there is no such machine" >&2; exit 3'), accel: 'tcg' }),
  ).rejects.toMatchObject({
    code: 'exited',
    message: expect.stringMatching(/exited with code 3; last output:\n {2}qemu: there is no such machine$/) as string,
  });
});

test('launchGuest: tries TCG when KVM exists but does not work, unless accel is set', async () => {
  const qemu = program(
    'case "$*" in *"-accel kvm"*) echo "no KVM after all" >&2; kill -ABRT $$;; *) echo "without it" >&2; exit 4;; esac',
  );

  await expect(launchGuest({ qemu })).rejects.toMatchObject({
    code: 'exited',
    message: expect.stringContaining('without it') as string,
  });
  await expect(launchGuest({ qemu, accel: 'kvm' })).rejects.toMatchObject({
    code: 'exited',
    message: expect.stringMatching(/SIGABRT[^]*no KVM after all/) as string,
  });
});

test('launchGuest: tries TCG when KVM stops the guest', async () => {
  // QEMU keeps such a guest, and says on its control channel that it cannot go on.
  const qemu = join(directory, 'qemu');
  writeFileSync(
    qemu,
    `#!${process.execPath}
    const { Socket } = require('node:net');
    const command = process.argv.join(' ');
    if (!command.includes('-accel kvm')) { console.error('without it'); process.exit(4); }
    console.error('KVM internal error');
    const qmp = new Socket({ fd: Number(/id=qmp,fd=(\\d+)/.exec(command)[1]), readable: true, writable: true });
    let id = 0;
    qmp.on('data', () => qmp.write(JSON.stringify({ return: { status: 'internal-error' }, id: ++id }) + '\\n'));`,
    { mode: 0o755 },
  );

  await expect(launchGuest({ qemu })).rejects.toMatchObject({
    code: 'exited',
    message: expect.stringContaining('without it') as string,
  });
  await expect(launchGuest({ qemu, accel: 'kvm' })).rejects.toMatchObject({
    code: 'exited',
    message: expect.stringMatching(
      /stopped the guest, whose processor could not go on[^]*KVM internal error/,
    ) as string,
  });
});

test('launchGuest: when the guest shows nothing, rejects with advice and leaves no process', async () => {
  const { qemu, ended } = idler();

  await expect(launchGuest({ qemu, accel: 'tcg', timeoutMs: 2000 })).rejects.toMatchObject({
    code: 'timeout',
    message: expect.stringMatching(/showed nothing for 2 s: its virtio-gpu driver did not start/) as string,
  });
  await ended;
});

test('launchGuest: waits for up to an infinite time', async () => {
  const { qemu, began, ended } = idler();
  const giveUp = new AbortController();
  const failed = expect(
    launchGuest({ qemu, accel: 'tcg', timeoutMs: Infinity, signal: giveUp.signal }),
  ).rejects.toThrow('enough');
  await began;
  giveUp.abort(new Error('enough'));

  await failed;
  await ended;
});

test('launchGuest: rejects with the reason of its signal and leaves no process', async () => {
  const { qemu, began, ended } = idler();
  const giveUp = new AbortController();
  const failed = expect(launchGuest({ qemu, accel: 'tcg', signal: giveUp.signal })).rejects.toThrow('enough');
  await began;
  giveUp.abort(new Error('enough'));

  await failed;
  await ended;
});

test('launchGuest: QEMU dies when the launching process is killed', async () => {
  const { qemu, began, ended } = idler();
  const source = JSON.stringify(join(import.meta.dirname, '../../../src/testing/launch-guest.ts'));
  const code = `const { launchGuest } = await import(${source}); await launchGuest({ qemu: ${JSON.stringify(qemu)}, accel: 'tcg' });`;
  const launcher = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const closed = once(launcher, 'close');
  await began;
  launcher.kill('SIGKILL');

  await ended;
  await closed;
});
