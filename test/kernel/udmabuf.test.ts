import { chmodSync, chownSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MemoryBudget } from '../../src/core/budget.ts';
import { LinearViews } from '../../src/guest/virtio-gpu/linear-views.ts';
import { type PageRange, PageRuns } from '../../src/sys/page-runs.ts';
import { DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE } from '../../protocols/dma-buf.ts';
import { withCpuAccess } from '../../src/sys/dma-buf.ts';
import { UdmabufDriver, UdmabufError } from '../../src/sys/udmabuf.ts';
import { GuestMemory } from '../../src/guest/memory.ts';
import { GuestPages } from '../../src/guest/virtio-gpu/resource.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { Mapping, PAGE_SIZE } from '../../src/sys/mapping.ts';
import { createMemfd, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE } from '../../src/sys/memfd.ts';
import { asNobody } from '../rig/as-nobody.ts';
import { openUdmabuf } from '../rig/scattered-picture.ts';
import {
  dmabufCount,
  driverParameter,
  expectNothingLeft,
  HUGE_PAGE,
  hugeMemfd,
  hugePages,
  skipWithoutUdmabuf,
  withoutDevice,
} from './machine.ts';

const MIB = 2 ** 20;

/** A memfd whose every page starts with its own number. */
function numberedMemfd(pages: number): OwnedFd {
  const memfd = createMemfd('guest', pages * PAGE_SIZE);
  number(memfd, pages);
  return memfd;
}

function number(memfd: BorrowedFd, pages: number): void {
  using mapping = Mapping.file(memfd, 0, pages * PAGE_SIZE, 'read-write');
  for (let page = 0; page < pages; page++) mapping.view.setUint32(page * PAGE_SIZE, page, true);
}

const page = (memfd: BorrowedFd, index: number, count = 1): PageRange => ({
  memfd,
  offset: index * PAGE_SIZE,
  length: count * PAGE_SIZE,
});

/** The numbers of a dma-buf's pages, in the dma-buf's order. */
function pageNumbers(dmabuf: BorrowedFd, pages: number): number[] {
  using mapping = Mapping.file(dmabuf, 0, pages * PAGE_SIZE, 'read');
  return withCpuAccess(dmabuf, DMA_BUF_SYNC_READ, () =>
    Array.from({ length: pages }, (_, i) => mapping.view.getUint32(i * PAGE_SIZE, true)),
  );
}

function refusal(ranges: readonly PageRange[]): UdmabufError {
  using driver = openUdmabuf();
  try {
    driver.create(PageRuns.of(ranges))[Symbol.dispose]();
  } catch (error) {
    if (error instanceof UdmabufError) return error;
    throw error;
  }
  throw new Error('the driver accepted the ranges');
}

