import { Command, Option } from 'commander';
import { UsageError } from '../core/errors.ts';
import type { Rect } from '../core/geometry.ts';
import { DEFAULT_QUIET_MS, DEFAULT_TIMEOUT_MS } from '../core/patience.ts';
import { requestPng } from '../control/client.ts';
import { replaceFile } from '../sys/replace-file.ts';
import { controlOption, parseMs, parseRegion, scanoutOption } from './control-options.ts';
import { print } from './terminal.ts';

interface Options {
  control: string;
  cursor: boolean;
  outputPicture?: true;
  scanout: number;
  region?: Rect;
  waitStable?: true;
  quietMs?: number;
  timeoutMs?: number;
}

export function command(): Command {
  return new Command('screenshot')
    .argument('<out.png>', 'the file to write')
    .addOption(controlOption())
    .addOption(scanoutOption())
    .option('--region <WxH+X+Y>', 'the part of the picture to save, in its pixels (640x480+100+50)', parseRegion)
    .option('--no-cursor', 'omit the hardware cursor')
    .addOption(
      new Option(
        '--output-picture',
        'save what the monitor really shows, in its pixels, read back from the graphics card: takes --output kms and a card with a writeback connector',
      ),
    )
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
      "\nThe bridge is a running `scanout run` or `scanout record` with any outputs: the picture is the guest's, whatever shows it, unless --output-picture asks for the monitor's.\n\nExample:\n  $ scanout screenshot --no-cursor --wait-stable /tmp/screen.png",
    )
    .action(
      async (
        path: string,
        {
          control,
          scanout,
          cursor,
          outputPicture,
          region,
          waitStable,
          quietMs = DEFAULT_QUIET_MS,
          timeoutMs = DEFAULT_TIMEOUT_MS,
        }: Options,
      ) => {
        if (outputPicture && !cursor)
          throw new UsageError('--no-cursor: a monitor shows its cursor; leave it out, or --output-picture');
        const { width, height, bytes } = await requestPng(control, {
          scanout,
          cursor,
          ...(outputPicture && { output: true }),
          ...(region && { region }),
          ...(waitStable && { still: { quietMs, timeoutMs } }),
        });
        await replaceFile(path, bytes);
        print(`${path}: ${width}x${height}`);
      },
    );
}
