#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { UsageError } from '../core/errors.ts';
import { packageFile } from './package-file.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** The commands. The module of a command is loaded only when that command, or its help, is asked for. */
const commands: Readonly<Record<string, { summary: string; load: () => Promise<{ command: () => Command }> }>> = {
  run: { summary: "act as a guest's GPU and show its screen", load: () => import('./run.ts') },
  replay: { summary: 'play a recorded guest session', load: () => import('./replay.ts') },
  record: { summary: "act as a guest's GPU and record its session to a file", load: () => import('./record.ts') },
  screenshot: { summary: 'save the picture of a running bridge as a PNG', load: () => import('./screenshot.ts') },
  compare: { summary: 'compare two pictures and describe the difference', load: () => import('./compare.ts') },
  report: { summary: 'write an HTML report of the screenshots that a test run compared', load: () => import('./report.ts') },
  stats: { summary: 'show statistics of a running bridge', load: () => import('./stats.ts') },
  doctor: { summary: 'check this machine and show which display path frames will use', load: () => import('./doctor.ts') },
  'qemu-args': { summary: 'print the QEMU flags that connect a guest to a bridge', load: () => import('./qemu-args.ts') },
};

async function main(args: readonly string[]): Promise<void> {
  const program = new Command('scanout')
    .description("Shows a virtual machine's screen without copying it.")
    .version(version())
    .exitOverride()
    .showHelpAfterError('(run with --help for the options and an example)')
    .addHelpText('after', '\nExamples:\n  $ scanout replay\n  $ scanout run --guest vhost-user:/tmp/gpu.sock --output headless:1280x800');
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

/** Prints an error and returns the exit code: 2 for an invalid command line, 1 for any other failure. */
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