describe.skipIf(skipWithoutUdmabuf())('a udmabuf', () => {
  expectNothingLeft();

  describe('of guest regions at 0x100, 0x1100 and 0x2100', () => {
    function guest(stack: DisposableStack): (addresses: readonly number[]) => OwnedFd | null {
      const memfd = stack.use(numberedMemfd(3));
      const regions = [0, 1, 2].map((i) => ({
        guestAddress: 0x100 + i * 0x1000,
        size: 0x1000,
        userAddress: i * 0x1000,
        mmapOffset: i * 0x1000,
      }));
      const memory = stack.use(
        GuestMemory.map(
          regions,
          regions.map(() => memfd.dup()),
        ),
      );
      const driver = stack.use(openUdmabuf());
      return (addresses) => {
        const ends = Float64Array.from(addresses, (_, i) => (i + 1) * 0x1000);
        const length = addresses.length * 0x1000;
        const pages = new GuestPages(Float64Array.from(addresses), ends);
        using mapped = pages.map(memory, length, true, new MemoryBudget(Infinity), new LinearViews());
        return mapped && stack.use(driver.create(mapped.ranges));
      };
    }

    test('is not created for an address outside the memory', () => {
      using stack = new DisposableStack();
      expect(guest(stack)([0x2100, 0x1100, 0x100, 0x4000])).toBeNull();
    });

    test('has its pages in the order of the list', () => {
      using stack = new DisposableStack();
      expect(pageNumbers(guest(stack)([0x2100, 0x1100, 0x100])!, 3)).toEqual([2, 1, 0]);
    });

    test('may share a page with another udmabuf', () => {
      using stack = new DisposableStack();
      const create = guest(stack);
      const first = create([0x2100, 0x1100, 0x100])!;
      const second = create([0x2100])!;
      expect(pageNumbers(second, 1)).toEqual([2]);
      using drawn = Mapping.file(first, 0, PAGE_SIZE, 'read-write');
      withCpuAccess(first, DMA_BUF_SYNC_WRITE, () => drawn.view.setUint32(0, 77, true));
      expect(pageNumbers(second, 1)).toEqual([77]);
    });

    test('is not created for a part of a page', () => {
      using memfd = createMemfd('guest', 2 * PAGE_SIZE);
      expect(refusal([{ memfd, offset: 0x200, length: PAGE_SIZE }]).code).toBe('not-page-aligned');
      expect(refusal([{ memfd, offset: 0, length: 0x200 }]).code).toBe('not-page-aligned');
      expect(refusal([{ memfd, offset: 0, length: 0 }]).code).toBe('not-page-aligned');
    });
  });

  test.each([
    ['reversed', [7, 6, 5, 4, 3, 2, 1, 0]],
    ['scattered', [3, 60, 12, 13, 14, 1, 33]],
    ['repeated', [5, 5, 9, 5]],
  ])('of %s pages has them in the order of the list', (_, order) => {
    using memfd = numberedMemfd(64);
    using driver = openUdmabuf();
    using dmabuf = driver.create(PageRuns.of(order.map((index) => page(memfd, index))));
    expect(pageNumbers(dmabuf, order.length)).toEqual(order);
  });

  test('of two memfds has the pages of both', () => {
    using low = numberedMemfd(4);
    using high = numberedMemfd(40);
    using driver = openUdmabuf();
    using dmabuf = driver.create(PageRuns.of([page(high, 30), page(low, 3), page(high, 31)]));
    expect(pageNumbers(dmabuf, 3)).toEqual([30, 3, 31]);
  });

  test('outlives the memfd and the driver, and shows what the guest draws later', () => {
    using stack = new DisposableStack();
    const memfd = numberedMemfd(2);
    const driver = openUdmabuf();
    const dmabuf = stack.use(driver.create(PageRuns.of([page(memfd, 1), page(memfd, 0)])));
    const guest = stack.use(Mapping.file(memfd, 0, 2 * PAGE_SIZE, 'read-write'));
    driver[Symbol.dispose]();
    memfd[Symbol.dispose]();
    guest.view.setUint32(PAGE_SIZE, 99, true);
    expect(pageNumbers(dmabuf, 2)).toEqual([99, 0]);
  });

  test('counts as one dma-buf until it is closed', () => {
    using memfd = numberedMemfd(2);
    using driver = openUdmabuf();
    const before = dmabufCount();
    using dmabuf = driver.create(PageRuns.of([page(memfd, 1), page(memfd, 0)]));
    expect(dmabufCount()).toBe(before + 1);
    dmabuf[Symbol.dispose]();
    expect(dmabufCount()).toBe(before);
  });

  test('of adjacent ranges counts them as one range', () => {
    using limit = driverParameter('list_limit', 2);
    using memfd = numberedMemfd(64);
    using driver = openUdmabuf();
    using dmabuf = driver.create(
      PageRuns.of([...Array.from({ length: 32 }, (_, i) => page(memfd, 32 + i)), page(memfd, 4), page(memfd, 5)]),
    );
    expect(pageNumbers(dmabuf, 34)).toEqual([...Array.from({ length: 32 }, (_, i) => 32 + i), 4, 5]);
  });

  test('of more ranges than the driver accepts is refused with a remedy that works at once', () => {
    using memfd = numberedMemfd(8);
    using driver = openUdmabuf();
    const ranges = [0, 2, 4, 6].map((index) => page(memfd, index));
    {
      using limit = driverParameter('list_limit', 3);
      expect(driver.listLimit).toBe(3);
      expect(refusal(ranges)).toMatchObject({
        code: 'too-many-ranges',
        message: expect.stringContaining('echo 4 >/sys/module/udmabuf/parameters/list_limit') as string,
      });
    }
    using raised = driverParameter('list_limit', 4);
    using dmabuf = driver.create(PageRuns.of(ranges));
    expect(pageNumbers(dmabuf, 4)).toEqual([0, 2, 4, 6]);
  });

  test('of more bytes than the driver accepts is refused with a remedy that works at once', () => {
    using memfd = createMemfd('guest', 4 * MIB);
    using driver = openUdmabuf();
    const ranges = [{ memfd, offset: 0, length: 2 * MIB + PAGE_SIZE }];
    {
      using limit = driverParameter('size_limit_mb', 2);
      expect(driver.sizeLimitBytes).toBe(2 * MIB);
      driver.create(PageRuns.of([{ memfd, offset: 0, length: 2 * MIB }]))[Symbol.dispose]();
      expect(refusal(ranges)).toMatchObject({
        code: 'too-large',
        message: expect.stringContaining('echo 3 >/sys/module/udmabuf/parameters/size_limit_mb') as string,
      });
    }
    using raised = driverParameter('size_limit_mb', 3);
    driver.create(PageRuns.of(ranges))[Symbol.dispose]();
  });

  test.each([
    ['without F_SEAL_SHRINK', F_SEAL_GROW],
    ['with F_SEAL_WRITE', F_SEAL_SHRINK | F_SEAL_WRITE],
  ])('of a memfd %s is refused for its seals', (_, seals) => {
    using memfd = createMemfd('guest', PAGE_SIZE, seals);
    expect(refusal([page(memfd, 0)]).code).toBe('wrong-seals');
  });

  test('of a file that is not a memfd is refused', () => {
    using device = OwnedFd.adopt(openSync('/dev/zero', 'r+'));
    expect(refusal([page(device, 0)]).code).toBe('not-a-memfd');
  });

  test('of huge pages has each small page in its place', () => {
    using pool = hugePages(2);
    using memfd = hugeMemfd(2 * HUGE_PAGE);
    number(memfd, (2 * HUGE_PAGE) / PAGE_SIZE);
    using driver = openUdmabuf();
    using dmabuf = driver.create(PageRuns.of([page(memfd, 700), page(memfd, 3, 2), page(memfd, 511, 2)]));
    expect(pageNumbers(dmabuf, 5)).toEqual([700, 3, 4, 511, 512]);
  });

  test('of huge pages that the driver does not accept is refused with that reason', () => {
    using pool = hugePages(0);
    using memfd = hugeMemfd(HUGE_PAGE);
    expect(refusal([page(memfd, 0)])).toMatchObject({
      code: 'huge-pages',
      message: expect.stringContaining('hugetlb=off') as string,
    });
  });

  test('of pages past the end of the memfd is refused with the errno', () => {
    using memfd = numberedMemfd(1);
    expect(refusal([page(memfd, 5)])).toMatchObject({
      code: 'create-failed',
      message: expect.stringContaining('EINVAL') as string,
    });
  });
});

