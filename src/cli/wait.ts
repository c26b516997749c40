import { Argument, Command, Option } from 'commander';
import { DEFAULT_QUIET_MS, DEFAULT_TIMEOUT_MS } from '../core/patience.ts';
import { ControlClient } from '../control/client.ts';
import type { Point } from '../control/operator.ts';
import { UsageError } from '../core/errors.ts';
import {
  addCompareOptions,
  compareOptionsOf,
  type ComparisonFlags,
  controlOption,
  parseMs,
  parsePoint,
  scanoutOption,
} from './control-options.ts';

const FOR = ['stable', 'change', 'match'] as const;

interface Options extends ComparisonFlags {
  control: string;
  scanout: number;
  cursor: boolean;
  quietMs: number;
  timeoutMs: number;
  at?: Point;
}

export function command(): Command {
  const self = new Command('wait')
    .addArgument(new Argument('<for>', 'until it stands still, changes, or shows a picture').choices(FOR))
    .argument('[golden.png]', 'for match: the picture')
    .addOption(controlOption())
    .addOption(scanoutOption())
    .option('--no-cursor', 'do not look at the hardware cursor')
    .addOption(msOption('--quiet-ms <ms>', 'for stable: how long nothing may change', DEFAULT_QUIET_MS))
    .addOption(msOption('--timeout-ms <ms>', 'how long to wait before failing with a description', DEFAULT_TIMEOUT_MS))
    .option('--at <X,Y>', 'for match: the picture is a part of the screen, at this place', parsePoint);
  return addCompareOptions(self)
    .addHelpText(
      'after',
      '\nThe bridge is a running `scanout run` or `scanout record`. The last five options are for match, and --region for the others, too. The exit code is 1 if what is waited for does not happen.\n\nExample:\n  $ scanout wait stable --quiet-ms 2000 --timeout-ms 60000',
    )
    .action(run);
}

function msOption(flags: string, description: string, fallback: number): Option {
  return new Option(flags, description).argParser(parseMs).default(fallback);
}

async function run(what: (typeof FOR)[number], golden: string | undefined, options: Options): Promise<void> {
  if ((what === 'match') !== (golden !== undefined))
    throw new UsageError('wait: give the PNG to wait for with match, and only with that');
  const { control, scanout, cursor, quietMs, timeoutMs, at, region } = options;
  const bridge = new ControlClient(control);
  const view = { scanout, cursor, timeoutMs, ...(region && { region }) };
  if (golden !== undefined) {
    const { readPicture } = await import('./comparison.ts');
    await bridge.waitForMatch(await readPicture(golden), { ...view, ...compareOptionsOf(options), ...(at && { at }) });
  } else if (what === 'stable') await bridge.waitForStable({ ...view, quietMs });
  else await bridge.waitForChange(view);
}
