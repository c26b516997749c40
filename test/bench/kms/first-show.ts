import { readFileSync, writeFileSync } from 'node:fs';
import type { ZeroCopy } from '../../../src/bridge/dmabuf-pool.ts';
import type { Size } from '../../../src/core/geometry.ts';
import { PAGE_SIZE } from '../../../src/sys/mapping.ts';
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

async function measure(size: Size, order: 'ascending' | 'scattered'): Promise<Measurement> {
  const before = Number(readFileSync(LIST_LIMIT, 'utf8'));
  const ranges = order === 'ascending' ? 1 : Math.ceil((size.width * size.height * 4) / PAGE_SIZE);
  const raised = ranges > before ? ` (list_limit ${ranges})` : '';
  try {
    if (raised !== '') writeFileSync(LIST_LIMIT, String(ranges));
    using pictures = new Pictures(size, 1, order);
    const ours: number[] = [];
    const copy: number[] = [];
    for (let i = -1; i < ROUNDS; i++) {
      const shared = await show(pictures, size, 'auto');
      const copied = await show(pictures, size, 'off');
      if (i < 0) continue;
      ours.push(...shared);
      copy.push(...copied);
    }
    const pages = order === 'ascending' ? 'in one run' : `in ${ranges} pieces${raised}`;
    return {
      name: `kms-first-show/${nameOf(size)} ${pages}`,
      unit: 'ms',
      better: 'less',
      ours,
      peer: { name: 'a copy of all of it into a shadow, and the commit', samples: copy },
      goal: order === 'scattered' ? 1.5 : size.height >= 1080 ? 1 : null,
    };
  } finally {
    writeFileSync(LIST_LIMIT, String(before));
  }
}

export async function firstShow({ progress }: BenchContext): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (const size of SIZES) {
    progress(nameOf(size));
    for (const order of ['ascending', 'scattered'] as const) measurements.push(await measure(size, order));
  }
  return measurements;
}
