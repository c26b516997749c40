/**
 * Writes the manual page of `scanout`, made from the help of its commands: `npm run generate:man`, which runs before
 * the package is packed. Not a part of the package itself.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { packageFile } from '../sys/package-file.ts';
import { createProgram } from './program.ts';

const STATUS: readonly (readonly [code: string, meaning: string])[] = [
  ['0', 'Success. For scanout compare: the pictures match.'],
  ['1', 'Failure. For scanout compare: the pictures differ.'],
  ['2', 'Invalid command line. For scanout compare: also a picture that cannot be read or written.'],
];

const ENVIRONMENT: readonly (readonly [name: string, meaning: string])[] = [
  ['SCANOUT_RESULTS', 'The folder of the screenshots that a test run compared (default: test-results/scanout).'],
  ['WAYLAND_DISPLAY', 'The compositor for --output wayland.'],
  [
    'XDG_RUNTIME_DIR',
    'The directory of the default control socket, scanout-bridge.sock; without it, /tmp/scanout-bridge-UID/control.sock.',
  ],
];

/** The manual page in the man macros of roff, man(7). It does not depend on the machine or environment that makes it. */
export async function manPage(): Promise<string> {
  const { XDG_RUNTIME_DIR, SCANOUT_RESULTS } = process.env;
  // Defaults in the help that come from the environment name the variable instead.
  process.env['XDG_RUNTIME_DIR'] = '$XDG_RUNTIME_DIR';
  delete process.env['SCANOUT_RESULTS'];
  try {
    return render(await createProgram());
  } finally {
    restore('XDG_RUNTIME_DIR', XDG_RUNTIME_DIR);
    restore('SCANOUT_RESULTS', SCANOUT_RESULTS);
  }
}

function restore(name: string, value: string | undefined): void {
  if (value === undefined) Reflect.deleteProperty(process.env, name);
  else process.env[name] = value;
}

function render(program: Command): string {
  const { commands } = program;
  return [
    `.TH SCANOUT 1 "" ${argument(`scanout-bridge ${program.version()!}`)} "User Commands"`,
    '.SH NAME',
    `scanout \\- ${escape("show a virtual machine's screen without copying it")}`,
    '.SH SYNOPSIS',
    '.B scanout',
    '.I command',
    '.RI [ options ]',
    '.SH DESCRIPTION',
    line(
      'scanout is the GPU of a virtual machine. It turns the memory that holds the picture of the guest into a buffer that a screen can show, and copies only what a screen cannot show directly.',
    ),
    '.SH COMMANDS',
    ...commands.map(commandSection),
    '.SH EXIT STATUS',
    ...STATUS.map(([code, meaning]) => item(code, meaning)),
    '.SH ENVIRONMENT',
    ...ENVIRONMENT.map(([name, meaning]) => item(name, meaning)),
    '.SH SEE ALSO',
    '.BR qemu-system-x86_64 (1)',
    '',
  ].join('\n');
}

function commandSection(command: Command): string {
  const help = command.createHelp();
  const { parts, after } = sections(command);
  return [
    `.SS ${argument(parts)}`,
    line(command.description()),
    ...help.visibleArguments(command).map((each) => item(help.argumentTerm(each), help.argumentDescription(each))),
    ...help.visibleOptions(command).map((option) => item(help.optionTerm(option), help.optionDescription(option))),
    ...(after === '' ? [] : ['.PP', '.nf', escape(after), '.fi']),
  ].join('\n');
}

/** The usage of a command, and the text that its help has after the options. */
function sections(command: Command): { parts: string; after: string } {
  let whole = '';
  command.configureOutput({ writeOut: (text) => (whole += text) });
  command.outputHelp();
  const parts = command.createHelp().commandUsage(command);
  const after = whole.slice(command.helpInformation().length).trim();
  // The example of compare names files of the package.
  return { parts, after: after.replaceAll(packageFile(''), '') };
}

/** A tagged paragraph. */
function item(term: string, text: string): string {
  return `.TP\n.B ${argument(term)}\n${line(text)}`;
}

function line(text: string): string {
  return escape(text.replace(/\s+/g, ' ').trim());
}

/** One argument of a macro. */
function argument(text: string): string {
  return `"${escape(text).replaceAll('"', '\\(dq')}"`;
}

/** Text that roff prints as it is: no escape sequences, hyphens as typed, and no line that begins with a control character. */
function escape(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('`', '\\(ga')
    .replaceAll("'", '\\(aq')
    .replace(/^\./gm, '\\&.');
}

if (process.argv[1] === import.meta.filename) {
  const path = process.argv[2]!;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, await manPage());
}
