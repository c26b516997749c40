import { expect, test } from 'vitest';
import { QemuProcess } from '../../../src/qemu/process.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { withFreeFds } from '../sys/few-fds.ts';

test('QemuProcess: has exited, with the reason, if there are no descriptors to start it', async () => {
  using memfd = createMemfd('any', 4096);
  let qemu!: QemuProcess;
  withFreeFds(memfd, 2, () => {
    qemu = new QemuProcess('true', [], []);
  });
  await qemu.exited;

  expect(qemu.isGone).toBe(true);
  expect(qemu.exitReason).toBe('true could not be started: spawn /usr/bin/setpriv EMFILE');
});

test('QemuProcess: quotes nothing of the guest that a terminal would obey', async () => {
  const qemu = new QemuProcess('printf', ['console: \\033]0;mine\\007\\033[2J\\n\\tred'], []);
  await qemu.exited;

  expect(qemu.log).toBe('console: \x1b]0;mine\x07\x1b[2J\n\tred');
  expect(qemu.exitReason).toBe('printf exited with code 0; last output:\n  console: ?]0;mine??[2J\n  \tred');
});
