import { Bridge } from '../../../src/bridge/bridge.ts';
import { alternate, type BenchContext, type Measurement } from '../benchmark.ts';
import { InstantOutput } from '../instant-output.ts';
import { FlipSource } from './flip-source.ts';
import { FlippingGuest, Pictures } from './guest.ts';
import { flipCpuUs } from './sample.ts';

const SIZE = { width: 640, height: 480 };
const ROUNDS = 11;
const GOAL = 1.1;

const FEW_FRAMEBUFFERS = 2;
/** As many as the plane cache keeps. */
const MANY_FRAMEBUFFERS = 64;
const FLIPS = 128;

const MANY_SCANOUTS = 16;
/** Not a divisor of the number of scanouts, so that each scanout gets another framebuffer at every turn. */
const CORE_FRAMEBUFFERS = 3;
const CORE_FLIPS = 48_000;

async function framebuffers(pictures: Pictures, count: number): Promise<number> {
  using guest = new FlippingGuest(pictures.framebuffers(count), { size: SIZE });
  await guest.flip(count);
  guest.check();
  return await flipCpuUs(guest.flip, FLIPS);
}

/** Flips instant outputs in turn. They replace KMS, because vkms has only one CRTC. */
class Core implements Disposable {
  readonly #source: FlipSource;
  readonly #outputs: readonly InstantOutput[];
  readonly #bridge: Bridge;

  constructor(pictures: Pictures, scanouts: number) {
    this.#source = new FlipSource(pictures.framebuffers(CORE_FRAMEBUFFERS), scanouts);
    this.#bridge = new Bridge(this.#source);
    this.#outputs = Array.from({ length: scanouts }, () => new InstantOutput({ readsPages: true }));
    this.#outputs.forEach((output, i) => this.#bridge.show(i, output));
  }

  /** Microseconds per flip. */
  flip(): number {
    const outputs = this.#outputs;
    const before = process.cpuUsage();
    for (let i = 0; i < CORE_FLIPS; i++) {
      const scanout = i % outputs.length;
      this.#source.show(scanout);
      outputs[scanout]!.vblank();
    }
    const { user, system } = process.cpuUsage(before);
    return (user + system) / CORE_FLIPS;
  }

  [Symbol.dispose](): void {
    this.#bridge[Symbol.dispose]();
    for (const output of this.#outputs) output[Symbol.dispose]();
  }
}

export async function scale({ progress }: BenchContext): Promise<Measurement[]> {
  using pictures = new Pictures(SIZE, MANY_FRAMEBUFFERS);
  using one = new Core(pictures, 1);
  using many = new Core(pictures, MANY_SCANOUTS);
  progress('scanouts');
  const scanouts = await alternate(
    ROUNDS,
    () => many.flip(),
    () => one.flip(),
  );
  progress('framebuffers');
  const cached = await alternate(
    ROUNDS,
    () => framebuffers(pictures, MANY_FRAMEBUFFERS),
    () => framebuffers(pictures, FEW_FRAMEBUFFERS),
  );
  return [
    {
      name: `kms-scale/${MANY_SCANOUTS} scanouts, core without KMS, CPU`,
      unit: 'us/flip',
      better: 'less',
      ours: scanouts.ours,
      peer: { name: 'ours with 1 scanout', samples: scanouts.peer },
      goal: GOAL,
    },
    {
      name: `kms-scale/${MANY_FRAMEBUFFERS} framebuffers, CPU`,
      unit: 'us/flip',
      better: 'less',
      ours: cached.ours,
      peer: { name: `ours with ${FEW_FRAMEBUFFERS} framebuffers`, samples: cached.peer },
      goal: GOAL,
    },
  ];
}
