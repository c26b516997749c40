import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { cpuTime } from '../cpu-time.ts';
import type { Flipped } from './screen.ts';

/** Flips after which modetest prints a line. */
const MODETEST_FLIPS = 60;

const WARM_UP = 2;

/** Microseconds of processor time per flip of flip-loop.c, on a screen lent to it. */
export async function flipInC(
  program: string,
  { card, state: { plane, fbProperty, rest }, fbs }: Flipped,
  flips: number,
): Promise<number> {
  const assignments = rest.map(([property, value]) => `${property}=${value}`);
  const { stdout } = await promisify(execFile)(program, [
    card,
    ...[WARM_UP, flips, plane, fbs.join(), fbProperty, ...assignments].map(String),
  ]);
  return Number(stdout) / flips;
}

/** As `flipInC`, of `modetest -v` (libdrm-tests), which opens the card itself. */
export async function flipWithModetest(connector: number, mode: string, flips: number): Promise<number> {
  // Its stdin must stay open: modetest exits when it can read from there.
  const child = spawn('modetest', ['-M', 'vkms', '-s', `${connector}:${mode}`, '-v'], {
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const ended = once(child, 'close');
  const lines = createInterface(child.stderr);
  let said = '';
  let periods = 0;
  let startMs = 0;
  let cpuMs: number | null = null;
  for await (const line of lines) {
    said += `${line}\n`;
    if (!line.startsWith('freq:')) continue;
    const { host } = cpuTime([child.pid!]);
    if (periods === 0) startMs = host;
    if (periods++ * MODETEST_FLIPS < flips) continue;
    cpuMs = host - startMs;
    break;
  }
  child.kill();
  await ended;
  if (cpuMs === null) throw new Error(`modetest did not flip:\n${said}`);
  return (cpuMs * 1000) / ((periods - 1) * MODETEST_FLIPS);
}
