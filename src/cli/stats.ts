import { Command } from 'commander';
import type { PlaneStats } from '../bridge/plane-buffers.ts';
import { defaultControlPath, requestStats } from './control.ts';
import type { SessionStats } from './session.ts';

interface Options {
  control: string;
  json?: true;
}

export function command(): Command {
  return new Command('stats')
    .option('--control <socket>', 'control socket of the bridge', defaultControlPath())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe bridge is a running `scanout run` or `scanout record`.\n\nExample:\n  $ scanout stats --json',
    )
    .action(async ({ control, json }: Options) => {
      const stats = await requestStats(control);
      console.log(json ? JSON.stringify(stats, null, 2) : statsText(stats as SessionStats));
    });
}

function statsText({ guest, scanouts }: SessionStats): string {
  const { connected, commands, flushes, transfers, errors, resources, storeBytes } = guest;
  return [
    `guest: ${connected ? 'connected' : 'not connected'}, ${commands} commands (${errors} refused), ${flushes} flushes, ${transfers} transfers, ${resources} resources, ${mebibytes(storeBytes)} saved from detached backings`,
    ...scanouts.flatMap(({ scanout, picture, screens }) => [
      `scanout ${scanout}: ${picture ?? 'off'}`,
      ...screens.flatMap(({ output, frames, primary, cursor }) => [
        `  ${output}: ${frames} frames`,
        `    primary ${planeText(primary)}`,
        `    cursor  ${planeText(cursor)}`,
      ]),
    ]),
  ].join('\n');
}

function planeText({ rung, copiedBytes, shadowBytes }: PlaneStats): string {
  return `${rung ?? 'nothing yet'}, ${mebibytes(copiedBytes)} copied, ${mebibytes(shadowBytes)} of shadows`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
