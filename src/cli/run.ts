import { Command, InvalidArgumentError, Option } from 'commander';
import type { ZeroCopy } from '../bridge/dmabuf-pool.ts';
import type { Latency } from '../bridge/present-deadline.ts';
import { UsageError } from '../core/errors.ts';
import type { LogLevel } from '../core/log.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import { ControlError, defaultControlPath } from '../control/protocol.ts';
import type { ControlHandlers, ControlServer } from '../control/server.ts';
import type { BridgeStats } from '../control/stats.ts';
import {
  CHORD_FORM,
  formsHelp,
  GUEST_FORMS,
  type GuestSpec,
  INPUT_FORMS,
  OUTPUTS,
  parseByteSize,
  parseClipboardSpec,
  parseGuestSpec,
  parseInputSpecs,
  parseMonitorOptions,
  type MonitorOptions,
  type OutputSpec,
  parseOutputSpec,
  parseScale,
  CLIPBOARD_FORMS,
  type DbusSpec,
  DEFAULT_CLIPBOARD,
  DEFAULT_INPUT,
  outputFiles,
  outputPorts,
  outputSockets,
  parseInputKinds,
  parseWhenOff,
  type VfioSpec,
  WHEN_OFF_FORMS,
  windowsAmong,
  withBackground,
} from './specs.ts';
import { endSignal, logLevelOption, print, READY, stderrLog, SUPERVISED, WINDOWS_CLOSED } from './terminal.ts';

interface RunOptions extends Omit<Options, 'guest'> {
  readonly guest?: string;
  readonly record?: string;
  readonly patience: number;
}

/** Seconds. */
const DEFAULT_PATIENCE = 60;
const MAX_PATIENCE = 86_400;

const QEMU_HELP = `
With a QEMU command after -- the guest needs no other flags: it gets this GPU and memory that can be shared, input
devices with --input, and is asked to shut down when its last window is closed. QEMU's exit code is that of scanout.
  $ scanout run --output wayland --input -- qemu-system-x86_64 -accel kvm -m 2G disk.qcow2`;

export function command(): Command {
  return sessionCommand('run')
    .argument('[qemu...]', 'after --: QEMU and its arguments, to be run with this screen instead of --guest')
    .option('--guest <spec>', GUEST_HELP)
    .option('--record <file>', "also record the guest's session to this file")
    .addOption(patienceOption())
    .addHelpText('after', QEMU_HELP)
    .addHelpText(
      'after',
      '\nExample:\n  $ scanout run --guest vhost-user:/tmp/gpu.sock --output headless:1280x800@60 --when-off last',
    )
    .action(async (qemu: readonly string[], options: RunOptions, self: Command) => {
      const { guest, record } = options;
      if (qemu.length > 0) {
        if (guest !== undefined)
          throw new UsageError('--guest: leave it out with a QEMU command, which is connected without it');
        await runWithQemu(qemu, options, optionArgs(self, ['input', 'clipboard', 'patience']));
      } else {
        if (guest === undefined)
          throw new UsageError(`write --guest ${GUEST_FORMS}, or a QEMU command after -- (run --help has examples)`);
        await runSession({ ...options, guest }, record, process.env[SUPERVISED] === undefined ? 'windows' : 'parent');
      }
    });
}

export function patienceOption(): Option {
  return new Option(
    '--patience <seconds>',
    'with a QEMU command: how long the guest may take to shut down when its last window is closed',
  )
    .argParser((text) => {
      const seconds = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
      if (!(seconds <= MAX_PATIENCE)) throw new InvalidArgumentError(`write seconds from 0 to ${MAX_PATIENCE}.`);
      return seconds;
    })
    .default(DEFAULT_PATIENCE);
}

/** What `runWithQemu` reads of the options; it passes the others on as `bridge`. */
interface QemuRunOptions {
  readonly input?: readonly string[];
  readonly output?: readonly string[];
  readonly clipboard?: string;
  readonly allowUnsealedMemory?: boolean;
  readonly patience: number;
  readonly logLevel: LogLevel;
}

