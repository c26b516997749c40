import { Command } from 'commander';
import { parseByteSize } from './specs.ts';
import { qemuFlags, shellLines } from '../qemu/flags.ts';

interface Options {
  socket: string;
  input?: string[];
  memory: string;
  generic?: true;
  json?: true;
}

export function command(): Command {
  return new Command('qemu-args')
    .requiredOption('--socket <path>', 'the socket that `scanout run --guest vhost-user:PATH` listens on')
    .option('--memory <size>', "the guest's memory, such as 512M or 2G", '2G')
    .option(
      '--input <path>',
      'a socket that `scanout run --input vhost-user:PATH` listens on; may be repeated',
      (path: string, before?: string[]) => [...(before ?? []), path],
    )
    .option(
      '--generic',
      'use the generic device of QEMU 11.1 or newer, which supports blob resources but has no QEMU console',
    )
    .option('--json', 'print a JSON array of arguments instead of shell lines')
    .addHelpText('after', '\nExample:\n  $ scanout qemu-args --socket /tmp/gpu.sock --memory 2G')
    .action((options: Options) => {
      const flags = qemuFlags({
        socket: options.socket,
        inputs: options.input ?? [],
        memoryBytes: parseByteSize(options.memory, '--memory'),
        generic: options.generic ?? false,
      });
      console.log(options.json ? JSON.stringify(flags.flat()) : shellLines(flags));
    });
}
