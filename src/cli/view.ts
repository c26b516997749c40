import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { extname } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { UsageError } from '../core/errors.ts';
import type { LogLevel } from '../core/log.ts';
import { qemuSize, qemuValue, shellQuote } from '../qemu/flags.ts';
import { optionArgs, patienceOption, runWithQemu, sessionCommand } from './run.ts';
import { DEFAULT_INPUT, parseByteSize } from './specs.ts';
import { printError } from './terminal.ts';

const MAX_CPUS = 255;
const DEFAULT_CPUS = Math.min(4, availableParallelism());
const MIB = 2 ** 20;

const FORMATS = ['qcow2', 'raw', 'iso', 'vmdk', 'vdi', 'vhdx'] as const;
type Format = (typeof FORMATS)[number];

/** By the end of its name. A name that ends in .img can be anything. */
const EXTENSIONS: Readonly<Record<string, Format>> = {
  '.qcow2': 'qcow2',
  '.raw': 'raw',
  '.iso': 'iso',
  '.vmdk': 'vmdk',
  '.vdi': 'vdi',
  '.vhdx': 'vhdx',
};

const ACCELERATORS = ['kvm', 'tcg'] as const;

interface Options {
  readonly accel?: (typeof ACCELERATORS)[number];
  readonly memory: string;
  readonly cpus: number;
  readonly format?: Format;
  readonly output?: readonly string[];
  readonly input?: readonly string[];
  readonly clipboard?: string;
  readonly allowUnsealedMemory?: true;
  readonly patience: number;
  readonly logLevel: LogLevel;
}

export function command(): Command {
  return sessionCommand('view')
    .argument('<disk>', 'a disk image, which the guest writes to, or an installation medium (.iso)')
    .option('--memory <size>', "the guest's memory", '2G')
    .option('--cpus <number>', `how many processors the guest has (default: up to 4)`, parseCpus)
    .addOption(
      new Option('--format <format>', 'what the disk image is (default: by the end of its name)').choices(FORMATS),
    )
    .addOption(
      new Option(
        '--accel <accelerator>',
        'how QEMU runs the guest: kvm, or tcg, which is slow and works everywhere (default: kvm if there is one)',
      ).choices(ACCELERATORS),
    )
    .addOption(patienceOption())
    .addHelpText(
      'after',
      '\nRuns QEMU with this GPU, a keyboard and a pointer, and says with which command: `scanout run -- qemu-system-...` takes any\nother one. The default output is a window.\n\nExample:\n  $ scanout view disk.qcow2',
    )
    .action(async (disk: string, options: Options, self: Command) => {
      const qemu = viewCommand(disk, options);
      const { output = defaultOutput(), input = [DEFAULT_INPUT] } = options;
      const clipboard = options.clipboard === undefined ? '' : ' --clipboard';
      printError(`scanout run --input${clipboard} -- ${qemu.map(shellQuote).join(' ')}`);
      await runWithQemu(qemu, { ...options, input, output }, [
        ...optionArgs(self, ['memory', 'cpus', 'format', 'accel', 'patience', 'input', 'output', 'clipboard']),
        ...output.map((spec) => `--output=${spec}`),
      ]);
    });
}

function parseCpus(text: string): number {
  const cpus = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (cpus < 1 || cpus > MAX_CPUS) throw new InvalidArgumentError(`write a whole number from 1 to ${MAX_CPUS}.`);
  return cpus;
}

/** A desktop or another kiosk may use the monitors: they are taken only when that is asked for. */
function defaultOutput(env: NodeJS.ProcessEnv = process.env): string[] {
  if (env['WAYLAND_DISPLAY'] || env['WAYLAND_SOCKET']) return ['wayland'];
  throw new UsageError(
    'no Wayland compositor to open a window on (WAYLAND_DISPLAY is not set): start this on a desktop, or choose --output kms for the monitors of this machine, or --output headless:1280x800 for screenshots',
  );
}

/** QEMU's command line for a disk image. Throws UsageError. */
export function viewCommand(
  disk: string,
  { memory, cpus = DEFAULT_CPUS, format, accel }: Partial<Options> & { memory: string },
): string[] {
  const bytes = parseByteSize(memory, '--memory');
  if (bytes % MIB !== 0)
    throw new UsageError("--memory: give the guest's memory in whole megabytes, such as 512M or 2G");
  const kind = format ?? formatOf(disk);
  const drive = kind === 'iso' ? 'media=cdrom,readonly=on,format=raw' : `if=virtio,format=${kind}`;
  return [
    'qemu-system-x86_64',
    // The first accelerator that works; `max` is all that this processor, or the emulator, can do.
    ...['-machine', `q35,accel=${accel ?? 'kvm:tcg'}`, '-cpu', 'max', '-smp', `${cpus}`, '-m', qemuSize(bytes / MIB)],
    ...['-drive', `${drive},file=${qemuValue(disk)}`],
  ];
}

/**
 * A raw image is not recognized by its content: its guest could write the beginning of another format, which names files
 * of the host. Throws UsageError.
 */
function formatOf(disk: string): Format {
  const start = readStart(disk);
  const named = EXTENSIONS[extname(disk).toLowerCase()];
  if (named !== undefined) return named;
  const guess = start.toString('latin1', 0, 4) === 'QFI\xfb' ? 'qcow2' : 'raw';
  throw new UsageError(
    `${disk}: its name does not end in ${Object.keys(EXTENSIONS).join(', ')}: say what it is with --format, perhaps --format ${guess}`,
  );
}

function readStart(path: string): Buffer {
  try {
    if (statSync(path).isDirectory()) throw new UsageError(`${path}: is a directory, not a disk image`);
    const start = Buffer.alloc(4);
    const fd = openSync(path, 'r');
    try {
      readSync(fd, start);
    } finally {
      closeSync(fd);
    }
    return start;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'no permission to read it' : message;
    throw new UsageError(`${path}: ${why}`);
  }
}
