import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { UDMABUF_CREATE_LIST, udmabuf_create_item, udmabuf_create_list } from '../../../protocols/udmabuf.ts';
import type { ZeroCopy } from '../../../src/bridge/dmabuf-pool.ts';
import type { Size } from '../../../src/core/geometry.ts';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { ioctl } from '../../../src/sys/ioctl.ts';
import { PAGE_SIZE } from '../../../src/sys/mapping.ts';
import type { PageRuns } from '../../../src/sys/page-runs.ts';
import type { BenchContext, Measurement } from '../benchmark.ts';
import { FlippingGuest, Pictures } from './guest.ts';
import { nameOf, SIZES } from './sizes.ts';

const ROUNDS = 6;
const SHOWS = 3;
/** Flips until the output has created all its shadows. */
const WARM_UP = 3;

const LIST_LIMIT = '/sys/module/udmabuf/parameters/list_limit';

/** Milliseconds from a flush of pages that were not shown before until the kernel has the commit; one value per flush. */
async function show(pictures: Pictures, size: Size, zeroCopy: ZeroCopy): Promise<number[]> {
  using guest = new FlippingGuest(pictures.framebuffers(WARM_UP + SHOWS), { size, zeroCopy });
  await guest.flip(WARM_UP);
  const times: number[] = [];
  for (let i = 0; i < SHOWS; i++) {
    const started = performance.now();
    const shown = guest.flip(1);
    times.push(performance.now() - started);
    await shown;
  }
  guest.check();
  return times;
}

/** Milliseconds that the driver takes to pin the pages and to make a dma-buf of them; one value for each of SHOWS. */
function pin(runs: PageRuns): number[] {
  const list = new Uint8Array(udmabuf_create_list.size + runs.count * udmabuf_create_item.size);
  const view = new DataView(list.buffer);
  udmabuf_create_list.set(view, 0, { flags: 0, count: runs.count });
  let at: number = udmabuf_create_list.size;
  for (const { memfd, offset, length } of runs) {
    udmabuf_create_item.set(view, at, { memfd: memfd.fd, __pad: 0, offset, size: length });
    at += udmabuf_create_item.size;
  }
  using driver = OwnedFd.adopt(openSync('/dev/udmabuf', 'r+'));
  return Array.from({ length: SHOWS }, () => {
    const started = performance.now();
    using _dmabuf = OwnedFd.adopt(ioctl(driver, UDMABUF_CREATE_LIST, 'UDMABUF_CREATE_LIST', list));
    return performance.now() - started;
  });
}

async function measure(size: Size, order: 'ascending' | 'scattered'): Promise<Measurement[]> {
  const before = Number(readFileSync(LIST_LIMIT, 'utf8'));
  const ranges = order === 'ascending' ? 1 : Math.ceil((size.width * size.height * 4) / PAGE_SIZE);
  const raised = ranges > before ? ` (list_limit ${ranges})` : '';
  try {
    if (raised !== '') writeFileSync(LIST_LIMIT, String(ranges));
    using pictures = new Pictures(size, 1, order);
    const ours: number[] = [];
    const copy: number[] = [];
    const pinned: number[] = [];
    for (let i = -1; i < ROUNDS; i++) {
      const shared = await show(pictures, size, 'auto');
      const copied = await show(pictures, size, 'off');
      const alone = pin(pictures.runs);
      if (i < 0) continue;
      ours.push(...shared);
      copy.push(...copied);
      pinned.push(...alone);
    }
    const pages = order === 'ascending' ? 'in one run' : `in ${ranges} pieces${raised}`;
    const row = { unit: 'ms', better: 'less', ours } as const;
    const name = `kms-first-show/${nameOf(size)} ${pages}`;
    return [
      {
        ...row,
        name,
        peer: { name: 'a copy of all of it into a shadow, and the commit', samples: copy },
        goal: order === 'scattered' ? 1.5 : size.height === 1080 ? 1 : null,
      },
      {
        ...row,
        name: `${name}, against udmabuf's ioctl alone`,
        peer: { name: 'UDMABUF_CREATE_LIST of the same pages', samples: pinned },
        goal: null,
      },
    ];
  } finally {
    writeFileSync(LIST_LIMIT, String(before));
  }
}

export async function firstShow({ progress }: BenchContext): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (const size of SIZES) {
    progress(nameOf(size));
    for (const order of ['ascending', 'scattered'] as const) measurements.push(...(await measure(size, order)));
  }
  return measurements;
}
