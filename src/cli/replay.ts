import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Command } from 'commander';
import { writePng } from '../../display/screenshot/png.ts';
import { Bridge } from '../bridge.ts';
import { ScanoutError, UsageError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import type { Picture } from '../core/picture.ts';
import { scanoutId } from '../core/source.ts';
import { openReplay, type Replay, type ReplaySummary } from '../guest/replay/replay.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { logLevelOption, stderrLog } from './log.ts';
import { packageFile } from './package-file.ts';
import { type OutputSpec, parseOutputSpec } from './output-spec.ts';
import { Progress } from './progress.ts';
import { Screens } from './screens.ts';
import { hasTrueColour, renderPicture } from './terminal-picture.ts';

/** The guest that comes with the package: a Linux console booting. */
const EMBEDDED = 'fixtures/console-boot.scanout';

const MODE_IF_UNKNOWN = { width: 1280, height: 800, refreshMhz: 60_000 };

class NoPictureError extends ScanoutError<'no-picture'> {}

interface Options {
  output?: string[];
  fast?: true;
  png?: string;
  logLevel: LogLevel;
}

export function command(): Command {
  return new Command('replay')
    .argument('[file]', 'a recording of `scanout record`; the one that comes with scanout if left out')
    .option('--output <spec>', "headless:WIDTHxHEIGHT[@HZ], one for each recorded monitor, or kms[:CARD][,connector=NAME][,mode=WIDTHxHEIGHT[@HZ]]; may be repeated (default: headless, as the recorded monitors were)", (spec: string, before?: string[]) => [...(before ?? []), spec])
    .option('--fast', 'as fast as the outputs take it, not at the recorded speed (always, without a file)')
    .option('--png <file>', "where to write the first headless output's last picture")
    .addOption(logLevelOption().default('warn'))
    .addHelpText('after', '\nExample:\n  $ scanout replay --fast --png /tmp/screen.png')
    .action(replay);
}

async function replay(file: string | undefined, options: Options): Promise<void> {
  const log = stderrLog(options.logLevel);
  const specs = options.output?.map(parseOutputSpec) ?? null;
  if (specs?.some(({ kind }) => kind === 'vmm')) throw new UsageError('--output vmm: a recording has no VMM; write headless:WIDTHxHEIGHT[@HZ] or kms');
  if (specs?.some(({ kind }) => kind === 'wayland')) throw new UsageError('--output wayland: recordings are not played in windows; write headless:WIDTHxHEIGHT[@HZ] or kms');
  if (options.png !== undefined && specs && !specs.some(({ kind }) => kind === 'headless')) {
    throw new UsageError('--png: the picture is that of a headless output; add --output headless:WIDTHxHEIGHT, which may stand beside kms');
  }
  // Without a file there is a picture to show for it all the same.
  const input = file ?? packageFile(EMBEDDED);
  const png = options.png ?? (file === undefined ? join(tmpdir(), `scanout-bridge-${process.getuid!()}`, `${basename(EMBEDDED, '.scanout')}.png`) : null);
  const { picture, summary } = await play(input, specs, options.fast ?? file === undefined, log);
  const { commands, flushes, errors, durationMs } = summary;
  console.log(`played ${basename(input)}: ${commands} commands, ${flushes} flushes, ${errors} refused, ${(durationMs / 1000).toFixed(1)} s`);
  if (!picture) {
    if (options.png !== undefined) throw new NoPictureError('no-picture', 'the recorded guest never showed a picture: no PNG was written');
    return;
  }
  if (process.stdout.isTTY) process.stdout.write(renderPicture(picture, process.stdout.columns, hasTrueColour(process.env)));
  if (png === null) return;
  mkdirSync(dirname(png), { recursive: true });
  await writePng(png, picture);
  console.log(`${png}: the last picture, ${picture.width}x${picture.height}`);
}

/** Plays a whole recording. The picture is the first headless output's last one, even if it went dark after. */
async function play(file: string, specs: readonly OutputSpec[] | null, fast: boolean, log: Log): Promise<{ picture: Picture | null; summary: ReplaySummary }> {
  using stack = new DisposableStack();
  const progress = stack.use(new Progress(process.stderr));
  const source = stack.use(openReplay({ file, speed: fast ? 'fast' : 'recorded', log, onProgress: ({ fraction }) => progress.show(fraction) }));
  const screens = stack.use(openScreens(source, specs, log));
  const bridge = stack.use(new Bridge(source, { log, budget: source.device.budget }));
  let last: Picture | null = null;
  const first = screens.headless[0];
  first?.onBlank(() => (last = first.capture()));
  for (const { output, scanout } of screens.assign(source.scanouts)) bridge.show(scanoutId(scanout), output);
  const summary = await source.finished;
  await Promise.all(screens.headless.map((output) => output.settled()));
  return { picture: first?.capture() ?? last, summary };
}

function openScreens(source: Replay, specs: readonly OutputSpec[] | null, log: Log): Screens {
  const headless = specs?.filter(({ kind }) => kind === 'headless').length ?? 0;
  if (headless > source.scanouts) throw new UsageError(`--output: ${headless} headless outputs for a recording of ${source.scanouts} monitors`);
  const recorded = Array.from({ length: source.scanouts }, (_, index): OutputSpec => {
    const { width, height, refreshMhz } = source.monitors.get(scanoutId(index)) ?? MODE_IF_UNKNOWN;
    return { kind: 'headless', width, height, refreshMhz };
  });
  return Screens.open(specs ?? recorded, log);
}
