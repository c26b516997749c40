import { ftruncateSync, readFileSync, readlinkSync } from 'node:fs';
import { expect, test } from 'vitest';
import { F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, createMemfd, getSeals } from '../../../src/sys/memfd.ts';
import { fileSize } from '../../rig/process-resources.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

test('createMemfd: makes a file with the name, the size and by default only F_SEAL_SHRINK', () => {
  using fd = createMemfd('guest-ram', 12345);
  expect(readlinkSync(`/proc/self/fd/${fd.fd}`)).toContain('/memfd:guest-ram');
  expect(fileSize(fd)).toBe(12345);
  expect(getSeals(fd)).toBe(F_SEAL_SHRINK);
});

test('createMemfd: the descriptor is close-on-exec', () => {
  using fd = createMemfd('cloexec', 1);
  expect(readFileSync(`/proc/self/fdinfo/${fd.fd}`, 'utf8')).toMatch(/flags:\s+02\d{6}/);
});

test('createMemfd: the seals are enforced', () => {
  using fd = createMemfd('sealed', 4096, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  expect(getSeals(fd)).toBe(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  expect(() => ftruncateSync(fd.fd, 4095)).toThrow('EPERM');
  expect(() => ftruncateSync(fd.fd, 4097)).toThrow('EPERM');
});

test('createMemfd: makes files larger than 4 GiB', () => {
  using fd = createMemfd('large', 5 * 2 ** 30);
  expect(fileSize(fd)).toBe(5 * 2 ** 30);
});

test('createMemfd: closes the descriptor if sizing or sealing fails', () => {
  expect(() => createMemfd('refused', -1)).toThrow('ftruncate: EINVAL');
  expect(() => createMemfd('refused', 1, 0x8000_0000)).toThrow('fcntl(F_ADD_SEALS): EINVAL');
});

test('getSeals: throws EINVAL for a descriptor that cannot be sealed', () => {
  const [a, b] = socketPair();
  expect(() => getSeals(a)).toThrow('fcntl(F_GET_SEALS): EINVAL');
  expect(fileSize(b)).toBe(0);
  a[Symbol.dispose]();
  b[Symbol.dispose]();
});
