import { getHeapSpaceStatistics } from 'node:v8';
import { alternate, type BenchContext, type Measurement } from '../benchmark.ts';
import { BARE } from './flips.ts';
import { FlippingGuest, Pictures } from './guest.ts';

const SIZE = { width: 640, height: 480 };
/** As fast as an emulated processor flips: what a flip allocates does not depend on when the next one is. */
const REFRESH_HZ = 240;
const ROUNDS = 5;
/** Until the JIT compiler has optimized every path; code that is not optimized allocates more. */
const WARM_UP = 3000;

type Flip = (count: number) => Promise<void>;

/** Bytes that V8's new space grows by per flip. Nothing must be collected meanwhile, so all flips must fit in there. */
async function garbage(flip: Flip, flips: number): Promise<number> {
  // Starting the flips and reading the size allocate too.
  const look = await growth(flip, 1);
  return ((await growth(flip, flips)) - look) / (flips - 1);
}

async function growth(flip: Flip, flips: number): Promise<number> {
  globalThis.gc!();
  const before = newSpaceBytes();
  await flip(flips);
  return newSpaceBytes() - before;
}

/** Without the other spaces, which are swept for a while after each collection. */
function newSpaceBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')!.space_used_size;
}

/** Needs `--expose-gc`. */
export async function kmsGarbage({ flips, progress }: BenchContext): Promise<Measurement[]> {
  using pictures = new Pictures(SIZE, 2);
  using guest = new FlippingGuest(pictures.framebuffers(), { size: SIZE, refreshHz: REFRESH_HZ });
  await guest.flip(2);
  guest.check();
  progress('warming up');
  await guest.flip(WARM_UP);
  let round = 0;
  const samples = await alternate(
    ROUNDS,
    () => {
      progress(`round ${round++} of ${ROUNDS}`);
      return garbage(guest.flip, flips);
    },
    () => guest.bare((loop) => garbage(loop.flip, flips)),
  );
  return [
    {
      name: 'kms-garbage/heap',
      unit: 'bytes/flip',
      better: 'less',
      ours: samples.ours,
      peer: { name: BARE, samples: samples.peer },
      goal: null,
    },
    {
      name: "kms-garbage/heap beyond the bare loop's",
      unit: 'bytes/flip',
      better: 'less',
      // Rounds, because less than a twentieth of a byte is noise.
      ours: samples.ours.map((bytes, i) => Math.round((bytes - samples.peer[i]!) * 10) / 10),
      peer: null,
      goal: 0,
    },
  ];
}
