#!/usr/bin/env node
import type { CommanderError } from 'commander';
import type { UsageError } from '../core/errors.ts';
import { createProgram } from './program.ts';
import { printError } from './terminal.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Prints an error and returns the exit code: 2 for an invalid command line, 1 for any other failure. */
function fail(error: unknown): number {
  if (isOfCommander(error)) {
    const isAnswer =
      error.code === 'commander.helpDisplayed' ||
      error.code === 'commander.version' ||
      (error.code === 'commander.help' && error.exitCode === 0);
    return isAnswer ? 0 : EXIT_USAGE;
  }
  const isForeseen =
    error instanceof Error && 'code' in error && !(error instanceof TypeError || error instanceof RangeError);
  printError(
    `scanout: ${isForeseen ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
  return isForeseen && error.code === ('usage' satisfies UsageError['code']) ? EXIT_USAGE : EXIT_FAILED;
}

/** By its code, because most commands are built with a commander of their own. */
function isOfCommander(error: unknown): error is CommanderError {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('commander.');
}

// Node would open a debugger's port, through which every user of this machine could run code as this one.
process.on('SIGUSR1', () => undefined);
// The reader of the log may go; that is no reason to stop.
process.stderr.on('error', () => undefined);
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') process.exitCode = fail(error);
});

try {
  const args = process.argv.slice(2);
  const program = await createProgram(args[0] === 'help' ? args.slice(1, 2) : args.slice(0, 1));
  await program.parseAsync(args, { from: 'user' });
} catch (error) {
  process.exitCode = fail(error);
}
