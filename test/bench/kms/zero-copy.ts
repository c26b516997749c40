import type { ZeroCopy } from '../../../src/bridge/dmabuf-pool.ts';
import type { Size } from '../../../src/core/geometry.ts';
import { alternate, type BenchContext, type Measurement } from '../benchmark.ts';
import { FlippingGuest, Pictures } from './guest.ts';
import { flipCpuUs } from './sample.ts';
import { nameOf, SIZES } from './sizes.ts';

const ROUNDS = 7;
const FLIPS = 60;
const WARM_UP = 4;

async function cpuUs(pictures: Pictures, size: Size, zeroCopy: ZeroCopy): Promise<number> {
  using guest = new FlippingGuest(pictures.framebuffers(), { size, zeroCopy });
  await guest.flip(WARM_UP);
  guest.check();
  return await flipCpuUs(guest.flip, FLIPS);
}

/** Measures a guest that redraws everything, with its pages in ascending order. */
async function measure(size: Size): Promise<Measurement> {
  using pictures = new Pictures(size, 2);
  const { ours, peer } = await alternate(
    ROUNDS,
    () => cpuUs(pictures, size, 'auto'),
    () => cpuUs(pictures, size, 'off'),
  );
  return {
    name: `kms-zero-copy/${nameOf(size)} CPU`,
    unit: 'us/flip',
    better: 'less',
    ours,
    peer: { name: 'the same flips by the copy rung', samples: peer },
    goal: null,
  };
}

export async function zeroCopy({ progress }: BenchContext): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (const size of SIZES) {
    progress(nameOf(size));
    measurements.push(await measure(size));
  }
  return measurements;
}
