/** What a flip costs on each release line of Node, and with options of V8. */
import { installNode, otherNodeLines } from '../rig/node-lines.ts';
import type { BenchContext, Benchmark, Measurement } from './benchmark.ts';
import { FlippingBridge } from './flipping-bridge.ts';

const SIZE = { width: 1280, height: 800 };
/** What is new in each frame. */
const DRAWN = { width: 64, height: 64 };
/** Half a minute at 60 Hz, until V8 has compiled what each frame runs. */
const WARM_UP = 1800;
const ROUNDS = 5;
const FLIPS = 300;

/** Of the running Node, each alone: where V8 works on other threads, what it compiles, how often it collects garbage. */
const OPTIONS = ['--single-threaded', '--always-sparkplug', '--no-opt', '--max-semi-space-size=1'];

/** A bridge on some Node, and the processor time of its flips. */
class Variant {
  readonly name: string;
  readonly samples: number[] = [];
  readonly #bridge: FlippingBridge;

  private constructor(name: string, bridge: FlippingBridge) {
    this.name = name;
    this.#bridge = bridge;
  }

  static async open(name: string, node: readonly string[], stack: AsyncDisposable[]): Promise<Variant> {
    const bridge = await FlippingBridge.open({
      output: `headless:${SIZE.width}x${SIZE.height}`,
      size: SIZE,
      drawn: DRAWN,
      node,
    });
    stack.push(bridge);
    return new Variant(name, bridge);
  }

  /** Microseconds a flip. */
  async flip(flips: number): Promise<number> {
    const before = this.#bridge.cpuMs;
    await this.#bridge.flipper.missed(flips);
    return ((this.#bridge.cpuMs - before) * 1000) / flips;
  }
}

async function run({ progress }: BenchContext): Promise<readonly Measurement[]> {
  const bridges: AsyncDisposable[] = [];
  try {
    const open = (name: string, node: readonly string[]): Promise<Variant> => Variant.open(name, node, bridges);
    const own = await open(`Node ${process.versions.node}`, [process.execPath]);
    const others: Variant[] = [];
    for (const line of otherNodeLines()) others.push(await open(`Node ${line}`, [installNode(line)]));
    for (const option of OPTIONS) others.push(await open(option, [process.execPath, option]));
    progress('warming up');
    await Promise.all([own, ...others].map((variant) => variant.flip(WARM_UP)));
    for (let round = 0; round < ROUNDS; round++) {
      progress(`round ${round + 1} of ${ROUNDS}`);
      for (const variant of [own, ...others]) variant.samples.push(await variant.flip(FLIPS));
    }
    return others.map(({ name, samples }) => ({
      name: `node-lines/${name}`,
      unit: 'us/flip',
      better: 'less',
      ours: samples,
      peer: { name: own.name, samples: own.samples },
      goal: null,
    }));
  } finally {
    for (const bridge of bridges) await bridge[Symbol.asyncDispose]();
  }
}

export const nodeLines: Benchmark = {
  name: 'node-lines',
  about: 'a flip of `scanout run` on other release lines of Node, and with options of V8, against the running Node',
  needsQuiet: true,
  missing: () => null,
  run,
};
