type Flip = (count: number) => Promise<void>;

/** Microseconds of processor time per flip, of all threads of this process. */
export async function flipCpuUs(flip: Flip, flips: number): Promise<number> {
  const before = process.cpuUsage();
  await flip(flips);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / flips;
}
