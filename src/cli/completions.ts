import { Argument, Command, type Option } from 'commander';
import { print } from './terminal.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

export function command(wholeProgram: () => Promise<Command>): Command {
  return new Command('completions')
    .addArgument(new Argument('<shell>', 'the shell to complete in').choices(SHELLS))
    .addHelpText(
      'after',
      `
Load the script in the startup file of the shell:
  bash, in ~/.bashrc:                  source <(scanout completions bash)
  zsh, in ~/.zshrc after compinit:     source <(scanout completions zsh)
  fish, in ~/.config/fish/config.fish: scanout completions fish | source

Example:
  $ scanout completions bash`,
    )
    .action(async (shell: Shell) => print(completionScript(shell, await wholeProgram())));
}

/** The script that completes the commands of a program, their options and the choices of both, and else file names. */
export function completionScript(shell: Shell, program: Command): string {
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](program);
}

interface Completed {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly Option[];
  /** The choices of its arguments; none if those are file names. */
  readonly choices: readonly string[];
}

function completed(program: Command): Completed[] {
  const help = program.createHelp();
  return program.commands.map((command) => ({
    name: command.name(),
    summary: command.summary(),
    options: help.visibleOptions(command),
    choices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  }));
}

function flagsOf({ short, long }: Option): string[] {
  return [short, long].filter((flag) => flag !== undefined);
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

/** Bash completes file names where the function gives no candidates (`-o default`). */
function bashScript(program: Command): string {
  const commands = completed(program);
  const names = commands.map(({ name }) => name);
  const candidates = (words: readonly string[]): string =>
    `mapfile -t COMPREPLY < <(compgen -W ${quote(words.join(' '))} -- "$current")`;
  const values = ({ options }: Completed): string[] =>
    options
      .filter(takesValue)
      .map(
        (option) =>
          `        ${flagsOf(option).join('|')}) ${option.argChoices ? candidates(option.argChoices) : ':'} ;;`,
      );
  const cases = commands.map((command) =>
    [
      `    ${command.name})`,
      '      case $previous in',
      ...values(command),
      '        *)',
      `          if [[ $current == -* ]]; then ${candidates(command.options.flatMap(flagsOf))}`,
      `          else ${command.choices.length > 0 ? candidates(command.choices) : ':'}; fi ;;`,
      '      esac ;;',
    ].join('\n'),
  );
  return `# bash completion for scanout, made by \`scanout completions bash\`
_scanout() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command=
  COMPREPLY=()
  if ((COMP_CWORD > 1)); then command=\${COMP_WORDS[1]}; fi
  case $command in
    ''|help) ${candidates([...names, 'help', ...program.createHelp().visibleOptions(program).flatMap(flagsOf)])} ;;
${cases.join('\n')}
  esac
}
complete -o default -F _scanout scanout`;
}

function zshScript(program: Command): string {
  const commands = completed(program);
  const text = (words: string): string => words.replace(/[[\]:\\]/g, '\\$&');
  const value = (option: Option): string =>
    takesValue(option)
      ? `:${text(option.attributeName())}:${option.argChoices ? `(${option.argChoices.join(' ')})` : '_files'}`
      : '';
  const specs = (option: Option): string[] =>
    flagsOf(option).map((flag) => quote(`*${flag}[${text(option.description)}]${value(option)}`));
  const cases = commands.map(
    ({ name, options, choices }) =>
      `    ${name}) _arguments -S ${options.flatMap(specs).join(' ')} ${quote(choices.length > 0 ? `*:argument:(${choices.join(' ')})` : '*:file:_files')} ;;`,
  );
  return `#compdef scanout
# zsh completion for scanout, made by \`scanout completions zsh\`
_scanout() {
  local -a commands=(${[...commands.map(({ name, summary }) => quote(`${name}:${text(summary)}`)), quote('help:display help for a command')].join(' ')})
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
    help) _describe command commands ;;
${cases.join('\n')}
  esac
}
if [[ $funcstack[1] == _scanout ]]; then _scanout "$@"; else compdef _scanout scanout; fi`;
}

function fishScript(program: Command): string {
  const commands = completed(program);
  const line = (condition: string, rest: string): string => `complete -c scanout -n ${quote(condition)} ${rest}`;
  const value = (option: Option): string =>
    option.argChoices ? ` -x -a ${quote(option.argChoices.join(' '))}` : takesValue(option) ? ' -r' : '';
  const flags = ({ short, long }: Option): string =>
    [short && `-s ${short.slice(1)}`, long && `-l ${long.slice(2)}`].filter(Boolean).join(' ');
  return [
    '# fish completion for scanout, made by `scanout completions fish`',
    ...commands.map(({ name, summary }) => line('__fish_use_subcommand', `-f -a ${name} -d ${quote(summary)}`)),
    line('__fish_use_subcommand', `-f -a help -d ${quote('display help for a command')}`),
    line('__fish_seen_subcommand_from help', `-f -a ${quote(commands.map(({ name }) => name).join(' '))}`),
    ...commands.flatMap(({ name, options, choices }) => {
      const condition = `__fish_seen_subcommand_from ${name}; and not __fish_seen_subcommand_from help`;
      return [
        ...options.map((option) => line(condition, `${flags(option)}${value(option)} -d ${quote(option.description)}`)),
        ...(choices.length > 0 ? [line(condition, `-f -a ${quote(choices.join(' '))}`)] : []),
      ];
    }),
  ].join('\n');
}

/** As one word of any of the shells. Fish also reads backslashes in single quotes as escapes; no text here has one before a quote. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
