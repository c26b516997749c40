import type { BenchContext, Measurement } from '../benchmark.ts';
import { BlankWatch } from './blank-watch.ts';
import { FlippingGuest, Pictures } from './guest.ts';

const SIZE = { width: 1280, height: 720 };
/** Flips until it is the other side's turn. */
const FLIPS_PER_TURN = 1000;
/** Until V8 has compiled what flips need: the VM's only processor does that, too. */
const WARM_UP = 3000;

/** Vertical blanks without a flip between the first and the last of `flips`. */
async function missed(flip: (count: number) => Promise<void>, flips: number, sequence: () => number): Promise<number> {
  // The first flip may be late.
  await flip(1);
  const first = sequence();
  await flip(flips);
  return sequence() - first - flips;
}

/** `flips` is a multiple of FLIPS_PER_TURN, or less than one. */
export async function vblanks({ flips, progress }: BenchContext): Promise<Measurement[]> {
  const perTurn = Math.min(flips, FLIPS_PER_TURN);
  const watch = new BlankWatch();
  using pictures = new Pictures(SIZE, 2);
  using guest = new FlippingGuest(pictures.framebuffers(), { size: SIZE, watch });
  progress('warming up');
  await guest.flip(WARM_UP);
  await guest.bare((loop) => loop.flip(WARM_UP));
  guest.check();
  let ours = 0;
  let bare = 0;
  for (let done = 0; done < flips; done += perTurn) {
    progress(`${done} of ${flips}, missed ${ours} and ${bare}`);
    ours += await missed(guest.flip, perTurn, () => watch.sequence);
    bare += await guest.bare((loop) => missed(loop.flip, perTurn, () => loop.sequence));
  }
  return [
    {
      name: `kms-vblanks/missed of ${flips}`,
      unit: 'blanks',
      better: 'less',
      ours: [ours],
      peer: { name: 'the same ioctl, wake-up and read alone, in Node', samples: [bare] },
      goal: 1,
    },
  ];
}
