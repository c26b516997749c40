import type { Command } from 'commander';
import { runSession, sessionCommand } from './session-command.ts';

export function command(): Command {
  return sessionCommand('run')
    .option('--record <file>', "record the guest's session while it runs")
    .addHelpText('after', '\nExample:\n  $ scanout run --guest vhost-user:/tmp/gpu.sock --output headless:1280x800@60 --when-off last')
    .action(async (options: Parameters<typeof runSession>[0] & { record?: string }) => runSession(options, options.record));
}
