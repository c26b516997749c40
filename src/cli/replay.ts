import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Command } from 'commander';
import { writePng } from '../../display/picture/png.ts';
import { Bridge } from '../bridge/bridge.ts';
import { UsageError } from '../core/errors.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import type { Picture } from '../core/picture.ts';
import { Replay } from '../guest/replay/replay.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { endSignal, hasTrueColour, logLevelOption, print, Progress, renderPicture, stderrLog } from './terminal.ts';
import { checkDirectory, privateDirectory } from '../control/protocol.ts';
import { packageFile } from '../sys/package-file.ts';
import { formsHelp, type OutputSpec, parseByteSize, parseOutputSpec, REPLAY_OUTPUTS, windowsAmong } from './specs.ts';
import { openWindows, Screens } from './screens.ts';

/** The recording that comes with the package: a Linux console booting. */
const EMBEDDED = 'fixtures/console-boot.scanout';

const MODE_IF_UNKNOWN = { width: 1280, height: 800, refreshMhz: 60_000 };

class NoPictureError extends ScanoutError<'no-picture'> {}

interface Options {
  output?: string[];
  fast?: true;
  png?: string;
  maxMemory: string;
  logLevel: LogLevel;
}

export function command(): Command {
  return new Command('replay')
    .argument('[file]', 'a recording made by `scanout record` (default: the one that comes with scanout)')
    .option(
      '--output <spec>',
      'where to show the recording, see Outputs; may be repeated, headless outputs once for each recorded monitor (default: headless, like the recorded monitors)',
      (spec: string, before?: string[]) => [...(before ?? []), spec],
    )
    .option('--fast', 'play as fast as the outputs can, not at the recorded speed (always so without a file)')
    .option('--png <file>', 'write the last picture of the first headless output to this file')
    .option('--max-memory <size>', "limit of the memory that the recording can take, its guest's included", '1G')
    .addOption(logLevelOption().default('warn'))
    .addHelpText('after', `${formsHelp('Outputs', REPLAY_OUTPUTS)}\n\nA window stays open until it is closed.`)
    .addHelpText('after', '\nExample:\n  $ scanout replay --fast --png /tmp/screen.png')
    .action(replay);
}

async function replay(file: string | undefined, options: Options): Promise<void> {
  const log = stderrLog(options.logLevel);
  const maxGuestMemory = parseByteSize(options.maxMemory, '--max-memory');
  const specs = options.output?.map(parseOutputSpec) ?? null;
  if (specs?.some(({ kind }) => kind === 'vmm'))
    throw new UsageError('--output vmm: a recording has no VMM; use headless:WIDTHxHEIGHT[@HZ], wayland or kms');
  if (specs?.some(({ kind }) => kind === 'vnc'))
    throw new UsageError('--output vnc: a recording is not shown to viewers; use headless, wayland or kms');
  if (specs?.some(({ kind }) => kind === 'export'))
    throw new UsageError('--output export: works with `scanout run`; use headless:WIDTHxHEIGHT[@HZ], wayland or kms');
  if (options.png !== undefined && specs && !specs.some(({ kind }) => kind === 'headless')) {
    throw new UsageError(
      '--png: needs a headless output; add --output headless:WIDTHxHEIGHT, which can be combined with other outputs',
    );
  }
  // Without a file this is a demonstration, which always writes a picture.
  const input = file ?? packageFile(EMBEDDED);
  const png =
    options.png ?? (file === undefined ? join(privateDirectory(), `${basename(EMBEDDED, '.scanout')}.png`) : null);
  const played = await play(input, specs, options.fast ?? file === undefined, { maxGuestMemory, log });
  if ('endedBy' in played) {
    // The caller should see that the recording was not played to its end.
    if (played.endedBy !== 'window') process.kill(process.pid, played.endedBy);
    return;
  }
  const { picture } = played;
  if (!picture) {
    if (options.png !== undefined)
      throw new NoPictureError('no-picture', 'the recorded guest never showed a picture: no PNG was written');
    return;
  }
  if (process.stdout.isTTY)
    process.stdout.write(renderPicture(picture, process.stdout.columns, hasTrueColour(process.env)));
  if (png === null) return;
  mkdirSync(dirname(png), { recursive: true, mode: 0o700 });
  checkDirectory(dirname(png));
  await writePng(png, picture);
  print(`${png}: the last picture, ${picture.width}x${picture.height}`);
}

/**
 * Plays a recording until its end, a signal, or the user closes the window. The picture is the last one of the first
 * headless output, even if the guest then turned it off. All screens are restored before this resolves.
 */
async function play(
  file: string,
  specs: readonly OutputSpec[] | null,
  fast: boolean,
  { maxGuestMemory, log }: { readonly maxGuestMemory: number; readonly log: Log },
): Promise<{ picture: Picture | null } | { endedBy: NodeJS.Signals | 'window' }> {
  using stack = new DisposableStack();
  let close = (): void => undefined;
  const closed = new Promise<'window'>((resolve) => (close = () => resolve('window')));
  const window = windowsAmong(specs ?? [], {});
  const windows =
    window && stack.use(await openWindows(window, 'Nothing to show: the recorded screen is off', log, () => close()));
  const ending = Promise.race([endSignal(), closed]);
  const progress = stack.use(new Progress(process.stderr));
  const source = stack.use(
    Replay.open({
      file,
      speed: fast ? 'fast' : 'recorded',
      maxGuestMemory,
      log,
      onProgress: ({ fraction }) => progress.show(fraction),
    }),
  );
  const screens = stack.use(await openScreens(source, specs, log));
  const bridge = stack.use(new Bridge(source, { log }));
  let last: Picture | null = null;
  const first = screens.headless[0];
  first?.onBlank(() => (last = first.capture()));
  for (const { output, scanout } of screens.assign(source.scanouts)) bridge.show(scanout, output);
  windows
    ?.openOutputs(source.scanouts)
    .forEach((output, index) => bridge.show(index, output, { keepLast: index === 0 }));
  const outcome = await Promise.race([source.finished, ending]);
  if (typeof outcome === 'string') return { endedBy: outcome };
  const end = await Promise.race([bridge.settled(), ending]);
  if (typeof end === 'string') return { endedBy: end };
  const { commands, flushes, errors, durationMs } = outcome;
  progress[Symbol.dispose]();
  print(
    `played ${basename(file)}: ${commands} commands, ${flushes} flushes, ${errors} refused, ${(durationMs / 1000).toFixed(1)} s`,
  );
  if (windows) await ending;
  return { picture: first?.capture() ?? last };
}

async function openScreens(source: Replay, specs: readonly OutputSpec[] | null, log: Log): Promise<Screens> {
  const headless = specs?.filter(({ kind }) => kind === 'headless').length ?? 0;
  if (headless > source.scanouts)
    throw new UsageError(`--output: ${headless} headless outputs for a recording of ${source.scanouts} monitors`);
  const recorded = Array.from({ length: source.scanouts }, (_, index): OutputSpec => {
    const { width, height, refreshMhz } = source.monitors.get(index) ?? MODE_IF_UNKNOWN;
    return { kind: 'headless', width, height, refreshMhz };
  });
  return Screens.open(specs ?? recorded, { log });
}
