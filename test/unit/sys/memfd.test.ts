import { ftruncateSync, readFileSync, readlinkSync } from 'node:fs';
import { expect, test } from 'vitest';
import { F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, createMemfd, getSeals } from '../../../src/sys/memfd.ts';
import { fileSize } from '../../rig/process-resources.ts';
import { socketPair } from '../../../src/sys/socket.ts';
import { expectNoLeaks } from './no-leaks.ts';

expectNoLeaks();

test('a memfd has its name, its size and, by default, the one seal udmabuf needs', () => {
  using fd = createMemfd('guest-ram', 12345);
  expect(readlinkSync(`/proc/self/fd/${fd.fd}`)).toContain('/memfd:guest-ram');
  expect(fileSize(fd)).toBe(12345);
  expect(getSeals(fd)).toBe(F_SEAL_SHRINK);
});

test('a memfd is close-on-exec', () => {
  using fd = createMemfd('cloexec', 1);
  expect(readFileSync(`/proc/self/fdinfo/${fd.fd}`, 'utf8')).toMatch(/flags:\s+02\d{6}/);
});

test('seals hold', () => {
  using fd = createMemfd('sealed', 4096, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  expect(getSeals(fd)).toBe(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  expect(() => ftruncateSync(fd.fd, 4095)).toThrow('EPERM');
  expect(() => ftruncateSync(fd.fd, 4097)).toThrow('EPERM');
});

test('sizes above 4 GiB are kept whole', () => {
  using fd = createMemfd('large', 5 * 2 ** 30);
  expect(fileSize(fd)).toBe(5 * 2 ** 30);
});

test('a failure half-way closes the descriptor', () => {
  expect(() => createMemfd('refused', -1)).toThrow('ftruncate: EINVAL');
  expect(() => createMemfd('refused', 1, 0x8000_0000)).toThrow('fcntl(F_ADD_SEALS): EINVAL');
});

test('what cannot be sealed has no seals to read', () => {
  const [a, b] = socketPair();
  expect(() => getSeals(a)).toThrow('fcntl(F_GET_SEALS): EINVAL');
  expect(fileSize(b)).toBe(0);
  a[Symbol.dispose]();
  b[Symbol.dispose]();
});
