import { spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { ioctl, tryIoctl } from '../../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { UnixConnection, socketPair } from '../../../src/sys/socket.ts';
import { skipWithoutProgram } from '../../rig/skip.ts';
import { expectNoLeaks } from './no-leaks.ts';

const FIONREAD = 0x541b;
const ENOTTY = 25;

expectNoLeaks();

test('ioctl: the kernel writes into a struct given as bytes or as an address', () => {
  const [a, b] = socketPair();
  using near = UnixConnection.adopt(a);
  using far = UnixConnection.adopt(b);
  near.send(new Uint8Array(5));
  const bytes = new Uint8Array(4);
  expect(ioctl(far, FIONREAD, 'FIONREAD', bytes)).toBe(0);
  expect([...bytes]).toEqual([5, 0, 0, 0]);
  using struct = NativeBuffer.allocate(4);
  expect(ioctl(far, FIONREAD, 'FIONREAD', struct.address)).toBe(0);
  expect(struct.view.getUint32(0, true)).toBe(5);
  expect(tryIoctl(far, FIONREAD, struct.address)).toBe(0);
});

test('ioctl: a failure throws with its name and errno; tryIoctl returns -errno', () => {
  using fd = OwnedFd.adopt(openSync('/dev/null', 'r'));
  expect(() => ioctl(fd, 0xc0de, 'DRM_IOCTL_MODE_ATOMIC', 0)).toThrow('ioctl(DRM_IOCTL_MODE_ATOMIC): ENOTTY');
  expect(() => ioctl(fd, 0xc0de, 'IT', new Uint8Array(1))).toThrow(
    expect.objectContaining({ code: 'ENOTTY', errno: ENOTTY, syscall: 'ioctl(IT)' }) as Error,
  );
  expect(tryIoctl(fd, 0xc0de, 0)).toBe(-ENOTTY);
});

test('ioctl: passes request numbers with the top bit set', () => {
  using fd = OwnedFd.adopt(openSync('/dev/null', 'r'));
  expect(tryIoctl(fd, 0xc038_64bc, 0)).toBe(-ENOTTY);
});

const ROOT = join(import.meta.dirname, '../../..');

test.skipIf(skipWithoutProgram('strace')).each(['EINTR', 'EAGAIN'])('ioctl: is called again after %s', (errno) => {
  const directory = mkdtempSync(join(tmpdir(), 'ioctl-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'five-bytes');
  writeFileSync(file, 'bytes');
  const asking = `
    import { openSync } from 'node:fs';
    import { OwnedFd } from '${ROOT}/src/sys/fd.ts';
    import { ioctl } from '${ROOT}/src/sys/ioctl.ts';
    const bytes = new Uint8Array(4);
    ioctl(OwnedFd.adopt(openSync('${file}', 'r')), ${FIONREAD}, 'FIONREAD', bytes);
    console.log(bytes[0]);
  `;
  const strace = ['-qq', '-P', file, '-e', 'trace=ioctl', '-e', `inject=ioctl:error=${errno}:when=1..3`];
  const node = [process.execPath, '--import', 'tsx', '--input-type=module', '-e', asking];
  const { stdout, stderr } = spawnSync('strace', [...strace, ...node], { cwd: ROOT, encoding: 'utf8' });
  expect(stdout).toBe('5\n');
  expect(stderr.match(new RegExp(`FIONREAD.* = -1 ${errno} .*\\(INJECTED\\)`, 'g'))).toHaveLength(3);
});
