/** What a flip costs this process, on average. */
export interface FlipCost {
  /** User and system time of all threads. */
  readonly cpuUs: number;
  /** Growth of the heap; less, even negative, if garbage is collected in between. */
  readonly heapBytes: number;
}

type Flip = (count: number) => Promise<void>;

export async function flipCost(flip: Flip, flips: number): Promise<FlipCost> {
  // Starting the flips and reading the heap size allocate too.
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
