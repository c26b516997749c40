import { readdirSync } from 'node:fs';
import type { Log } from '../../src/core/log.ts';
import type { Output } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { UdevMonitor } from '../../src/sys/lib/udev.ts';
import { ShadowMemory } from './buffer.ts';
import { KmsDevice } from './device.ts';
import { KmsError } from './errors.ts';
import { disableForeign, SavedState } from './handover.ts';
import { KmsOutput } from './output.ts';
import {
  assignPipes,
  type Connector,
  describeMode,
  type Mode,
  type Pipe,
  rankModes,
  readResources,
  type Resources,
  sameConnector,
  type WantedMode,
} from './resources.ts';
import { type LoginSeat, PlainSeat } from './seat.ts';

const CARDS = '/dev/dri';

export interface KmsOptions {
  /** `card0` or a path; default: the first card with a monitor, or the first. */
  readonly card?: string;
  /** `HDMI-A-1`; default: all of the card. */
  readonly connector?: string;
  /** Default: what each monitor prefers; that too for a monitor that lacks this one. */
  readonly mode?: WantedMode;
  /** 0xRRGGBB, shown while the guest shows nothing; default black. */
  readonly background?: number;
  /** Default: this process becomes DRM master itself. It stays the caller's. */
  readonly seat?: LoginSeat;
  /** Default: nothing is logged. */
  readonly log?: Log;
}

/** A connector as it was read last, and its screen. */
interface Port {
  readonly output: KmsOutput;
  connector: Connector;
  /** What was logged of it since something changed. */
  complaint: string;
}

/**
 * The connectors of one card, each an output, lit while a monitor is plugged in. Follows plugs as
 * they come and go, and the seat: paused, it leaves the card alone; resumed, it reads the
 * connectors anew and sets everything.
 */
export class KmsDisplay implements Disposable {
  /** One for each connector, or the one asked for. They stay the display's. */
  readonly outputs: readonly Output[];
  /** @internal */
  readonly device: KmsDevice;
  readonly #ports: readonly Port[];
  readonly #wanted: WantedMode | null;
  readonly #log: Log;
  readonly #stack: DisposableStack;
  #isPaused: boolean;
  /** An exception nobody catches still ends with the old picture back. */
  readonly #onExit = (): void => this[Symbol.dispose]();

