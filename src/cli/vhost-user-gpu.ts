import { type Command } from 'commander';
import { UsageError } from '../core/errors.ts';
import { runSession, sessionCommand } from './run.ts';
import { print } from './terminal.ts';

interface Options extends Omit<Parameters<typeof runSession>[0], 'guest'> {
  readonly fd?: string;
  readonly socketPath?: string;
  readonly printCapabilities?: true;
}

/**
 * The conventions for back-end programs, QEMU's docs/interop/vhost-user.rst: one front end, at whose end the program
 * ends, and SIGTERM. There are no features: `virgl` and `render-node` are for programs that draw for the guest.
 */
export function command(): Command {
  return sessionCommand('vhost-user-gpu')
    .option('--fd <number>', 'an inherited descriptor that the VMM is connected to')
    .option('--socket-path <path>', 'the socket to listen on')
    .option('--print-capabilities', 'print what this program can do as JSON, and exit')
    .addHelpText(
      'after',
      '\nFor libvirt, which starts it for each domain: see `scanout libvirt --help`. It ends when the VMM disconnects.\n\nExample:\n  $ scanout vhost-user-gpu --print-capabilities',
    )
    .action(async ({ fd, socketPath, printCapabilities, ...options }: Options) => {
      if (printCapabilities) {
        print(JSON.stringify({ type: 'gpu', features: [] }));
        return;
      }
      if ((fd === undefined) === (socketPath === undefined))
        throw new UsageError('give either --fd or --socket-path: where the VMM connects');
      const guest = `vhost-user:${fd === undefined ? socketPath! : `fd=${fd}`}`;
      await runSession({ ...options, guest }, undefined, 'guest');
    });
}
