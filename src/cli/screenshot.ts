import { Command, InvalidArgumentError, Option } from 'commander';
import { writePng } from '../../display/picture/png.ts';
import { DEFAULT_QUIET_MS, DEFAULT_TIMEOUT_MS } from '../../display/picture/waits.ts';
import { defaultControlPath, MAX_WAIT_MS, requestScreenshot } from './control.ts';

interface Options {
  control: string;
  cursor: boolean;
  scanout: number;
  waitStable?: true;
  quietMs?: number;
  timeoutMs?: number;
}

function parseIndex(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('write a whole number, 0 or more.');
  return Number(text);
}

function parseMs(text: string): number {
  const ms = /^\d{1,7}$/.test(text) ? Number(text) : NaN;
  if (!(ms <= MAX_WAIT_MS)) throw new InvalidArgumentError(`write milliseconds from 0 to ${MAX_WAIT_MS}.`);
  return ms;
}

export function command(): Command {
  return new Command('screenshot')
    .argument('<out.png>', 'the file to write')
    .option('--control <socket>', 'control socket of the bridge', defaultControlPath())
    .option('--scanout <number>', "which of the guest's monitors, counted from 0", parseIndex, 0)
    .option('--no-cursor', 'omit the hardware cursor')
    .option('--wait-stable', 'wait until the picture stands still')
    .addOption(
      new Option('--quiet-ms <ms>', `how long nothing may change (default: ${DEFAULT_QUIET_MS})`)
        .argParser(parseMs)
        .implies({ waitStable: true }),
    )
    .addOption(
      new Option(
        '--timeout-ms <ms>',
        `how long to wait before failing with a description of what keeps changing (default: ${DEFAULT_TIMEOUT_MS})`,
      )
        .argParser(parseMs)
        .implies({ waitStable: true }),
    )
    .addHelpText(
      'after',
      '\nThe bridge is a running `scanout run` or `scanout record` with a headless output.\n\nExample:\n  $ scanout screenshot --no-cursor --wait-stable /tmp/screen.png',
    )
    .action(
      async (
        path: string,
        { control, scanout, cursor, waitStable, quietMs = DEFAULT_QUIET_MS, timeoutMs = DEFAULT_TIMEOUT_MS }: Options,
      ) => {
        const picture = await requestScreenshot(control, {
          scanout,
          cursor,
          ...(waitStable && { still: { quietMs, timeoutMs } }),
        });
        await writePng(path, picture);
        console.log(`${path}: ${picture.width}x${picture.height}`);
      },
    );
}
