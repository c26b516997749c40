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
    .requiredOption('--socket <path>', 'the socket `scanout run --guest vhost-user:PATH` listens on')
    .option('--memory <size>', "the guest's memory", '2G')
    .option('--input <path>', 'a socket that one `--input vhost-user:PATH` of `scanout run` listens on; may be repeated', (path: string, before?: string[]) => [...(before ?? []), path])
    .option('--generic', 'for QEMU 11.1 or newer: the device that lets blob resources through (no QEMU console)')
    .option('--json', 'an array of arguments instead of shell lines')
    .addHelpText('after', '\nExample:\n  $ scanout qemu-args --socket /tmp/gpu.sock --memory 2G')
    .action((options: Options) => {
      const flags = qemuFlags({ socket: options.socket, inputs: options.input ?? [], memoryBytes: parseByteSize(options.memory, '--memory'), generic: options.generic ?? false });
      console.log(options.json ? JSON.stringify(flags.flat()) : shellLines(flags));
    });
}
