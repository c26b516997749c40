import type { BenchContext, Measurement } from '../benchmark.ts';
import { FlippingGuest, Pictures } from './guest.ts';
import { flipInC, flipWithModetest } from './peers.ts';
import { flipCost, type FlipCost } from './sample.ts';
import { type SystemCalls, systemCalls } from './system-calls.ts';

/** Small, and one of vkms's own modes: what the driver does for each pixel is nobody's here. */
const SIZE = { width: 640, height: 480 };
const ROUNDS = 11;
const FLIPS = 120;
const TRACED_FLIPS = 300;

/** Until the compiler has seen every path as often as it likes, at a refresh that lets it. */
const WARM_UP = 6000;
const WARM_UP_HZ = 500;

const BARE = 'the same ioctl, wake-up and read alone, in Node';

interface Round {
  readonly ours: FlipCost;
  readonly bare: FlipCost;
  /** Microseconds a flip. */
  readonly c: number;
  readonly modetest: number;
}

async function open(pictures: Pictures, refreshHz = 60): Promise<FlippingGuest> {
  const guest = new FlippingGuest(pictures.framebuffers(), { size: SIZE, refreshHz });
  await guest.flip(2);
  guest.check();
  return guest;
}

async function measureRound(pictures: Pictures, program: string): Promise<Round> {
  let connector: number;
  let round: Omit<Round, 'modetest'>;
  {
    using guest = await open(pictures);
    connector = guest.screen.connector;
    const ours = await flipCost(guest.flip, FLIPS);
    const bare = await guest.bare((loop) => flipCost(loop.flip, FLIPS));
    const flipped = await guest.flipped();
    round = { ours, bare, c: await guest.screen.lend(() => flipInC(program, flipped, FLIPS)) };
  }
  // It sets the mode itself, and leaves none.
  return { ...round, modetest: await flipWithModetest(connector, `${SIZE.width}x${SIZE.height}`, FLIPS) };
}

async function warmUp(pictures: Pictures): Promise<void> {
  using guest = await open(pictures, WARM_UP_HZ);
  await flipCost(guest.flip, WARM_UP);
  await guest.bare((loop) => flipCost(loop.flip, WARM_UP));
}

async function trace(pictures: Pictures): Promise<{ ours: SystemCalls; bare: SystemCalls }> {
  using guest = await open(pictures);
  const ours = await systemCalls(() => guest.flip(TRACED_FLIPS));
  const bare = await guest.bare((loop) => systemCalls(() => loop.flip(TRACED_FLIPS)));
  return { ours, bare };
}

/** What is left below a twentieth of a byte is noise. */
function bytes(value: number): number {
  return Math.round(value * 10) / 10;
}

/** `program` is flip-loop.c's. */
export async function flips(program: string, { progress }: BenchContext): Promise<Measurement[]> {
  using pictures = new Pictures(SIZE, 2);
  progress('warming up');
  await warmUp(pictures);
  const rounds: Round[] = [];
  for (let i = -1; i < ROUNDS; i++) {
    progress(`round ${i + 1} of ${ROUNDS}`);
    const round = await measureRound(pictures, program);
    if (i >= 0) rounds.push(round);
  }
  progress('tracing');
  const calls = await trace(pictures);
  const cpu = (case_: string, name: string, goal: number | null, of: (round: Round) => number): Measurement => ({
    name: `kms-flips/${case_}`, unit: 'us/flip', better: 'less', ours: rounds.map(({ ours }) => ours.cpuUs), peer: { name, samples: rounds.map(of) }, goal,
  });
  const perFlip = (case_: string, goal: number | null, of: (calls: SystemCalls) => number, peer: boolean): Measurement => ({
    name: `kms-flips/${case_}`, unit: '1/flip', better: 'less', ours: [of(calls.ours) / TRACED_FLIPS], peer: peer ? { name: BARE, samples: [of(calls.bare) / TRACED_FLIPS] } : null, goal,
  });
  return [
    cpu('CPU', BARE, 1.25, ({ bare }) => bare.cpuUs),
    cpu('CPU, C', 'the same loop in C', null, ({ c }) => c),
    cpu('CPU, modetest', 'modetest -v', null, ({ modetest }) => modetest),
    perFlip('ioctls', 1, ({ atomic, otherIoctls }) => atomic + otherIoctls, false),
    perFlip('other system calls', null, ({ others }) => others, true),
    { name: 'kms-flips/heap', unit: 'bytes', better: 'less', ours: rounds.map(({ ours }) => bytes(ours.heapBytes)), peer: { name: BARE, samples: rounds.map(({ bare }) => bytes(bare.heapBytes)) }, goal: null },
    { name: "kms-flips/heap beyond the bare loop's", unit: 'bytes', better: 'less', ours: rounds.map(({ ours, bare }) => bytes(ours.heapBytes - bare.heapBytes)), peer: null, goal: 0 },
  ];
}