/** Sets the exit code of this process. */
export async function runWithQemu(
  qemu: readonly string[],
  { input = [], output = [], clipboard, allowUnsealedMemory = false, patience, logLevel }: QemuRunOptions,
  bridge: readonly string[],
): Promise<void> {
  // A mistake is to be found before anything is started.
  const outputs = output.map(parseOutputSpec);
  if (clipboard !== undefined && clipboard !== DEFAULT_CLIPBOARD)
    throw new UsageError(`--clipboard: cannot use '${clipboard}'; with a QEMU command write --clipboard alone`);
  checkClipboard(clipboard, outputs);
  const { runVm } = await import('./vm.ts');
  process.exitCode = await runVm({
    qemu,
    bridge,
    inputs: parseInputKinds(input),
    hasClipboard: clipboard !== undefined,
    hasDisplay: outputs.some(({ kind }) => kind === 'vmm'),
    allowUnsealedMemory,
    patienceMs: patience * 1000,
    log: stderrLog(logLevel),
  });
}

/** Throws UsageError if there is nothing to share a clipboard with. */
function checkClipboard(clipboard: string | undefined, outputs: readonly OutputSpec[]): void {
  if (clipboard !== undefined && !outputs.some(({ kind }) => kind === 'wayland'))
    throw new UsageError('--clipboard: works only with --output wayland, whose desktop has a clipboard');
}

/** The options that the user gave to a command, but for some, as arguments for it. */
export function optionArgs(of: Command, without: readonly string[]): string[] {
  return of.options.flatMap((option) => {
    const name = option.attributeName();
    if (of.getOptionValueSource(name) !== 'cli' || without.includes(name)) return [];
    if (option.isBoolean()) return [option.long!];
    return [of.getOptionValue(name) as unknown].flat().map((value) => `${option.long!}=${String(value)}`);
  });
}

const DEFAULT_OUTPUT = 'headless:1280x800';
const MAX_SCANOUTS = 16;

interface Options extends MonitorOptions {
  guest: string;
  output?: string[];
  input?: string[];
  clipboard?: string;
  control?: string;
  scanouts?: number;
  maxGuestMemory: string;
  allowUnsealedMemory?: true;
  zeroCopy: ZeroCopy;
  latency: Latency;
  whenOff?: string;
  fullscreen?: true;
  scale?: number;
  title?: string;
  sandbox: 'on' | 'off';
  logLevel: LogLevel;
}

export const GUEST_HELP = `where the guest's VMM connects, its virtual GPU, or its VM's D-Bus display: ${GUEST_FORMS}`;

