import { existsSync, ftruncateSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect } from 'vitest';
import { OwnedFd } from '../../src/sys/fd.ts';
import { fcntl, memfdCreate } from '../../src/sys/libc.ts';
import { F_SEAL_SHRINK } from '../../src/sys/memfd.ts';
import { skipBecause } from '../rig/skip.ts';
import { expectNoLeaks } from '../unit/sys/no-leaks.ts';

const DEVICE = '/dev/udmabuf';
const PARAMETERS = '/sys/module/udmabuf/parameters';
const BUFINFO = '/sys/kernel/debug/dma_buf/bufinfo';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;
const F_ADD_SEALS = 1033;
/** Longer than the kernel takes on a busy machine. */
const SETTLE_LIMIT_MS = 30_000;

export const HUGE_PAGE = 2 * 2 ** 20;

/**
 * For `describe.skipIf`: true, with a printed reason, on a machine where these tests cannot run.
 * Under CI=true it throws instead.
 */
export function skipWithoutUdmabuf(): boolean {
  const missing = [DEVICE, BUFINFO].filter((path) => !existsSync(path));
  if (missing.length === 0) return false;
  return skipBecause(`no kernel tests without ${missing.join(', ')}: npm run test:kernel runs them in a VM`);
}

/** As `skipWithoutUdmabuf`, for a program that install.sh installs. */
export function skipWithoutProgram(path: string): boolean {
  if (existsSync(path)) return false;
  return skipBecause(`no tests with ${path}: run sh test/rig/install.sh as root`);
}

/** Number of dma-bufs on the whole machine, of all processes. */
export function dmabufCount(): number {
  return Number(/^Total (\d+) objects/m.exec(readFileSync(BUFINFO, 'utf8'))![1]);
}

/**
 * Waits until `read` returns `expected`, and fails with the last value otherwise. After the kernel has reported a flip
 * or taken an object back, it lets go of buffers in a thread of its own, and nothing announces that it has.
 */
export async function expectSettled<T>(read: () => T, expected: T): Promise<void> {
  await expect.poll(read, { timeout: SETTLE_LIMIT_MS, interval: 10 }).toEqual(expected);
}

/** Checks that every test of the file ends with the descriptors, mappings and dma-bufs it began with. */
export function expectNothingLeft(): void {
  expectNoLeaks();
  let before: number;
  beforeEach(() => {
    before = dmabufCount();
  });
  afterEach(() => expectSettled(dmabufCount, before));
}

/** Sets a parameter of the udmabuf driver until dispose. */
export function driverParameter(name: 'list_limit' | 'size_limit_mb', value: number): Disposable {
  return kernelSetting(`${PARAMETERS}/${name}`, value);
}

/** Sets the machine's number of huge pages until dispose. */
export function hugePages(count: number): Disposable {
  return kernelSetting('/proc/sys/vm/nr_hugepages', count);
}

/** A memfd of huge pages with the seals of guest memory; pages are allocated at first use. `length` is in bytes, a multiple of HUGE_PAGE. */
export function hugeMemfd(length: number): OwnedFd {
  const memfd = OwnedFd.adopt(memfdCreate('guest-huge', MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  ftruncateSync(memfd.fd, length);
  expect(fcntl(memfd.fd, F_ADD_SEALS, F_SEAL_SHRINK)).toBe(0);
  return memfd;
}

function kernelSetting(file: string, value: number): Disposable {
  const before = readFileSync(file, 'utf8');
  writeFileSync(file, String(value));
  return { [Symbol.dispose]: () => writeFileSync(file, before) };
}

/** Renames /dev/udmabuf until dispose. */
export function withoutDevice(): Disposable {
  const away = `${DEVICE}-away`;
  renameSync(DEVICE, away);
  return { [Symbol.dispose]: () => renameSync(away, DEVICE) };
}
