import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Command } from 'commander';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { writePng } from '../../display/screenshot/png.ts';
import { Bridge } from '../bridge.ts';
import { ScanoutError, UsageError } from '../core/errors.ts';
import type { Log, LogLevel } from '../core/log.ts';
import type { Monitor } from '../core/monitor.ts';
import type { Picture } from '../core/picture.ts';
import { scanoutId } from '../core/source.ts';
import { openReplay, type Replay, type ReplaySummary } from '../guest/replay/replay.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { logLevelOption, stderrLog } from './log.ts';
import { packageFile } from './package-file.ts';
import { type OutputSpec, parseOutputSpec } from './output-spec.ts';
import { Progress } from './progress.ts';
import { hasTrueColour, renderPicture } from './terminal-picture.ts';

/** The guest that comes with the package: a Linux console booting. */
const EMBEDDED = 'fixtures/console-boot.scanout';

type HeadlessMode = Pick<Monitor, 'width' | 'height' | 'refreshMhz'>;

const MODE_IF_UNKNOWN: HeadlessMode = { width: 1280, height: 800, refreshMhz: 60_000 };

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
    .option('--output <spec>', "headless:WIDTHxHEIGHT[@HZ]; may be repeated, one for each monitor (default: the recorded guest's)", (spec: string, before?: string[]) => [...(before ?? []), spec])
    .option('--fast', 'as fast as the outputs take it, not at the recorded speed (always, without a file)')
    .option('--png <file>', "where to write the first monitor's last picture")
    .addOption(logLevelOption().default('warn'))
    .addHelpText('after', '\nExample:\n  $ scanout replay --fast --png /tmp/screen.png')
    .action(replay);
}

async function replay(file: string | undefined, options: Options): Promise<void> {
  const log = stderrLog(options.logLevel);
  // Without a file there is a picture to show for it all the same.
  const input = file ?? packageFile(EMBEDDED);
  const png = options.png ?? (file === undefined ? join(tmpdir(), `scanout-bridge-${process.getuid!()}`, `${basename(EMBEDDED, '.scanout')}.png`) : null);
  const { picture, summary } = await play(input, { ...options, ...(file === undefined && { fast: true }) }, log);
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

/** Plays a whole recording. The picture is the first monitor's last one, even if it went dark after. */
async function play(file: string, options: Options, log: Log): Promise<{ picture: Picture | null; summary: ReplaySummary }> {
  using stack = new DisposableStack();
  const specs = options.output?.map(parseOutputSpec);
  const progress = stack.use(new Progress(process.stderr));
  const source = stack.use(openReplay({ file, speed: options.fast ? 'fast' : 'recorded', log, onProgress: ({ fraction }) => progress.show(fraction) }));
  const outputs = openOutputs(source, specs).map((output) => stack.use(output));
  const bridge = stack.use(new Bridge(source, { log, budget: source.device.budget }));
  let last: Picture | null = null;
  outputs[0]!.onBlank(() => (last = outputs[0]!.capture()));
  outputs.forEach((output, index) => bridge.show(scanoutId(index), output));
  const summary = await source.finished;
  await Promise.all(outputs.map((output) => output.settled()));
  return { picture: outputs[0]!.capture() ?? last, summary };
}

function openOutputs(source: Replay, specs: readonly OutputSpec[] | undefined): HeadlessOutput[] {
  if (specs && specs.length > source.scanouts) throw new UsageError(`--output: ${specs.length} outputs for a recording of ${source.scanouts} monitors`);
  const modes = specs?.map(headlessMode) ?? Array.from({ length: source.scanouts }, (_, index) => source.monitors.get(scanoutId(index)) ?? MODE_IF_UNKNOWN);
  return modes.map(({ width, height, refreshMhz }) => HeadlessOutput.open({ width, height, refreshMhz }));
}

function headlessMode(spec: OutputSpec): HeadlessMode {
  if (spec.kind === 'headless') return spec;
  throw new UsageError('--output: a replay is shown on headless:WIDTHxHEIGHT[@HZ] only');
}
