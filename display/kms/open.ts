import { readdirSync } from 'node:fs';
import type { Log } from '../../src/core/log.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import { describeMode, rankModes, type WantedMode } from './mode.ts';
import { KmsOutput } from './output.ts';
import { assignPipes } from './pipes.ts';
import { type Connector, readResources } from './resources.ts';

const CARDS = '/dev/dri';

export interface KmsOptions {
  /** `card0` or a path; default: the first card with a monitor. */
  readonly card?: string;
  /** `HDMI-A-1`; default: all that are connected. */
  readonly connector?: string;
  /** Default: what each monitor prefers. */
  readonly mode?: WantedMode;
  /** The screen's colour while the guest shows nothing, 0xRRGGBB; default black. */
  readonly background?: number;
  readonly log: Log;
}

/** The monitors of one card, each an output. */
export class KmsDisplay implements Disposable {
  readonly outputs: readonly KmsOutput[];
  readonly device: KmsDevice;
  readonly #stack: DisposableStack;
  /** An exception nobody catches still ends with the old picture back. */
  readonly #onExit = (): void => this[Symbol.dispose]();

  private constructor(device: KmsDevice, options: KmsOptions, stack: DisposableStack) {
    this.device = stack.use(device);
    const resources = readResources(device);
    const pipes = assignPipes(resources, chooseConnectors(device, resources.connectors, options.connector));
    if (pipes.length === 0) throw new KmsError('no-crtc', `${device.name}: no CRTC can drive ${options.connector ?? 'its monitors'}`);
    this.outputs = pipes.map((pipe) => {
      const modes = rankModes(pipe.connector.modes, options.mode ?? null);
      if (modes.length === 0) throw noMode(device, pipe.connector, options.mode);
      return stack.use(KmsOutput.open(device, { pipe, modes, background: options.background ?? 0, log: options.log }));
    });
    process.once('exit', this.#onExit);
    stack.defer(() => process.off('exit', this.#onExit));
    this.#stack = stack.move();
  }

  /** Throws KmsError; nothing is changed then. */
  static open(options: KmsOptions): KmsDisplay {
    const cards = options.card === undefined ? allCards() : [options.card.includes('/') ? options.card : `${CARDS}/${options.card}`];
    let first: Error | null = null;
    for (const card of cards) {
      try {
        using stack = new DisposableStack();
        return new KmsDisplay(KmsDevice.open(card), options, stack);
      } catch (error) {
        if (!(error instanceof KmsError)) throw error;
        first ??= error;
      }
    }
    throw first ?? new KmsError('card-missing', `there is no card in ${CARDS}: load the graphics driver, or use another output`);
  }

  /** Shows what was on screen before, frees the card. */
  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

function allCards(): string[] {
  try {
    return readdirSync(CARDS).filter((name) => name.startsWith('card')).toSorted().map((name) => `${CARDS}/${name}`);
  } catch {
    return [];
  }
}

function chooseConnectors(device: KmsDevice, connectors: readonly Connector[], wanted: string | undefined): Connector[] {
  const chosen = connectors.filter(({ name, isConnected }) => (wanted === undefined ? isConnected : name === wanted));
  if (chosen.length > 0 && chosen.every(({ isConnected }) => isConnected)) return chosen;
  const there = connectors.map(({ name, isConnected }) => `${name} (${isConnected ? 'connected' : 'nothing plugged in'})`).join(', ');
  throw new KmsError('connector-missing', `${device.name} has no monitor ${wanted === undefined ? 'plugged in' : `on ${wanted}`}; it has ${there || 'no connectors'}`);
}

function noMode(device: KmsDevice, { name, modes }: Connector, wanted: WantedMode | undefined): KmsError {
  const there = [...new Set(modes.map(describeMode))].join(', ');
  return new KmsError('mode-missing', `${device.name}:${name} has no mode${wanted ? ` ${describeMode(wanted)}` : ''}; it has ${there || 'none'}`);
}
