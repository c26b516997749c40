/** The commands that operate the guest of a running bridge, as a person would by its keyboard, mouse and touchscreen. */
import { text as readText } from 'node:stream/consumers';
import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { ControlClient } from '../control/client.ts';
import type { MouseButton, Point } from '../control/operator.ts';
import { UsageError } from '../core/errors.ts';
import { controlOption, parsePoint, parsePosition, scanoutOption } from './control-options.ts';

const NEEDS =
  '\nThe bridge is a running `scanout run` with input devices (--input), or one of a D-Bus display, which has them. The command ends when the guest has taken the input, after what others asked for before.\n';

interface Options {
  control: string;
  scanout: number;
}

interface ButtonOptions extends Options {
  button: MouseButton;
}

export function type(): Command {
  return new Command('type')
    .argument('<text>', 'ASCII text, typed on a US keyboard; - types what is on standard input, with its line breaks')
    .addOption(controlOption())
    .addHelpText('after', `${NEEDS}\nExample:\n  $ scanout type 'ls -l' && scanout press enter`)
    .action(async (text: string, { control }: Options) => {
      await new ControlClient(control).type(text === '-' ? await readText(process.stdin) : text);
    });
}

export function press(): Command {
  return new Command('press')
    .argument('<keys...>', 'keys to press together, then the next: enter, ctrl+alt+F2, ?')
    .addOption(controlOption())
    .addHelpText('after', `${NEEDS}\nExample:\n  $ scanout press ctrl+c up enter`)
    .action(async (keys: readonly string[], { control }: Options) => {
      const bridge = new ControlClient(control);
      for (const chord of keys) await bridge.press(chord);
    });
}

export function move(): Command {
  return placed('move')
    .addHelpText('after', `${NEEDS}\nExample:\n  $ scanout move 640 400`)
    .action(async (x: number, y: number, { control, scanout }: Options) => {
      await new ControlClient(control).move(x, y, { scanout });
    });
}

export function click(): Command {
  return placed('click')
    .addOption(buttonOption())
    .option('--double', 'click twice')
    .addHelpText('after', `${NEEDS}\nExample:\n  $ scanout click 640 400 --button right`)
    .action(async (x: number, y: number, options: ButtonOptions & { double?: true }) => {
      const { control, scanout, button, double = false } = options;
      await new ControlClient(control).click(x, y, { scanout, button, double });
    });
}

export function drag(): Command {
  return placed('drag')
    .argument('<to-x>', 'where the button is released', parsePosition)
    .argument('<to-y>', 'the same, from the top', parsePosition)
    .addOption(buttonOption())
    .addHelpText('after', `${NEEDS}\nExample:\n  $ scanout drag 100 100 300 200`)
    .action(async (x: number, y: number, toX: number, toY: number, { control, scanout, button }: ButtonOptions) => {
      await new ControlClient(control).drag({ x, y }, { x: toX, y: toY }, { scanout, button });
    });
}

const DIRECTIONS = ['down', 'up', 'right', 'left'] as const;
type Direction = (typeof DIRECTIONS)[number];

export function scroll(): Command {
  return new Command('scroll')
    .addArgument(new Argument('<direction>', 'where to').choices(DIRECTIONS))
    .argument('[notches]', 'how far the wheel is turned, 1 to 100', parseNotches, 1)
    .option('--at <X,Y>', 'move the pointer there first', parsePoint)
    .addOption(controlOption())
    .addOption(scanoutOption())
    .addHelpText('after', `${NEEDS}\nExample:\n  $ scanout scroll down 3 --at 640,400`)
    .action(async (direction: Direction, notches: number, options: Options & { at?: Point }) => {
      const { control, scanout, at } = options;
      const turned = direction === 'up' || direction === 'left' ? -notches : notches;
      const way = direction === 'down' || direction === 'up' ? { down: turned } : { right: turned };
      await new ControlClient(control).scroll({ ...way, scanout, ...(at && { at }) });
    });
}

export function touch(): Command {
  return placed('touch')
    .argument('[to-x]', 'where the finger moves before it is lifted', parsePosition)
    .argument('[to-y]', 'the same, from the top', parsePosition)
    .addHelpText('after', `${NEEDS}\nExample:\n  $ scanout touch 640 700 640 100`)
    .action(
      async (x: number, y: number, toX: number | undefined, toY: number | undefined, { control, scanout }: Options) => {
        if (toX !== undefined && toY === undefined)
          throw new UsageError('touch: give both numbers of where the finger moves, or none');
        const to = toX === undefined ? undefined : { x: toX, y: toY! };
        await new ControlClient(control).touch({ x, y }, { scanout, ...(to && { to }) });
      },
    );
}

function placed(name: string): Command {
  return new Command(name)
    .argument('<x>', "in pixels of the guest's picture, from the left", parsePosition)
    .argument('<y>', 'from the top', parsePosition)
    .addOption(controlOption())
    .addOption(scanoutOption());
}

function buttonOption(): Option {
  return new Option('--button <button>', 'of the mouse').choices(['left', 'right', 'middle']).default('left');
}

function parseNotches(text: string): number {
  const notches = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (notches < 1 || notches > 100) throw new InvalidArgumentError('write a whole number from 1 to 100.');
  return notches;
}