  private constructor(device: KmsDevice, options: KmsOptions, seat: LoginSeat, stack: DisposableStack) {
    const { log = () => undefined, background = 0, mode = null } = options;
    this.device = device;
    this.#log = log;
    this.#wanted = mode;
    this.#isPaused = !seat.isActive;
    // Before the connectors are read, so that no plug falls between.
    const udev = this.#watch();
    if (udev) stack.use(udev);
    const shadows = stack.use(new ShadowMemory(device));
    const resources = readResources(device);
    const connectors = chooseConnectors(device, resources, options.connector);
    const plugged = connectors.filter(({ isConnected }) => isConnected);
    if (mode && plugged.length > 0 && plugged.every(({ modes }) => rankModes(modes, mode).length === 0)) throw noMode(device, plugged, mode);
    // What somebody else shows while the card is not ours is not for us to restore.
    const saved = this.#isPaused ? null : stack.use(new SavedState(device, resources));
    this.#ports = connectors.map((connector) => ({
      output: stack.use(new KmsOutput(device, { connector, planes: resources.planes, shadows, background, log })),
      connector,
      complaint: '',
    }));
    this.outputs = this.#ports.map(({ output }) => output);
    stack.defer(() => this.#restore(saved));
    if (this.#isPaused) this.#pause();
    else {
      this.#apply(resources, true, (_port, error) => {
        throw error;
      });
    }
    if (plugged.length === 0) log('info', `${device.name}: nothing is plugged in (${connectors.map(({ name }) => name).join(', ') || 'no connectors'}); waiting for a monitor`);
    seat.listen({ paused: () => this.#seatPaused(), resumed: () => this.#seatResumed() });
    process.once('exit', this.#onExit);
    stack.defer(() => process.off('exit', this.#onExit));
    this.#stack = stack.move();
  }

  /** Throws KmsError; nothing is changed then. */
  static open(options: KmsOptions): KmsDisplay {
    const { seat = new PlainSeat() } = options;
    const cards = options.card === undefined ? allCards() : [options.card.includes('/') ? options.card : `${CARDS}/${options.card}`];
    let first: Error | null = null;
    let dark: string | null = null;
    for (const card of cards) {
      try {
        const display = KmsDisplay.#openCard(card, options, seat, cards.length === 1);
        if (display) return display;
        dark ??= card;
      } catch (error) {
        if (!(error instanceof KmsError)) throw error;
        first ??= error;
      }
    }
    const display = dark === null ? null : KmsDisplay.#openCard(dark, options, seat, true);
    if (display) return display;
    throw first ?? new KmsError('card-missing', `there is no card in ${CARDS}: load the graphics driver, or use another output`);
  }

  /** Null: it has no monitor, and not `anyway`. */
  static #openCard(card: string, options: KmsOptions, seat: LoginSeat, anyway: boolean): KmsDisplay | null {
    using stack = new DisposableStack();
    const device = stack.use(KmsDevice.open(card, seat));
    if (!anyway && !chooseConnectors(device, readResources(device), options.connector).some(({ isConnected }) => isConnected)) return null;
    return new KmsDisplay(device, options, seat, stack);
  }

  /** Shows what was on screen before, frees the card. */
  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #seatPaused(): void {
    if (this.#stack.disposed) return;
    this.#pause();
    this.#log('info', `${this.device.name}: paused, the seat is somebody else's`);
  }

  #seatResumed(): void {
    if (this.#stack.disposed) return;
    this.#isPaused = false;
    this.#log('info', `${this.device.name}: resumed`);
    for (const { output } of this.#ports) output.resume();
    this.#refresh(true);
  }

  #pause(): void {
    this.#isPaused = true;
    for (const { output } of this.#ports) output.pause();
  }

  /** Reads the connectors anew; `isAnew`: what the kernel has is not what we set. */
  #refresh(isAnew: boolean): void {
    if (this.#isPaused) return;
    try {
      this.#apply(readResources(this.device), isAnew, (port, { message }) => this.#complain(port, message));
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `${this.device.name}: its connectors cannot be read: ${error.message}`);
    }
  }

  /** Lights and darkens what changed. Those with a CRTC keep it. */
  #apply(resources: Resources, isAnew: boolean, onRefused: (port: Port, error: KmsError) => void): void {
    const stale = this.#ports.filter((port) => this.#see(port, resources) || isAnew);
    const plugged = this.#ports.filter(({ connector }) => connector.isConnected);
    const kept = plugged.flatMap(({ output }) => output.pipe ?? []);
    const added = assignPipes(resources, plugged.filter(({ output }) => !output.pipe).map(({ connector }) => connector), kept);
    disableForeign(this.device, resources, [...kept, ...added]);
    for (const port of plugged) {
      if (port.output.pipe && !stale.includes(port)) continue;
      const pipe = port.output.pipe ?? added.find(({ connector }) => connector === port.connector);
      if (pipe) this.#enable(port, pipe, onRefused);
      else this.#complain(port, 'no CRTC is free for it, so it stays dark until another monitor is unplugged');
    }
    for (const { output } of this.#ports) output.announce();
  }

  /** True: what is plugged in is not what was. */
  #see(port: Port, resources: Resources): boolean {
    const before = port.connector;
    // A connector may go with its dock.
    port.connector = resources.connectors.find(({ id }) => id === before.id) ?? { ...before, isConnected: false };
    if (sameConnector(before, port.connector)) return false;
    port.complaint = '';
    if (!port.connector.isConnected) {
      if (port.output.pipe) this.#log('info', `${port.output.name}: unplugged; the guest runs on`);
      port.output.disable();
    }
    return true;
  }

  #enable(port: Port, pipe: Pipe, onRefused: (port: Port, error: KmsError) => void): void {
    try {
      port.output.enable(port.connector, pipe, this.#modesOf(port));
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      port.output.disable();
      onRefused(port, error);
    }
  }

  #modesOf(port: Port): Mode[] {
    const { modes } = port.connector;
    const wanted = rankModes(modes, this.#wanted);
    if (wanted.length > 0 || !this.#wanted) return wanted;
    this.#complain(port, `its monitor has no mode ${describeMode(this.#wanted)}, so it is shown in the monitor's own`);
    return rankModes(modes, null);
  }

  #complain(port: Port, complaint: string): void {
    if (port.complaint === complaint) return;
    port.complaint = complaint;
    this.#log('warn', `${port.output.name}: ${complaint}`);
  }

  #watch(): UdevMonitor | null {
    const { name } = this.device;
    try {
      const udev = UdevMonitor.open('drm', ({ action, sysName }) => {
        if (action === 'overrun' || (action === 'change' && sysName === name)) this.#refresh(false);
      });
      if (!udev) this.#log('warn', `${name}: without libudev.so.1 monitors are looked for only at start and when the seat comes back; install libudev1`);
      return udev;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `${name}: no news of monitors: ${error.message}`);
      return null;
    }
  }

  /** Where the old picture cannot come back the outputs go dark as they are disposed. */
  #restore(saved: SavedState | null): void {
    if (!this.#isPaused && saved?.restore()) this.#pause();
  }
}

function allCards(): string[] {
  try {
    return readdirSync(CARDS).filter((name) => name.startsWith('card')).toSorted().map((name) => `${CARDS}/${name}`);
  } catch {
    return [];
  }
}

function chooseConnectors(device: KmsDevice, { connectors }: Resources, wanted: string | undefined): Connector[] {
  const chosen = connectors.filter(({ name }) => wanted === undefined || name === wanted);
  if (chosen.length > 0 || wanted === undefined) return chosen;
  const there = connectors.map(({ name, isConnected }) => `${name} (${isConnected ? 'connected' : 'nothing plugged in'})`).join(', ');
  throw new KmsError('connector-missing', `${device.name} has no connector ${wanted}; it has ${there || 'none'}`);
}

function noMode(device: KmsDevice, connectors: readonly Connector[], wanted: WantedMode): KmsError {
  const there = [...new Set(connectors.flatMap(({ modes }) => modes.map(describeMode)))].join(', ');
  return new KmsError('mode-missing', `${device.name}:${connectors.map(({ name }) => name).join(', ')} has no mode ${describeMode(wanted)}; it has ${there || 'none'}`);
}
