import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { GuestMemory } from '../../src/guest/memory.ts';
import { dupFd, OwnedFd } from '../../src/sys/fd.ts';
import { FuseFile } from '../rig/fuse-file.ts';
import { mustReturn } from '../rig/must-return.ts';
import { skipBecause } from '../rig/skip.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';

const PAGE = 4096;
const O_RDWR = 2;
const O_PATH = 0o1000_0000;

expectNoLeaks();

const canMountFuse = existsSync('/dev/fuse') && process.getuid?.() === 0;
const skip = canMountFuse ? false : skipBecause('mounting a FUSE file system requires root and /dev/fuse');

test.skipIf(skip)(
  'GuestMemory: refuses memory on a file system that does not answer, without waiting for it',
  { timeout: 60_000 },
  async () => {
    const server = openSync('/dev/fuse', O_RDWR);
    const directory = mkdtempSync(join(tmpdir(), 'fuse-'));
    const options = 'fd=3,rootmode=40000,user_id=0,group_id=0';
    execFileSync('mount', ['-i', '-t', 'fuse', '-o', options, 'none', directory], {
      stdio: ['ignore', 'inherit', 'inherit', server],
    });
    const fd = openSync(directory, O_PATH);
    execFileSync('umount', ['--lazy', directory]);
    rmdirSync(directory);
    const region = { guestAddress: 0, size: PAGE, userAddress: 0, mmapOffset: 0 };
    await mustReturn(
      () => {
        expect(() => GuestMemory.map([region], [dupFd({ fd })], { allowUnsealed: true })).toThrow('no memfd');
      },
      // Ends the file system, and with it the call.
      `fs.closeSync(${server});`,
    );
    closeSync(server);
    closeSync(fd);
  },
);

test.skipIf(skip)(
  'OwnedFd: dispose of a received file whose file system does not answer does not wait for it',
  { timeout: 60_000 },
  async () => {
    await using file = await FuseFile.mount();
    const received = OwnedFd.receive(openSync(file.path, O_RDWR));
    await mustReturn(
      () => received[Symbol.dispose](),
      `require('node:child_process').execFileSync('umount', ['--force', '--lazy', '${file.path}']);`,
    );
  },
);
