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
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('write a whole number from 0 on.');
  return Number(text);
}

function parseMs(text: string): number {
  const ms = /^\d{1,7}$/.test(text) ? Number(text) : NaN;
  if (!(ms <= MAX_WAIT_MS)) throw new InvalidArgumentError(`write milliseconds from 0 to ${MAX_WAIT_MS}.`);
  return ms;
}

export function command(): Command {
  return new Command('screenshot')
    .argument('<out.png>', 'where to write the picture')
    .option('--control <socket>', 'control socket of the bridge', defaultControlPath())
    .option('--scanout <number>', "which of the guest's monitors, from 0", parseIndex, 0)
    .option('--no-cursor', 'leave the hardware cursor out')
    .option('--wait-stable', 'wait until nothing changes any more')
    .addOption(new Option('--quiet-ms <ms>', `nothing has changed for so long (default: ${DEFAULT_QUIET_MS})`).argParser(parseMs).implies({ waitStable: true }))
    .addOption(new Option('--timeout-ms <ms>', `fail if that takes longer, and say what keeps changing (default: ${DEFAULT_TIMEOUT_MS})`).argParser(parseMs).implies({ waitStable: true }))
    .addHelpText('after', '\nExample:\n  $ scanout screenshot --no-cursor --wait-stable /tmp/screen.png')
    .action(async (path: string, { control, scanout, cursor, waitStable, quietMs = DEFAULT_QUIET_MS, timeoutMs = DEFAULT_TIMEOUT_MS }: Options) => {
      const picture = await requestScreenshot(control, { scanout, cursor, ...(waitStable && { still: { quietMs, timeoutMs } }) });
      await writePng(path, picture);
      console.log(`${path}: ${picture.width}x${picture.height}`);
    });
}
