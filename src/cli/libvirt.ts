import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { Argument, Command } from 'commander';
import { UsageError } from '../core/errors.ts';
import { shellQuote } from '../qemu/flags.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { Check } from './machine.ts';
import { formsHelp, OUTPUTS, parseOutputSpec } from './specs.ts';
import { print } from './terminal.ts';

/** libvirt's files cannot be written or removed; `code` is the errno. */
export class LibvirtError extends ScanoutError {}

const ACTIONS = ['install', 'uninstall'] as const;

interface Options {
  readonly output?: readonly string[];
  readonly session?: boolean;
}

/** libvirt takes the first program by the names of their descriptors; QEMU's own is 50-qemu-gpu.json. */
const DESCRIPTOR = '20-scanout-bridge.json';
const PROGRAM = 'vhost-user-gpu';
const DAEMONS = ['libvirtd', 'virtqemud'];
/** Where daemons are, which the PATH of an ordinary user may leave out. */
const SBIN = ['/usr/sbin', '/usr/local/sbin'];

export function command(): Command {
  return new Command('libvirt')
    .addArgument(new Argument('<action>', 'what to do').choices(ACTIONS))
    .option(
      '--output <spec>',
      'where to show the guests, see Outputs; may be repeated (default: wayland with --session)',
      (value: string, before?: string[]) => [...(before ?? []), value],
    )
    .option('--session', "for this user's own libvirt (qemu:///session), not that of the system")
    .addHelpText('after', formsHelp('Outputs', OUTPUTS))
    .addHelpText(
      'after',
      '\nMakes libvirt show its guests with a vhost-user video device here. `install` says what a domain needs for that.\n\nExample:\n  $ scanout libvirt install --session --output wayland',
    )
    .action((action: (typeof ACTIONS)[number], { output, session }: Options) => {
      const isSession = session === true;
      const places = isSession ? sessionPlaces() : SYSTEM_PLACES;
      if (action === 'install') install(places, output ?? defaultOutput(isSession), isSession);
      else uninstall(places, isSession);
    });
}

interface Places {
  readonly descriptor: string;
  readonly program: string;
}

const SYSTEM_PLACES: Places = {
  descriptor: join('/etc/qemu/vhost-user', DESCRIPTOR),
  program: join('/usr/local/libexec/scanout-bridge', PROGRAM),
};

function sessionPlaces(env: NodeJS.ProcessEnv = process.env): Places {
  const of = (variable: string, fallback: string): string => env[variable] || join(homedir(), fallback);
  return {
    descriptor: join(of('XDG_CONFIG_HOME', '.config'), 'qemu/vhost-user', DESCRIPTOR),
    program: join(of('XDG_DATA_HOME', '.local/share'), 'scanout-bridge', PROGRAM),
  };
}

function defaultOutput(session: boolean): readonly string[] {
  if (session) return ['wayland'];
  throw new UsageError(
    "choose an --output: the system's libvirt runs guests as another user, who has no desktop: kms for the monitors of this machine, headless:1280x800 for screenshots; windows are for --session",
  );
}

function install({ descriptor, program }: Places, outputs: readonly string[], session: boolean): void {
  outputs.forEach(parseOutputSpec);
  const description = { description: 'scanout-bridge: shows guests without copying', type: 'gpu', binary: program };
  write(program, script(outputs), 0o755, session);
  write(descriptor, `${JSON.stringify(description, null, 2)}\n`, 0o644, session);
  print(`wrote ${program}\nwrote ${descriptor}\n\n${DOMAIN}`);
  if (!hasLibvirt())
    print(
      '\nlibvirt is not installed on this machine, or not on PATH: install it (Debian: libvirt-daemon-system) to use this',
    );
}

const DOMAIN = `A domain needs, in \`virsh edit\` or the XML of virt-manager, memory that can be shared and this video device:
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
  <devices>
    <video>
      <driver name='vhostuser'/>
      <model type='virtio' heads='1'/>
    </video>
  </devices>
QEMU refuses <graphics type='vnc'/> beside it: remove that, or use <graphics type='dbus'/> with --output vmm.`;

/** libvirt may have another environment than the desktop whose windows are wanted. */
function script(outputs: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  const needsDesktop = outputs.map(parseOutputSpec).some(({ kind }) => kind === 'wayland');
  const variables = ['XDG_RUNTIME_DIR', 'WAYLAND_DISPLAY'].filter((name) => needsDesktop && env[name]);
  const command = [process.execPath, ...process.execArgv, process.argv[1]!, PROGRAM];
  return [
    '#!/bin/sh',
    '# Made by `scanout libvirt install`; `scanout libvirt uninstall` removes it.',
    ...variables.map((name) => `export ${name}=${shellQuote(env[name]!)}`),
    `exec ${[...command, ...outputs.map((output) => `--output=${output}`)].map(shellQuote).join(' ')} "$@"`,
    '',
  ].join('\n');
}

function uninstall({ descriptor, program }: Places, session: boolean): void {
  const removed = [descriptor, program].filter((path) => remove(path, session));
  print(removed.map((path) => `removed ${path}`).join('\n') || 'nothing was installed');
}

function write(path: string, text: string, mode: number, session: boolean): void {
  attempt('write', path, session, () => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    chmodSync(path, mode);
  });
}

/** False if there is none. */
function remove(path: string, session: boolean): boolean {
  return attempt('remove', path, session, () => {
    try {
      rmSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
    const directory = dirname(path);
    if (directory.endsWith('/scanout-bridge') && readdirSync(directory).length === 0) rmdirSync(directory);
    return true;
  });
}

function attempt<T>(what: string, path: string, session: boolean, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    const { code = 'EIO', message } = cause as NodeJS.ErrnoException;
    const why =
      code === 'EACCES' || code === 'EROFS'
        ? `no permission${session ? '' : ': run this as root, or add --session for the libvirt of this user'}`
        : message;
    throw new LibvirtError(code, `cannot ${what} ${path}: ${why}`, { cause });
  }
}

/** For `scanout doctor`: whether libvirt is there, and for whom it shows guests with this program. */
export function checkLibvirt(env: NodeJS.ProcessEnv = process.env, sbin: readonly string[] = SBIN): Check {
  const name = 'libvirt';
  const todo = 'needed only to show the guests of libvirt';
  if (!hasLibvirt(env, sbin)) return { name, ok: false, detail: 'not installed', todo };
  const installed = [sessionPlaces(env), SYSTEM_PLACES].filter(({ descriptor }) => existsSync(descriptor));
  if (installed.length === 0)
    return { name, ok: false, detail: 'starts no program of scanout', todo: `run scanout libvirt install: ${todo}` };
  const gone = installed.find(({ program }) => !isExecutable(program));
  if (gone)
    return { name, ok: false, detail: `${gone.program} is not there`, todo: 'run scanout libvirt install again' };
  return { name, ok: true, detail: `starts ${installed.map(({ program }) => program).join(' and ')}` };
}

function hasLibvirt(env: NodeJS.ProcessEnv = process.env, sbin: readonly string[] = SBIN): boolean {
  const directories = [...(env['PATH'] ?? '').split(delimiter), ...sbin].filter(isAbsolute);
  return directories.some((directory) => DAEMONS.some((daemon) => isExecutable(join(directory, daemon))));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
