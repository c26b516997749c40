#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { UsageError } from '../core/errors.ts';
import { packageFile } from './package-file.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** What each command does; its module, with all it needs, is loaded only when it is asked for. */
const commands: Readonly<Record<string, { summary: string; load: () => Promise<{ command: () => Command }> }>> = {
  run: { summary: "be a guest's GPU and show its screen", load: () => import('./run.ts') },
  replay: { summary: 'play a recorded guest session', load: () => import('./replay.ts') },
  record: { summary: "record a guest's session into a file", load: () => import('./record.ts') },
  screenshot: { summary: "save a running bridge's picture as PNG", load: () => import('./screenshot.ts') },
  compare: { summary: 'compare two pictures and say what differs', load: () => import('./compare.ts') },
  report: { summary: 'make one HTML file of the screenshots a test run compared', load: () => import('./report.ts') },
  stats: { summary: 'tell what a running bridge does', load: () => import('./stats.ts') },
  doctor: { summary: 'tell what this machine offers, and which way frames will take', load: () => import('./doctor.ts') },
  'qemu-args': { summary: 'print the QEMU flags for a socket', load: () => import('./qemu-args.ts') },
};

async function main(args: readonly string[]): Promise<void> {
  const program = new Command('scanout')
    .description("Shows a virtual machine's screen without copying it.")
    .version(version())
    .exitOverride()
    .showHelpAfterError('(--help shows the options and an example)')
    .addHelpText('after', '\nExample:\n  $ scanout replay\n  $ scanout run --guest vhost-user:/tmp/gpu.sock --output headless:1280x800');
  const wanted = args[0] === 'help' ? args[1] : args[0];
  for (const [name, { summary, load }] of Object.entries(commands)) {
    const command = name === wanted ? (await load()).command() : new Command(name);
    program.addCommand(command.summary(summary).description(`${summary[0]!.toUpperCase()}${summary.slice(1)}.`).copyInheritedSettings(program));
  }
  await program.parseAsync(args, { from: 'user' });
}

function version(): string {
  return (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
}

/** Reports and returns the exit code: 2 for a command line that cannot be used, 1 for what failed. */
function fail(error: unknown): number {
  if (error instanceof CommanderError) {
    const isAnswer = error.code === 'commander.helpDisplayed' || error.code === 'commander.version' || (error.code === 'commander.help' && error.exitCode === 0);
    return isAnswer ? 0 : EXIT_USAGE;
  }
  const isForeseen = error instanceof Error && 'code' in error && !(error instanceof TypeError || error instanceof RangeError);
  console.error(`scanout: ${isForeseen ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = fail(error);
}