describe.skipIf(skipWithoutUdmabuf())('the udmabuf driver', () => {
  expectNothingLeft();

  test('reports that its device is missing', () => {
    using gone = withoutDevice();
    expect(UdmabufDriver.open()).toMatchObject({
      code: 'driver-missing',
      message: expect.stringContaining('/dev/udmabuf') as string,
    });
  });

  test('reports how to gain permission if only root may open it', () => {
    // What udevd has made of it meanwhile.
    using owned = deviceOfGroup(0, 0o600);
    using nobody = asNobody();
    expect(UdmabufDriver.open()).toMatchObject({
      code: 'driver-forbidden',
      message: expect.stringContaining('udev rule') as string,
    });
  });

  test.each([
    ['by name', 44, 'join the group video,'],
    ['by number if it has no name', 54321, 'join the group 54321,'],
  ])('reports the group to join %s', (_, gid, remedy) => {
    using owned = deviceOfGroup(gid);
    using nobody = asNobody();
    expect(UdmabufDriver.open()).toMatchObject({
      code: 'driver-forbidden',
      message: expect.stringContaining(remedy) as string,
    });
  });

  test('reports the errno if its path is not a device', () => {
    const directory = mkdtempSync(join(tmpdir(), 'udmabuf-'));
    writeFileSync(join(directory, 'file'), '');
    expect(UdmabufDriver.open(join(directory, 'file/udmabuf'))).toMatchObject({
      code: 'driver-open-failed',
      message: expect.stringContaining('ENOTDIR') as string,
    });
    rmSync(directory, { recursive: true });
  });
});

/** Gives the device to a group, as a udev rule would, until dispose. */
function deviceOfGroup(gid: number, permissions = 0o660): Disposable {
  const { mode, gid: before } = statSync('/dev/udmabuf');
  chownSync('/dev/udmabuf', 0, gid);
  chmodSync('/dev/udmabuf', permissions);
  return {
    [Symbol.dispose]() {
      chownSync('/dev/udmabuf', 0, before);
      chmodSync('/dev/udmabuf', mode & 0o777);
    },
  };
}
