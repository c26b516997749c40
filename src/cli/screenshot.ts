import { Command, InvalidArgumentError } from 'commander';
import { writePng } from '../../display/screenshot/png.ts';
import { requestScreenshot } from './control-client.ts';
import { defaultControlPath } from './control-protocol.ts';

interface Options {
  control: string;
  cursor: boolean;
  scanout: number;
}

function parseIndex(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('write a whole number from 0 on.');
  return Number(text);
}

export function command(): Command {
  return new Command('screenshot')
    .argument('<out.png>', 'where to write the picture')
    .option('--control <socket>', 'control socket of the bridge', defaultControlPath())
    .option('--scanout <number>', "which of the guest's monitors, from 0", parseIndex, 0)
    .option('--no-cursor', 'leave the hardware cursor out')
    .addHelpText('after', '\nExample:\n  $ scanout screenshot --no-cursor /tmp/screen.png')
    .action(async (path: string, { control, scanout, cursor }: Options) => {
      const picture = await requestScreenshot(control, scanout, cursor);
      await writePng(path, picture);
      console.log(`${path}: ${picture.width}x${picture.height}`);
    });
}
