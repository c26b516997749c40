import { Command } from 'commander';
import { UsageError } from '../core/errors.ts';
import { parseByteSize } from './specs.ts';
import { dbusFlags, qemuFlags, shellLines } from '../qemu/flags.ts';
import { print } from './terminal.ts';

interface Options {
  socket?: string;
  dbus?: string;
  input?: string[];
  clipboard?: string;
  memory: string;
  generic?: true;
  json?: true;
}

export function command(): Command {
  return new Command('qemu-args')
    .option('--socket <path>', 'the socket that `scanout run --guest vhost-user:PATH` listens on')
    .option(
      '--dbus <path>',
      'instead: the QMP socket to make for `scanout run --guest qemu-dbus:qmp=PATH`, for any machine',
    )
    .option('--memory <size>', "the guest's memory, such as 512M or 2G", '2G')
    .option(
      '--input <path>',
      'a socket that `scanout run --input vhost-user:PATH` listens on; may be repeated',
      (path: string, before?: string[]) => [...(before ?? []), path],
    )
    .option('--clipboard <path>', 'the socket that `scanout run --clipboard vdagent:PATH` listens on')
    .option(
      '--generic',
      'use the generic device of QEMU 11.1 or newer, which supports blob resources but has no QEMU console',
    )
    .option('--json', 'print a JSON array of arguments instead of shell lines')
    .addHelpText('after', '\nExample:\n  $ scanout qemu-args --socket /tmp/gpu.sock --memory 2G')
    .action((options: Options) => {
      const flags = flagsFor(options);
      print(options.json ? JSON.stringify(flags.flat()) : shellLines(flags));
    });
}

/** Throws UsageError. */
function flagsFor({ socket, dbus, input = [], clipboard, memory, generic }: Options): [flag: string, value: string][] {
  if (dbus !== undefined) {
    if (socket !== undefined || input.length > 0 || clipboard !== undefined || generic)
      throw new UsageError(
        '--dbus: shows any machine as it is; leave --socket, --input, --clipboard and --generic out',
      );
    return dbusFlags(dbus);
  }
  if (socket === undefined) throw new UsageError('qemu-args: give --socket, or --dbus for a D-Bus display');
  return qemuFlags({
    socket,
    inputs: input,
    ...(clipboard !== undefined && { clipboard }),
    memoryBytes: parseByteSize(memory, '--memory'),
    generic: generic === true,
  });
}
