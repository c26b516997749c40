import { Command } from 'commander';
import { formatRect, formatSize } from '../../display/picture/difference.ts';
import { ControlClient } from '../control/client.ts';
import type { FrameEvent } from '../control/protocol.ts';
import { controlOption, scanoutOption } from './control-options.ts';
import { print, printJson } from './terminal.ts';

interface Options {
  control: string;
  scanout: number;
  json?: true;
}

export function command(): Command {
  return new Command('watch')
    .addOption(controlOption())
    .addOption(scanoutOption())
    .option('--json', 'print each as a line of JSON')
    .addHelpText(
      'after',
      '\nPrints what comes on screen until the bridge ends: the time, how many frames, the size, and what they changed. The bridge is a running `scanout run` or `scanout record`. docs/control.md describes the JSON.\n\nExample:\n  $ scanout watch --json',
    )
    .action(async ({ control, scanout, json }: Options) => {
      for await (const event of new ControlClient(control).watch({ scanout })) {
        if (json) printJson(event, 0);
        else print(eventText(event));
      }
    });
}

function eventText({ timeMs, frames, width, height, damage, cursor }: FrameEvent): string {
  const changed = [...damage.map(formatRect), ...cursor.map((rect) => `cursor ${formatRect(rect)}`)].join(', ');
  const picture = width === 0 ? 'off' : formatSize({ width, height });
  return `${(timeMs / 1000).toFixed(3)} +${frames} ${picture}: ${changed || 'nothing changed'}`;
}
