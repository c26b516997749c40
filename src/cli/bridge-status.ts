import type { BridgeStats } from '../control/stats.ts';
import { agesText, mebibytes } from './stats.ts';

type ScreenStats = BridgeStats['scanouts'][number]['screens'][number];

/**
 * What a bridge does, as lines for people who watch it: how each output shows a scanout, what was typed and clicked, who
 * looks on and who drives. `before` are the statistics of `seconds` ago; null if there are none yet, and so no rates.
 */
export function bridgeStatus(
  stats: BridgeStats,
  before: BridgeStats | null,
  seconds: number,
  scanout: number,
): string[] {
  const shown = stats.scanouts[scanout];
  const earlier = before?.scanouts[scanout]?.screens ?? [];
  const screens = shown?.screens ?? [];
  const { connected } = stats.guest;
  return [
    `scanout ${scanout}: ${shown?.picture ?? (connected ? 'off' : 'no guest is connected')}`,
    ...screens.flatMap((screen) => screenLines(screen, earlier.find(isOf(screen)) ?? null, seconds)),
    `input: ${inputText(stats, before)}`,
    `looking on: ${listed(viewers(stats))}`,
  ];
}

function screenLines(screen: ScreenStats, before: ScreenStats | null, seconds: number): string[] {
  const { output, frames, primary, ages } = screen;
  const rates = before
    ? `${((frames - before.frames) / seconds).toFixed(1)} frames/s, ${mebibytes((primary.copiedBytes - before.primary.copiedBytes) / seconds)}/s copied`
    : counted(frames, 'frame');
  const age = agesText(ages);
  return [
    `  ${output}: ${primary.rung ?? 'nothing yet'}, ${rates}`,
    ...(age === '' ? [] : [`    ms since the flush, median (99 %): ${age}`]),
  ];
}

/** The outputs, and control clients, that operated the guest; those that did since `before` are driving. */
function inputText(stats: BridgeStats, before: BridgeStats | null): string {
  const earlier = before?.scanouts.flatMap(({ screens }) => screens) ?? [];
  const sources = stats.scanouts.flatMap(({ screens }) =>
    screens.map((screen) => ({
      name: screen.output,
      input: screen.input,
      new: before ? screen.input - (earlier.find(isOf(screen))?.input ?? 0) : 0,
    })),
  );
  const { input } = stats.control;
  sources.push({ name: 'control', input, new: before ? input - before.control.input : 0 });
  return listed(
    sources
      .filter((source) => source.input > 0)
      .map((source) => `${source.name} ${source.input}${source.new > 0 ? ` (+${source.new}, drives)` : ''}`),
  );
}

function viewers({ vnc, exports, control }: BridgeStats): string[] {
  return [
    ...(vnc ?? [])
      .filter((server) => server.viewers > 0)
      .map(
        (server) =>
          `${counted(server.viewers, 'viewer')} at ${server.address}${server.isDriven ? ', one may drive' : ''}`,
      ),
    ...(exports?.consumers ?? []).map(({ pid, uid }) => `process ${pid} of user ${uid}`),
    counted(control.clients, 'control connection'),
  ];
}

function isOf({ output }: ScreenStats): (other: ScreenStats) => boolean {
  return (other) => other.output === output;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function listed(parts: readonly string[]): string {
  return parts.length === 0 ? 'none' : parts.join('; ');
}
