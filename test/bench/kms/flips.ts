import type { BenchContext, Measurement } from '../benchmark.ts';
import { FlippingGuest, Pictures } from './guest.ts';
import { flipInC, flipWithModetest } from './peers.ts';
import { flipCpuUs } from './sample.ts';
import { type SystemCalls, systemCalls } from './system-calls.ts';

/** Small, because the driver's work per pixel is not measured here; and one of vkms's own modes. */
const SIZE = { width: 640, height: 480 };
const ROUNDS = 7;
/** Enough that the first ones, which come after the other sides ran, do not count for much. */
const FLIPS = 480;
const TRACED_FLIPS = 300;

/** Flips until the JIT compiler has optimized every path, as in a process that runs for days. The screen stays open. */
const WARM_UP = 3000;

export const BARE = 'the same ioctl, wake-up and read alone, in Node';

/** Microseconds of processor time per flip. */
interface Round {
  readonly ours: number;
  readonly bare: number;
  readonly c: number;
}

async function measureRound(guest: FlippingGuest, program: string, count: number): Promise<Round> {
  const ours = await flipCpuUs(guest.flip, count);
  const bare = await guest.bare((loop) => flipCpuUs(loop.flip, count));
  const flipped = await guest.flipped();
  return { ours, bare, c: await guest.screen.lend(() => flipInC(program, flipped, FLIPS)) };
}

async function trace(guest: FlippingGuest): Promise<{ ours: SystemCalls; bare: SystemCalls }> {
  const ours = await systemCalls(() => guest.flip(TRACED_FLIPS));
  const bare = await guest.bare((loop) => systemCalls(() => loop.flip(TRACED_FLIPS)));
  return { ours, bare };
}

/** `program` is the path of the built flip-loop.c. */
export async function flips(program: string, { progress }: BenchContext): Promise<Measurement[]> {
  const rounds: Round[] = [];
  let calls: Awaited<ReturnType<typeof trace>>;
  let connector: number;
  {
    using pictures = new Pictures(SIZE, 2);
    using guest = new FlippingGuest(pictures.framebuffers(), { size: SIZE });
    await guest.flip(2);
    guest.check();
    connector = guest.screen.connector;
    progress('warming up');
    await measureRound(guest, program, WARM_UP);
    for (let i = 0; i < ROUNDS; i++) {
      progress(`round ${i + 1} of ${ROUNDS}`);
      rounds.push(await measureRound(guest, program, FLIPS));
    }
    progress('tracing');
    calls = await trace(guest);
  }
  // modetest sets the mode itself and turns the screen off at its end, so it cannot take turns with the others.
  progress('modetest');
  const modetest: number[] = [];
  for (let i = 0; i < ROUNDS; i++)
    modetest.push(await flipWithModetest(connector, `${SIZE.width}x${SIZE.height}`, FLIPS));
  const cpu = (case_: string, name: string, goal: number | null, samples: readonly number[]): Measurement => ({
    name: `kms-flips/${case_}`,
    unit: 'us/flip',
    better: 'less',
    ours: rounds.map(({ ours }) => ours),
    peer: { name, samples },
    goal,
  });
  const perFlip = (
    case_: string,
    goal: number | null,
    of: (calls: SystemCalls) => number,
    peer: boolean,
  ): Measurement => ({
    name: `kms-flips/${case_}`,
    unit: '1/flip',
    better: 'less',
    ours: [of(calls.ours) / TRACED_FLIPS],
    peer: peer ? { name: BARE, samples: [of(calls.bare) / TRACED_FLIPS] } : null,
    goal,
  });
  return [
    cpu(
      'CPU',
      BARE,
      1.1,
      rounds.map(({ bare }) => bare),
    ),
    cpu(
      'CPU, C',
      'the same loop in C',
      null,
      rounds.map(({ c }) => c),
    ),
    cpu('CPU, modetest', 'modetest -v', null, modetest),
    perFlip('ioctls', 1, ({ atomic, otherIoctls }) => atomic + otherIoctls, false),
    perFlip('other system calls', null, ({ others }) => others, true),
  ];
}
