import { Command, InvalidArgumentError, Option } from 'commander';
import type { ZeroCopy } from '../bridge/dmabuf-pool.ts';
import type { LogLevel } from '../core/log.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { ControlError, defaultControlPath } from './control.ts';
import { type ControlHandlers, ControlServer } from './control-server.ts';
import { openWindows } from './screens.ts';
import { Session } from './session.ts';
import {
  formsHelp,
  GUEST_FORMS,
  INPUT_FORMS,
  OUTPUTS,
  parseByteSize,
  parseGuestSpec,
  parseInputSpecs,
  parseOutputSpec,
  parseScale,
  parseWhenOff,
  WHEN_OFF_FORMS,
  windowsAmong,
  withBackground,
} from './specs.ts';
import { endSignal, logLevelOption, stderrLog } from './terminal.ts';

export function command(): Command {
  return sessionCommand('run')
    .option('--record <file>', "also record the guest's session to this file")
    .addHelpText(
      'after',
      '\nExample:\n  $ scanout run --guest vhost-user:/tmp/gpu.sock --output headless:1280x800@60 --when-off last',
    )
    .action(async (options: Parameters<typeof runSession>[0] & { record?: string }) =>
      runSession(options, options.record),
    );
}

const DEFAULT_OUTPUT = 'headless:1280x800';
const MAX_SCANOUTS = 16;

interface Options {
  guest: string;
  output?: string[];
  input?: string[];
  control?: string;
  scanouts?: number;
  maxGuestMemory: string;
  zeroCopy: ZeroCopy;
  whenOff?: string;
  fullscreen?: true;
  scale?: number;
  title?: string;
  logLevel: LogLevel;
}

/** A command with the options that `run` and `record` share. */
export function sessionCommand(name: string): Command {
  return new Command(name)
    .requiredOption('--guest <spec>', `where the guest's VMM connects: ${GUEST_FORMS}`)
    .option(
      '--output <spec>',
      `where to show the guest, see Outputs; may be repeated (default: ${DEFAULT_OUTPUT})`,
      repeated,
    )
    .option(
      '--input <spec>',
      `the guest's input devices, for windows and monitors: ${INPUT_FORMS}; may be repeated`,
      repeated,
    )
    .option(
      '--when-off <picture>',
      `what to show while the guest shows nothing, for example when it reboots: ${WHEN_OFF_FORMS} (default: last in windows, else black)`,
    )
    .option('--fullscreen', 'make windows fullscreen')
    .option('--scale <number>', 'screen pixels per guest pixel in windows (default: 1)', parseWindowScale)
    .option('--title <text>', 'title of the windows')
    .option(
      '--control <socket>',
      `control socket for \`scanout screenshot\` and \`scanout stats\` (default: ${defaultControlPath()})`,
    )
    .option(
      '--scanouts <number>',
      'how many monitors the guest has, 1 to 16 (default: one for each headless output and connected monitor)',
      parseScanouts,
    )
    .option('--max-guest-memory <size>', 'limit of the host memory that the guest can make this process use', '512M')
    .addOption(
      new Option('--zero-copy <pages>', 'which guest pages outputs may show without a copy')
        .choices(['auto', 'blobs', 'off'])
        .default('auto'),
    )
    .addOption(logLevelOption())
    .addHelpText('after', formsHelp('Outputs', OUTPUTS));
}

/** Runs a session until SIGINT, SIGTERM, or the user closes its last window. Records it to a file if `record` is given. */
export async function runSession(options: Options, record?: string): Promise<void> {
  const log = stderrLog(options.logLevel);
  const guest = parseGuestSpec(options.guest);
  const inputs = parseInputSpecs(options.input ?? []);
  const outputs = (options.output ?? [DEFAULT_OUTPUT]).map(parseOutputSpec);
  const whenOff = parseWhenOff(options.whenOff ?? 'black');
  const { fullscreen, scale, title } = options;
  const window = windowsAmong(outputs, {
    ...(fullscreen && { fullscreen }),
    ...(scale !== undefined && { scale }),
    ...(title !== undefined && { title }),
  });
  let close = (): void => undefined;
  const closed = new Promise<string>((resolve) => (close = () => resolve('the last window was closed')));
  using windows = window && (await openWindows(window, log, () => close()));
  using session = await Session.open({
    guest,
    outputs: withBackground(outputs, whenOff),
    inputs,
    ...(windows && { windows }),
    keepLast: whenOff === 'last',
    // A window is private to its user; other screens turn black by default.
    windowKeepsLast: whenOff === 'last' || options.whenOff === undefined,
    maxGuestMemory: parseByteSize(options.maxGuestMemory, '--max-guest-memory'),
    zeroCopy: options.zeroCopy,
    log,
    ...(options.scanouts !== undefined && { scanouts: options.scanouts }),
    ...(record !== undefined && { record }),
  });
  using stack = new DisposableStack();
  const control = openControl(options.control, session, (message) => log('warn', message));
  if (control) stack.use(control);
  if ('socket' in guest) {
    const inputSockets = inputs.flatMap(({ from }) => ('socket' in from ? [` --input ${from.socket}`] : []));
    console.log(
      `listening on ${guest.socket}\n  QEMU flags: scanout qemu-args --socket ${guest.socket}${inputSockets.join('')} --memory 2G`,
    );
  } else {
    console.log(`listening on inherited descriptor ${guest.fd}`);
  }
  log('info', `exiting: ${await Promise.race([endSignal(), closed])}`);
}

/** Throws if `path` was given and cannot be used. The default path may belong to another bridge; then returns null. */
function openControl(
  path: string | undefined,
  session: Session,
  warn: (message: string) => void,
): ControlServer | null {
  const handlers: ControlHandlers = {
    stats: () => session.stats(),
    screenshot: (request, signal) => session.screenshot(request, signal),
  };
  try {
    return ControlServer.open(path ?? defaultControlPath(), handlers);
  } catch (error) {
    if (path !== undefined || !(error instanceof ControlError)) throw error;
    warn(`no control socket: ${error.message}`);
    return null;
  }
}

function repeated(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function parseWindowScale(text: string): number {
  const scale = parseScale(text);
  if (scale === null) throw new InvalidArgumentError('write a number from 0.1 to 16.');
  return scale;
}

function parseScanouts(text: string): number {
  const count = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > MAX_SCANOUTS)
    throw new InvalidArgumentError(`write a whole number from 1 to ${MAX_SCANOUTS}.`);
  return count;
}
