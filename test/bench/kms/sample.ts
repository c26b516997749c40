/** What some flips cost this process, each. */
export interface FlipCost {
  /** User and system time of all threads. */
  readonly cpuUs: number;
  /** What the heap grew by; garbage collections in between make it less, even negative. */
  readonly heapBytes: number;
}

type Flip = (count: number) => Promise<void>;

export async function flipCost(flip: Flip, flips: number): Promise<FlipCost> {
  // Starting and looking cost some heap as well.
  const look = await growth(flip, 1);
  const before = process.cpuUsage();
  const grown = await growth(flip, flips);
  const { user, system } = process.cpuUsage(before);
  return { cpuUs: (user + system) / flips, heapBytes: (grown - look) / (flips - 1) };
}

async function growth(flip: Flip, flips: number): Promise<number> {
  const before = process.memoryUsage().heapUsed;
  await flip(flips);
  return process.memoryUsage().heapUsed - before;
}
