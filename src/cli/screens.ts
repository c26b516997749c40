import { HeadlessOutput } from '../../display/headless/output.ts';
import { openLibseatSeat } from '../../display/kms/libseat-seat.ts';
import { KmsDisplay } from '../../display/kms/open.ts';
import { PlainSeat } from '../../display/kms/seat.ts';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { UsageError } from '../core/errors.ts';
import type { Log } from '../core/log.ts';
import type { Output } from '../core/output.ts';
import { DisposableStack } from '../sys/disposable-stack.ts';
import type { OutputSpec, WaylandSpec } from './specs.ts';

export interface Assigned {
  readonly output: Output;
  readonly scanout: number;
}

/** The outputs that are there from the start: headless ones, then the connectors for this machine's monitors. */
export class Screens implements Disposable {
  readonly headless: readonly HeadlessOutput[];
  readonly monitors: readonly Output[];
  readonly #stack: DisposableStack;

  private constructor(specs: readonly OutputSpec[], log: Log, stack: DisposableStack) {
    const modes = specs.filter((spec) => spec.kind === 'headless');
    const cards = specs.filter((spec) => spec.kind === 'kms');
    this.headless = modes.map((mode, index) => stack.use(HeadlessOutput.open({ ...mode, name: modes.length === 1 ? 'headless' : `headless-${index}` })));
    const seat = cards.length > 0 ? stack.use(openLibseatSeat(log) ?? new PlainSeat()) : null;
    this.monitors = cards.flatMap((card) => stack.use(KmsDisplay.open({ ...card, ...(seat && { seat }), log })).outputs);
    this.#stack = stack.move();
  }

  /** Throws UsageError for outputs that cannot be, KmsError for monitors that cannot be had. */
  static open(specs: readonly OutputSpec[], log: Log): Screens {
    if (specs.filter(({ kind }) => kind === 'vmm').length > 1) throw new UsageError("--output vmm: the VMM's display is given once, it shows every scanout");
    const cards = specs.filter((spec) => spec.kind === 'kms').map(({ card }) => card);
    if (new Set(cards).size < cards.length || (cards.length > 1 && cards.includes(undefined))) {
      throw new UsageError('--output kms: a card is given once, it shows on all its monitors; name each of several cards, as in kms:card1');
    }
    using stack = new DisposableStack();
    return new Screens(specs, log, stack);
  }

  /** As many as there are pictures to see now: the headless outputs and the monitors that are plugged in, and at least one. */
  get defaultScanouts(): number {
    return Math.max(1, this.headless.length + this.monitors.filter(isLit).length);
  }

  /** UsageError if there are too few for the headless outputs. */
  assign(scanouts: number): Assigned[] {
    return assignScanouts(this.headless, this.monitors, scanouts);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/**
 * The scanout of each output. Every headless output has its own; monitors share what is left, or
 * all, if the guest has fewer: first those plugged in, then connectors that wait for one.
 */
export function assignScanouts(headless: readonly Output[], monitors: readonly Output[], scanouts: number): Assigned[] {
  if (headless.length > scanouts) throw new UsageError(`${headless.length} headless outputs for ${scanouts} scanouts: raise --scanouts or leave outputs out`);
  const first = headless.length < scanouts ? headless.length : 0;
  const litFirst = [...monitors.filter(isLit), ...monitors.filter((output) => !isLit(output))];
  return [
    ...headless.map((output, scanout) => ({ output, scanout })),
    ...litFirst.map((output, index) => ({ output, scanout: first + (index % (scanouts - first)) })),
  ];
}

function isLit({ monitor }: Output): boolean {
  return monitor !== null;
}

/** What `spec` asks for; the caller's. Rejects as `WaylandWindows.connect` does. */
export function openWindows({ display, scale = 1, ...spec }: WaylandSpec, log: Log, onClosed: () => void): Promise<WaylandWindows> {
  return WaylandWindows.connect({ ...spec, zoom: scale, log, onClosed, ...(display !== undefined && { socket: display }) });
}