/** A command with the options that `run` and `record` share. */
export function sessionCommand(name: string): Command {
  return new Command(name)
    .option(
      '--output <spec>',
      `where to show the guest, see Outputs; may be repeated (default: ${DEFAULT_OUTPUT})`,
      repeated,
    )
    .addOption(
      new Option(
        '--input [spec]',
        `the guest's input devices, for windows and monitors: ${INPUT_FORMS}; may be repeated`,
      )
        .preset(DEFAULT_INPUT)
        .argParser(repeated),
    )
    .addOption(
      new Option(
        '--clipboard [spec]',
        `share text and pictures on the desktop's clipboard with the guest, in which spice-vdagent runs: ${CLIPBOARD_FORMS}`,
      ).preset(DEFAULT_CLIPBOARD),
    )
    .option(
      '--when-off <picture>',
      `what to show while the guest shows nothing, for example when it reboots: ${WHEN_OFF_FORMS} (default: black; windows say what they wait for)`,
    )
    .option('--fullscreen', 'make windows fullscreen')
    .option('--scale <number>', 'screen pixels per guest pixel in windows (default: 1)', parseWindowScale)
    .option('--title <text>', 'title of the windows')
    .addOption(
      new Option(
        '--cursor <whose>',
        "the cursor on monitors: the guest's (default); draw: also an arrow, for a guest that has none; hide: none",
      ).choices(['guest', 'draw', 'hide']),
    )
    .option(
      '--input-devices <device>',
      'use only this input device of this machine: its name, event3, or a path in /dev/input; not:DEVICE uses all but this one; may be repeated',
      repeated,
    )
    .option(
      '--touch <connector=device>',
      'the monitor that a touchscreen or tablet belongs to, such as HDMI-A-1=event5; may be repeated',
      repeated,
    )
    .option('--quit-keys <keys>', `on monitors, end when these keys are pressed: ${CHORD_FORM}`)
    .option(
      '--idle-off <seconds>',
      'turn monitors off after this time without input, until there is some',
      parseSeconds,
    )
    .option(
      '--control <socket>',
      `socket for \`scanout screenshot\`, \`type\`, \`click\` and others that drive the guest (default: ${defaultControlPath()})`,
    )
    .option(
      '--scanouts <number>',
      'how many monitors the guest has, 1 to 16 (default: one for each headless output and connected monitor)',
      parseScanouts,
    )
    .option('--max-guest-memory <size>', 'limit of the host memory that the guest can make this process use', '512M')
    .option(
      '--allow-unsealed-memory',
      'accept guest memory that the VMM can truncate, which would kill this process (QEMU: memory-backend-file)',
    )
    .addOption(
      new Option(
        '--zero-copy <pages>',
        'which guest pages outputs may show without a copy: those of blobs, all, or none',
      )
        .choices(['auto', 'all', 'off'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--latency <choice>',
        'when frames are presented: at once, or (low) just before the vertical blank, where an output knows it',
      )
        .choices(['low', 'safe'])
        .default('safe'),
    )
    .addOption(
      new Option('--sandbox <state>', 'whether this process gives up what it does not need: files, programs, network')
        .choices(['on', 'off'])
        .default('on'),
    )
    .addOption(logLevelOption())
    .addHelpText('after', formsHelp('Outputs', OUTPUTS));
}

/**
 * Runs a session until SIGINT, SIGTERM, SIGHUP, or what else ends it:
 *
 * - `windows`: the user closes the last one;
 * - `guest`: its VMM disconnects; without windows the guest still needs its GPU;
 * - `parent`: only those signals. It reports to the `runVm` that started it.
 *
 * Records it to a file if `record` is given.
 */
export async function runSession(
  options: Options,
  record?: string,
  endsWith: 'windows' | 'guest' | 'parent' = 'windows',
): Promise<void> {
  const log = stderrLog(options.logLevel);
  const guest = parseGuestSpec(options.guest);
  const inputs = parseInputSpecs(options.input ?? []);
  const isClipboardOfGuest = options.clipboard === DEFAULT_CLIPBOARD && 'dbus' in guest;
  const clipboard =
    options.clipboard === undefined || isClipboardOfGuest ? null : parseClipboardSpec(options.clipboard);
  const whenOff = parseWhenOff(options.whenOff ?? 'black');
  const outputs = withBackground((options.output ?? [DEFAULT_OUTPUT]).map(parseOutputSpec), whenOff);
  checkClipboard(options.clipboard, outputs);
  const maxGuestMemory = parseByteSize(options.maxGuestMemory, '--max-guest-memory');
  const { fullscreen, scale, title } = options;
  const window = windowsAmong(outputs, {
    ...(fullscreen && { fullscreen }),
    ...(scale !== undefined && { scale }),
    ...(title !== undefined && { title }),
  });
  const { cursor, inputDevices, touch, quitKeys, idleOff } = options;
  const monitors = parseMonitorOptions(
    {
      ...(cursor && { cursor }),
      ...(inputDevices && { inputDevices }),
      ...(touch && { touch }),
      ...(quitKeys !== undefined && { quitKeys }),
      ...(idleOff !== undefined && { idleOff }),
    },
    inputs.length > 0,
    outputs.some(({ kind }) => kind === 'kms'),
  );
  // Help and refusals need none of the modules that are loaded from here on, which are most of the program.
  const { enterSandbox, lockSandbox, NO_SANDBOX } = await loadSandbox();
  const needs = { input: monitors.input !== null };
  const entered =
    options.sandbox === 'off'
      ? null
      : enterSandbox({
          guest,
          sockets: [...inputs.map(({ from }) => from), ...outputSockets(outputs), ...(clipboard ? [clipboard] : [])],
          ports: outputPorts(outputs),
          files: outputFiles(outputs),
          control: options.control ?? defaultControlPath(),
          record,
          ...needs,
        });
  const recording = entered ? entered.record : record;
  const source = entered ? entered.guest : guest;
  const { openWindows, Session, openServer } = await loadSession();
  let close: (reason: string) => void = () => undefined;
  const closed = new Promise<string>((resolve) => (close = resolve));
  let disconnect = (): void => undefined;
  const left = new Promise<string>((resolve) => (disconnect = () => resolve('the VMM has disconnected')));
  using windows =
    window &&
    (await openWindows({ ...window, shareClipboard: options.clipboard !== undefined }, nothingYet(guest), log, () =>
      close('the last window was closed'),
    ));
  using session = await Session.open({
    guest: source,
    outputs,
    inputs,
    ...(windows && { windows }),
    ...(isClipboardOfGuest ? { clipboard: 'guest' } : clipboard && { clipboard }),
    keepLast: whenOff === 'last',
    maxGuestMemory,
    onDisconnected: () => disconnect(),
    allowUnsealedMemory: options.allowUnsealedMemory ?? false,
    zeroCopy: options.zeroCopy,
    latency: options.latency,
    monitors,
    onQuit: () => close('the quit keys were pressed'),
    log,
    ...(options.scanouts !== undefined && { scanouts: options.scanouts }),
    ...(recording !== undefined && { record: recording }),
  });
  using stack = new DisposableStack();
  const stats = (): BridgeStats => ({
    ...session.stats(),
    control: { clients: control?.clients ?? 0, input: session.operated },
    sandbox,
  });
  const control = openControl(
    options.control,
    openServer,
    {
      stats,
      hello: () => session.hello(),
      screenshot: (request, signal) => session.screenshot(request, signal),
      screenshotPng: (request, signal) => session.screenshotPng(request, signal),
      wait: (request, signal) => session.wait(request, signal),
      watch: (scanout, signal) => session.watch(scanout, signal),
      trace: (scanout) => session.trace(scanout),
      operate: (request, signal) => session.operate(request, signal),
    },
    (message) => log('warn', message),
  );
  if (control) stack.use(control);
  const sandbox = entered === null ? NO_SANDBOX : lockSandbox(entered, needs, log);
  // A parent that reads that it listens may end it at once.
  const ending = Promise.race([endSignal(), ...{ windows: [closed], guest: [left], parent: [] }[endsWith]]);
  if (endsWith === 'parent') {
    // Of a parent that is killed, every thread that ends may send another one (PR_SET_PDEATHSIG).
    process.on('SIGTERM', () => undefined);
    print(READY);
    void closed.then(() => print(WINDOWS_CLOSED));
  } else if ('dbus' in guest) {
    print(`showing ${dbusText(guest.dbus)}`);
  } else if ('vfio' in guest) {
    print(`showing ${vfioText(guest.vfio)}`);
  } else if ('socket' in guest) {
    const inputSockets = inputs.flatMap(({ from }) => ('socket' in from ? [` --input ${from.socket}`] : []));
    if (clipboard && 'socket' in clipboard) inputSockets.push(` --clipboard ${clipboard.socket}`);
    print(
      `listening on ${guest.socket}\n  QEMU flags: scanout qemu-args --socket ${guest.socket}${inputSockets.join('')} --memory 2G`,
    );
  } else {
    print(`listening on inherited descriptor ${guest.fd}`);
  }
  log('info', `exiting: ${await ending}`);
}

function nothingYet(guest: GuestSpec): string {
  const at = 'socket' in guest ? ` at ${guest.socket}` : '';
  return `Nothing to show: no guest is connected${at}, or its screen is off`;
}

function dbusText(spec: DbusSpec): string {
  if ('qmp' in spec) return `the consoles of the VM at ${spec.qmp}\n  QEMU flags: scanout qemu-args --dbus ${spec.qmp}`;
  return `the consoles of ${spec.name === undefined ? 'the VM' : spec.name} on the bus ${spec.bus}\n  QEMU flag: -display dbus`;
}

function vfioText(spec: VfioSpec): string {
  if ('pid' in spec) return `the device of process ${spec.pid}`;
  if ('mdev' in spec) return `the mediated device ${spec.mdev}`;
  return 'fd' in spec ? `the device of inherited descriptor ${spec.fd}` : `devices that are passed to ${spec.socket}`;
}

/** A function of its own: tsc leaves `.ts` in an import of a function that has `using`. */
function loadSandbox() {
  return import('./sandbox.ts');
}

/** Only the second start needs these modules. */
async function loadSession() {
  const { openWindows } = await import('./screens.ts');
  const { Session } = await import('./session.ts');
  const { ControlServer } = await import('../control/server.ts');
  return { openWindows, Session, openServer: ControlServer.open.bind(ControlServer) };
}

/** Throws if `path` was given and cannot be used. The default path may belong to another bridge; then returns null. */
function openControl(
  path: string | undefined,
  open: typeof ControlServer.open,
  handlers: ControlHandlers,
  warn: (message: string) => void,
): ControlServer | null {
  try {
    return open(path ?? defaultControlPath(), handlers);
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

function parseSeconds(text: string): number {
  const seconds = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (seconds < 1) throw new InvalidArgumentError('write a whole number of seconds, 1 or more.');
  return seconds;
}

function parseScanouts(text: string): number {
  const count = /^\d{1,2}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > MAX_SCANOUTS)
    throw new InvalidArgumentError(`write a whole number from 1 to ${MAX_SCANOUTS}.`);
  return count;
}
