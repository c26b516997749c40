import type { Command } from 'commander';
import { GUEST_HELP, runSession, sessionCommand } from './run.ts';

export function command(): Command {
  return sessionCommand('record')
    .requiredOption('--guest <spec>', GUEST_HELP)
    .argument('<file>', 'the file to write; it is complete when the command exits (Ctrl-C)')
    .addHelpText('after', '\nExample:\n  $ scanout record --guest vhost-user:/tmp/gpu.sock /tmp/session.scanout')
    .action(async (file: string, options: Parameters<typeof runSession>[0]) => runSession(options, file));
}
