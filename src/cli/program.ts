import { Command } from 'commander';
import { packageVersion } from '../sys/package-file.ts';
import { print, printError } from './terminal.ts';

/** `command` is called with a function that returns the whole program, for a command that describes the others. */
interface CommandModule {
  command(wholeProgram: () => Promise<Command>): Command;
}

const COMMANDS: Readonly<Record<string, { summary: string; load: () => Promise<CommandModule> }>> = {
  run: { summary: "act as a guest's GPU and show its screen", load: () => import('./run.ts') },
  view: { summary: 'run a disk image in QEMU and show its screen', load: () => import('./view.ts') },
  replay: { summary: 'play a recorded guest session', load: () => import('./replay.ts') },
  record: { summary: "act as a guest's GPU and record its session to a file", load: () => import('./record.ts') },
  screenshot: { summary: 'save the picture of a running bridge as a PNG', load: () => import('./screenshot.ts') },
  type: { summary: 'type text in the guest of a running bridge', load: () => operate('type') },
  press: { summary: 'press keys in the guest of a running bridge', load: () => operate('press') },
  click: { summary: 'click in the guest of a running bridge', load: () => operate('click') },
  move: { summary: 'move the pointer in the guest of a running bridge', load: () => operate('move') },
  drag: { summary: 'drag with the mouse in the guest of a running bridge', load: () => operate('drag') },
  scroll: { summary: 'turn the mouse wheel in the guest of a running bridge', load: () => operate('scroll') },
  touch: { summary: 'touch the screen of the guest of a running bridge', load: () => operate('touch') },
  wait: {
    summary: 'wait until the screen of a running bridge stands still, changes or matches',
    load: () => import('./wait.ts'),
  },
  watch: { summary: 'print what comes on the screen of a running bridge', load: () => import('./watch.ts') },
  mcp: { summary: 'let a program operate the guest of a running bridge, by MCP', load: () => import('./mcp.ts') },
  grab: { summary: 'write the exported screen of a running bridge to a pipe', load: () => import('./grab.ts') },
  compare: { summary: 'compare two pictures and describe the difference', load: () => import('./compare.ts') },
  report: {
    summary: 'write an HTML report of the screenshots that a test run compared',
    load: () => import('./report.ts'),
  },
  stats: { summary: 'show statistics of a running bridge', load: () => import('./stats.ts') },
  doctor: {
    summary: 'check this machine and show which display path frames will use',
    load: () => import('./doctor.ts'),
  },
  'qemu-args': {
    summary: 'print the QEMU flags that connect a guest to a bridge',
    load: () => import('./qemu-args.ts'),
  },
  libvirt: { summary: "show libvirt's guests here, or no longer", load: () => import('./libvirt.ts') },
  'vhost-user-gpu': {
    summary: 'be the back-end program of a libvirt domain',
    load: () => import('./vhost-user-gpu.ts'),
  },
  completions: {
    summary: 'print a script that completes this command in a shell',
    load: () => import('./completions.ts'),
  },
};

type Operation = 'type' | 'press' | 'click' | 'move' | 'drag' | 'scroll' | 'touch';

async function operate(name: Operation): Promise<CommandModule> {
  return { command: (await import('./operate.ts'))[name] };
}

/**
 * The `scanout` program. A command needs its module to run or to print its help; the modules of those that are not
 * `wanted` are not loaded, and their commands have a summary only.
 */
export async function createProgram(wanted: readonly string[] = Object.keys(COMMANDS)): Promise<Command> {
  const program = new Command('scanout')
    .description("Shows a virtual machine's screen without copying it.")
    .version(packageVersion())
    .exitOverride()
    .configureOutput({
      writeOut: (text) => print(text.replace(/\n$/, '')),
      writeErr: (text) => printError(text.replace(/\n$/, '')),
    })
    .showHelpAfterError('(run with --help for the options and an example)')
    .addHelpText(
      'after',
      '\nExamples:\n  $ scanout replay\n  $ scanout run --guest vhost-user:/tmp/gpu.sock --output headless:1280x800',
    );
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command = wanted.includes(name) ? (await load()).command(createProgram) : new Command(name);
    program.addCommand(
      command
        .summary(summary)
        .description(`${summary[0]!.toUpperCase()}${summary.slice(1)}.`)
        .copyInheritedSettings(program),
    );
  }
  return program;
}
