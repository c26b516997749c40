import { HeadlessOutput } from '../../display/headless/output.ts';
import type { WaylandWindows } from '../../display/wayland/windows.ts';
import { UsageError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Output } from '../core/output.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import type { MonitorChoices, OutputSpec, WaylandSpec } from './specs.ts';

export interface Assigned {
  readonly output: Output;
  readonly scanout: number;
}

export interface ScreensOptions {
  readonly log: Log;
  /** Default: the guest's cursor, and no input devices. */
  readonly monitors?: MonitorChoices;
  /** The keys were pressed that are to end the program. */
  readonly onQuit?: () => void;
}

/** The outputs that exist from the start: the headless ones, then the connectors of this machine's graphics cards. */
export class Screens implements Disposable {
  readonly headless: readonly HeadlessOutput[];
  readonly monitors: readonly Output[];
  readonly #stack: DisposableStack;

  private constructor(headless: readonly HeadlessOutput[], monitors: readonly Output[], stack: DisposableStack) {
    this.headless = headless;
    this.monitors = monitors;
    this.#stack = stack;
  }

  /** Rejects with UsageError for invalid outputs, KmsError if a graphics card cannot be used. */
  static async open(specs: readonly OutputSpec[], options: ScreensOptions): Promise<Screens> {
    if (specs.filter(({ kind }) => kind === 'vmm').length > 1)
      throw new UsageError("--output vmm: give it once; the VMM's display shows every scanout");
    if (specs.filter(({ kind }) => kind === 'export').length > 1)
      throw new UsageError('--output export: give it once; any number of consumers connect to it');
    const kms = specs.filter((spec) => spec.kind === 'kms');
    const cards = kms.map(({ card }) => card);
    if (new Set(cards).size < cards.length || (cards.length > 1 && cards.includes(undefined))) {
      throw new UsageError(
        '--output kms: give a card once, it is shown on all its monitors; with several cards name each, as in kms:card1',
      );
    }
    using stack = new DisposableStack();
    const modes = specs.filter((spec) => spec.kind === 'headless');
    const headless = modes.map((mode, index) =>
      stack.use(HeadlessOutput.open({ ...mode, name: modes.length === 1 ? 'headless' : `headless-${index}` })),
    );
    const monitors = kms.length === 0 ? [] : await openMonitors(kms, options, stack);
    return new Screens(headless, monitors, stack.move());
  }

  /** The number of headless outputs and of monitors that are plugged in; at least 1. */
  get defaultScanouts(): number {
    return Math.max(1, this.headless.length + this.monitors.filter(hasMonitor).length);
  }

  /** Assigns scanouts to outputs. Throws UsageError if there are fewer scanouts than headless outputs. */
  assign(scanouts: number): Assigned[] {
    return assignScanouts(this.headless, this.monitors, scanouts);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** The connectors of cards, and the input devices of the machine, where `options` ask for them; `stack` owns them. */
async function openMonitors(
  cards: readonly Extract<OutputSpec, { kind: 'kms' }>[],
  { log, monitors = { cursor: 'guest', input: null }, onQuit }: ScreensOptions,
  stack: DisposableStack,
): Promise<Output[]> {
  const { KmsDisplay, KmsInput, openLibseatSeat, PlainSeat } = await import('../../display/kms/index.ts');
  const seat = stack.use((await openLibseatSeat(log)) ?? new PlainSeat(log));
  const { cursor, input } = monitors;
  const displays = cards.map((card) => stack.use(KmsDisplay.open({ ...card, cursor, seat, log })));
  if (input) {
    const opened = KmsInput.open({ ...input, displays, seat, ...(onQuit && { onQuit }), log });
    if (opened) stack.use(opened);
  }
  return displays.flatMap(({ outputs }) => outputs);
}

/**
 * Assigns a scanout to each output. Every headless output has its own. Monitors share the scanouts that are left, or
 * all of them if none are left: first the monitors that are plugged in, then connectors without one.
 */
export function assignScanouts(headless: readonly Output[], monitors: readonly Output[], scanouts: number): Assigned[] {
  if (headless.length > scanouts)
    throw new UsageError(
      `${headless.length} headless outputs for ${scanouts} scanouts: raise --scanouts or remove outputs`,
    );
  const first = headless.length < scanouts ? headless.length : 0;
  const connectedFirst = [...monitors.filter(hasMonitor), ...monitors.filter((output) => !hasMonitor(output))];
  return [
    ...headless.map((output, scanout) => ({ output, scanout })),
    ...connectedFirst.map((output, index) => ({ output, scanout: first + (index % (scanouts - first)) })),
  ];
}

function hasMonitor({ monitor }: Output): boolean {
  return monitor !== null;
}

/** Opens the windows that `spec` asks for, with `offText` in them while the guest shows nothing. The caller owns them. Rejects as `WaylandWindows.open` does. */
export async function openWindows(
  { display, scale = 1, ...spec }: WaylandSpec & { readonly shareClipboard?: boolean },
  offText: string,
  log: Log,
  onClosed: () => void,
): Promise<WaylandWindows> {
  const { WaylandWindows } = await import('../../display/wayland/windows.ts');
  const { XDG_ACTIVATION_TOKEN: activationToken } = process.env;
  return WaylandWindows.open({
    ...spec,
    ...(activationToken !== undefined && { activationToken }),
    zoom: scale,
    offText,
    log,
    onClosed,
    ...(display !== undefined && { socket: display }),
  });
}
