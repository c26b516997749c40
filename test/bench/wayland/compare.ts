import type { Framebuffer } from '../../../src/core/framebuffer.ts';
import type { Size } from '../../../src/core/geometry.ts';
import { betweenMarks, ownSystemCalls, systemCallsWhile } from '../../rig/system-calls.ts';
import { startWeston, type Weston, type WestonOptions } from '../../rig/weston.ts';
import { type Measurement, median, percentile } from '../benchmark.ts';
import { BareLoop } from './bare-loop.ts';
import { WindowGuest } from './guest.ts';
import { Peer, type Round } from './peer.ts';

/** Of all rounds together there are enough frames for a 99th percentile. */
const ROUNDS = 9;
const FRAMES = 120;
const TRACED_FRAMES = 120;
const SETTLING_FRAMES = 20;
/**
 * Code that V8 optimized while there was one bridge is thrown away when a second one is opened, because it has the first
 * one's objects built in. Code that was optimized with two stays.
 */
const WARM_UPS = 2;
/** Options of a compositor so fast that warming up the JIT compiler does not take long. Its picture is drawn by the CPU. */
const FAST: Partial<WestonOptions> = { size: [64, 64], extraArgs: ['--refresh-rate=1000000'] };

/** For a 99th percentile against the median. */
const TAIL_GOAL = 2;

const PEER = 'a minimal client in C on libwayland-client';
const BARE = "Node's own loop: two wake-ups, two recvmsg and a sendmsg a frame";

/** What a window shows, and how. */
export interface Drawing {
  /** First argument of client.c. */
  readonly kind: 'shm' | 'dmabuf';
  /** Two of one size. They, and two small ones to warm up with, belong to the caller. */
  readonly framebuffers: readonly Framebuffer[];
  readonly warmUp: readonly Framebuffer[];
  /** Size of the part that is redrawn; if absent, both framebuffers are shown in turn, each damaged as a whole. */
  readonly redraws?: Size;
  /** Frames at each pace, twice, until the JIT compiler has optimized every path, as in a process that runs for days. */
  readonly warmUpFrames: number;
}

export interface Case extends Drawing {
  /** First part of the names of its rows. */
  readonly name: string;
  /** Goal for the ratio of CPU times to those of the client in C. */
  readonly goal: number | null;
  /** The same to Node's own loop; absent: none. */
  readonly bareGoal?: number;
}

/** Microseconds of processor time per frame, of all threads of this process. */
export async function oursCpuUs(guest: WindowGuest, frames: number): Promise<number> {
  const before = process.cpuUsage();
  await guest.frames(frames);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / frames;
}

async function measureOurs(guest: WindowGuest): Promise<Round & { readonly latenciesUs: readonly number[] }> {
  const cpuUs = await oursCpuUs(guest, FRAMES);
  await guest.frames(FRAMES, 'kicked');
  // A frame that found the window hidden was sent with the next one, so there may be fewer than FRAMES.
  const latenciesUs = [...guest.latenciesUs];
  return { cpuUs, medianUs: median(latenciesUs), p99Us: percentile(latenciesUs, 0.99), latenciesUs };
}

/** Opens a guest on `weston`, after warming up on another compositor with the options `like`, but a fast one. */
export async function openWarm(
  { framebuffers, warmUp, warmUpFrames, kind, redraws }: Drawing,
  like: WestonOptions,
  weston: Weston,
): Promise<WindowGuest> {
  const options = { zeroCopy: kind === 'shm' ? 'off' : 'auto', redraws } as const;
  await using fast = await startWeston({ ...like, ...FAST });
  for (let i = 0; i < WARM_UPS; i++) {
    using quick = await WindowGuest.open(warmUp, { ...options, socket: fast.socket });
    await quick.frames(warmUpFrames);
    await quick.frames(warmUpFrames, 'kicked');
  }
  const guest = await WindowGuest.open(framebuffers, { ...options, socket: weston.socket });
  await guest.frames(SETTLING_FRAMES);
  return guest;
}

/** Measures our window against client.c, built as `program`. Each side has its own compositor with the options `weston`. */
export async function compare(
  program: string,
  one: Case,
  weston: WestonOptions,
  progress: (text: string) => void,
): Promise<Measurement[]> {
  await using ourWeston = await startWeston(weston);
  await using peerWeston = await startWeston(weston);
  progress(`${one.name}: warming up`);
  using guest = await openWarm(one, weston, ourWeston);
  const [size] = one.framebuffers;
  using client = new Peer(program, { kind: one.kind, size: size!, damage: one.redraws ?? size!, env: peerWeston.env });
  await client.frames(SETTLING_FRAMES);
  const ours: Awaited<ReturnType<typeof measureOurs>>[] = [];
  const peer: Round[] = [];
  const bare: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    progress(`${one.name}: round ${i + 1} of ${ROUNDS}`);
    ours.push(await measureOurs(guest));
    peer.push(await client.frames(FRAMES));
    // Not open while the others are measured, because it would wake this process.
    using loop = new BareLoop();
    await loop.cpuUs(SETTLING_FRAMES);
    bare.push(await loop.cpuUs(FRAMES));
  }
  progress(`${one.name}: tracing`);
  const ourCalls = await ownSystemCalls(() => guest.frames(TRACED_FRAMES));
  const peerCalls = betweenMarks(await systemCallsWhile(client.pid, () => client.frames(TRACED_FRAMES)));

  const latencies = ours.flatMap(({ latenciesUs }) => latenciesUs);
  const row = (what: string, unit: string, goal: number | null, of: (round: Round) => number): Measurement => ({
    name: `${one.name}, ${what}`,
    unit,
    better: 'less',
    ours: ours.map(of),
    peer: { name: PEER, samples: peer.map(of) },
    goal,
  });
  const perFrame = (what: string, goal: number | null, isCounted: (call: string) => boolean): Measurement => {
    const of = (calls: readonly string[]): number => calls.filter(isCounted).length / TRACED_FRAMES;
    const counted = { name: `${one.name}, ${what}`, unit: '1/frame', better: 'less', ours: [of(ourCalls)] } as const;
    // A goal bounds the count itself, not its ratio to the peer's.
    return { ...counted, peer: goal === null ? { name: PEER, samples: [of(peerCalls)] } : null, goal };
  };
  return [
    row('CPU', 'us/frame', one.goal, ({ cpuUs }) => cpuUs),
    {
      name: `${one.name}, CPU against a bare loop`,
      unit: 'us/frame',
      better: 'less',
      ours: ours.map(({ cpuUs }) => cpuUs),
      peer: { name: BARE, samples: bare },
      goal: one.bareGoal ?? null,
    },
    row('flush to commit, median', 'us', null, ({ medianUs }) => medianUs),
    row('flush to commit, 99th percentile', 'us', null, ({ p99Us }) => p99Us),
    {
      name: `${one.name}, flush to commit, 99th percentile of all rounds against their median`,
      unit: 'us',
      better: 'less',
      ours: [percentile(latencies, 0.99)],
      peer: { name: 'the median of the same frames', samples: [median(latencies)] },
      goal: TAIL_GOAL,
    },
    perFrame('system calls', null, () => true),
    perFrame('sendmsg', 1, (call) => call.startsWith('sendmsg(')),
    perFrame(
      'imports (ioctls, descriptors sent)',
      0,
      (call) => call.startsWith('ioctl(') || call.includes('SCM_RIGHTS'),
    ),
  ];
}
