import { readdirSync } from 'node:fs';
import type { Log } from '../../src/core/log.ts';
import type { Output } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { SysError } from '../../src/sys/errors.ts';
import { UdevMonitor } from '../../src/sys/lib/udev.ts';
import { KmsDevice } from './device.ts';
import type { OperatedScreen } from './input-router.ts';
import { KmsError } from './errors.ts';
import { disableForeign, SavedState } from './handover.ts';
import { type CursorChoice, GONE, KmsOutput } from './output.ts';
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
  /** `card0`, or a path. Default: the first card with a monitor, or else the first card. */
  readonly card?: string;
  /** For example `HDMI-A-1`. Default: all connectors of the card. */
  readonly connector?: string;
  /** Default: the mode that each monitor prefers, which is also used for a monitor without this mode. */
  readonly mode?: WantedMode;
  /** Default: `guest`, the guest's cursor, where the guest has it. `draw`: an arrow as well, for a guest that never showed one. */
  readonly cursor?: CursorChoice;
  /** 0xRRGGBB, shown while the guest shows nothing. Default: black. */
  readonly background?: number;
  /** Hands out the card; it stays the caller's. Default: this process opens the card and becomes DRM master itself. */
  readonly seat?: LoginSeat;
  /** Default: nothing is logged. */
  readonly log?: Log;
}

/** A connector as it was last read, and its output. */
interface Port {
  readonly output: KmsOutput;
  connector: Connector;
  /** What was logged about it since it last changed. */
  complaint: string;
}

/**
 * The connectors of one card, each an output that is enabled while a monitor is plugged in. It
 * follows monitors as they are plugged in and out, and the seat: while that is paused it leaves the
 * card alone, and on resume it reads the connectors again and sets everything.
 */
export class KmsDisplay implements Disposable {
  /** One for each connector, or the one asked for. They stay the display's. */
  readonly outputs: readonly Output[];
  /** @internal */
  readonly screens: readonly OperatedScreen[];
  /** @internal */
  readonly device: KmsDevice;
  readonly #ports: readonly Port[];
  readonly #wanted: WantedMode | null;
  readonly #log: Log;
  readonly #stack: DisposableStack;
  #isPaused: boolean;
  /** The monitors are off until `wake`, and the guest does not know. */
  #isAsleep = false;
  /** The old picture comes back after an uncaught exception, too. */
  readonly #onExit = (): void => this[Symbol.dispose]();

  private constructor(device: KmsDevice, options: KmsOptions, seat: LoginSeat, stack: DisposableStack) {
    const { log = () => undefined, background = 0, mode = null, cursor = 'guest' } = options;
    this.device = device;
    this.#log = log;
    this.#wanted = mode;
    this.#isPaused = !seat.isActive;
    // Before the connectors are read, so that no change is missed.
    const udev = this.#watch();
    if (udev) stack.use(udev);
    const resources = readResources(device);
    const connectors = chooseConnectors(device, resources, options.connector);
    const plugged = connectors.filter(({ isConnected }) => isConnected);
    if (mode && plugged.length > 0 && plugged.every(({ modes }) => rankModes(modes, mode).length === 0))
      throw noMode(device, plugged, mode);
    // While the seat is not active, another program shows something, which is not this display's to restore.
    const saved = this.#isPaused ? null : stack.use(new SavedState(device, resources));
    this.#ports = connectors.map((connector) => ({
      output: stack.use(
        new KmsOutput(device, {
          connector,
          planes: resources.planes,
          writebacks: resources.writebacks,
          background,
          cursor,
          log,
        }),
      ),
      connector,
      complaint: '',
    }));
    this.screens = this.#ports.map(({ output }) => output);
    this.outputs = this.#ports.map(({ output }) => output);
    stack.defer(() => this.#restore(saved));
    if (this.#isPaused) this.#pause();
    else {
      this.#apply(resources, true, (_port, error) => {
        throw error;
      });
    }
    if (plugged.length === 0)
      log(
        'info',
        `${device.name}: nothing is plugged in (${connectors.map(({ name }) => name).join(', ') || 'no connectors'}), so it waits for a monitor`,
      );
    seat.listen({ paused: () => this.#seatPaused(), resumed: () => this.#seatResumed() });
    process.once('exit', this.#onExit);
    stack.defer(() => process.off('exit', this.#onExit));
    this.#stack = stack.move();
  }

  /** Throws KmsError, with nothing changed. */
  static open(options: KmsOptions): KmsDisplay {
    const { seat = new PlainSeat() } = options;
    const cards =
      options.card === undefined
        ? allCards()
        : [options.card.includes('/') ? options.card : `${CARDS}/${options.card}`];
    let first: Error | null = null;
    let unplugged: string | null = null;
    for (const card of cards) {
      try {
        const display = KmsDisplay.#openCard(card, options, seat, cards.length === 1);
        if (display) return display;
        unplugged ??= card;
      } catch (error) {
        if (!(error instanceof KmsError)) throw error;
        first ??= error;
      }
    }
    const display = unplugged === null ? null : KmsDisplay.#openCard(unplugged, options, seat, true);
    if (display) return display;
    throw (
      first ??
      new KmsError('card-missing', `there is no card in ${CARDS}: load the graphics driver, or use another output`)
    );
  }

  /** Null if it has no monitor, unless `anyway`. */
  static #openCard(card: string, options: KmsOptions, seat: LoginSeat, anyway: boolean): KmsDisplay | null {
    using stack = new DisposableStack();
    const device = stack.use(KmsDevice.open(card, seat));
    if (
      !anyway &&
      !chooseConnectors(device, readResources(device), options.connector).some(({ isConnected }) => isConnected)
    )
      return null;
    return new KmsDisplay(device, options, seat, stack);
  }

  /** Turns the monitors off until `wake`, or until the seat was paused and is resumed. Guests are not told. */
  sleep(): void {
    if (this.#stack.disposed || this.#isAsleep) return;
    this.#isAsleep = true;
    for (const { output } of this.#ports) output.sleep();
    this.#log('info', `${this.device.name}: monitors off`);
  }

  /** Turns the monitors on, with what guests show now. */
  wake(): void {
    if (this.#stack.disposed || !this.#isAsleep) return;
    this.#isAsleep = false;
    this.#log('info', `${this.device.name}: monitors on`);
    this.#refresh(true);
  }

  /** Restores what was on screen before, and closes the card. */
  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #seatPaused(): void {
    if (this.#stack.disposed) return;
    this.#pause();
    this.#log('info', `${this.device.name}: paused, because another program has the seat`);
  }

  #seatResumed(): void {
    if (this.#stack.disposed) return;
    this.#isPaused = false;
    this.#isAsleep = false;
    this.#log('info', `${this.device.name}: resumed`);
    for (const { output } of this.#ports) output.resume();
    this.#refresh(true);
  }

  /** The card was pulled out, or its driver was unbound. What it has of the guest's memory is freed when it is closed. */
  #lost(): void {
    for (const { output } of this.#ports) output.deviceLost(GONE);
    this[Symbol.dispose]();
  }

  #pause(): void {
    this.#isPaused = true;
    for (const { output } of this.#ports) output.pause();
  }

  /** Reads the connectors again. `isForeign`: the kernel's state may be that of another program. */
  #refresh(isForeign: boolean): void {
    if (this.#isPaused || this.#isAsleep) return;
    try {
      this.#apply(readResources(this.device), isForeign, (port, { message }) => this.#complain(port, message));
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `${this.device.name}: its connectors cannot be read: ${error.message}`);
    }
  }

  /** Enables and disables the outputs whose connectors changed. Outputs with a CRTC keep it. */
  #apply(resources: Resources, isForeign: boolean, onRefused: (port: Port, error: KmsError) => void): void {
    const stale = this.#ports.filter((port) => this.#update(port, resources) || isForeign);
    const plugged = this.#ports.filter(({ connector }) => connector.isConnected);
    const kept = plugged.flatMap(({ output }) => output.pipe ?? []);
    const added = assignPipes(
      resources,
      plugged.filter(({ output }) => !output.pipe).map(({ connector }) => connector),
      kept,
    );
    disableForeign(this.device, resources, [...kept, ...added]);
    for (const port of plugged) {
      if (port.output.pipe && !stale.includes(port)) continue;
      const pipe = port.output.pipe ?? added.find(({ connector }) => connector === port.connector);
      if (pipe) this.#enable(port, pipe, onRefused);
      else this.#complain(port, 'no CRTC is free for it, so it stays off until another monitor is unplugged');
    }
    for (const { output } of this.#ports) output.announce();
  }

  /** True if the monitor that is plugged in changed. */
  #update(port: Port, resources: Resources): boolean {
    const before = port.connector;
    // A connector may disappear together with its dock.
    port.connector = resources.connectors.find(({ id }) => id === before.id) ?? { ...before, isConnected: false };
    if (sameConnector(before, port.connector)) return false;
    port.complaint = '';
    if (!port.connector.isConnected) {
      if (port.output.pipe) this.#log('info', `${port.output.name}: unplugged; the guest continues to run`);
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
    this.#complain(port, `its monitor has no mode ${describeMode(this.#wanted)}, so the mode it prefers is used`);
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
        if (action === 'remove' && sysName === name) this.#lost();
        else if (action === 'overrun' || (action === 'change' && sysName === name)) this.#refresh(false);
      });
      if (!udev)
        this.#log(
          'warn',
          `${name}: without libudev.so.1 monitors are detected only at start and when the seat is resumed: install libudev1`,
        );
      return udev;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#log('warn', `${name}: changes of monitors are not noticed: ${error.message}`);
      return null;
    }
  }

  /** If the old picture cannot be restored, the outputs turn off when they are disposed. */
  #restore(saved: SavedState | null): void {
    if (!this.#isPaused && saved?.restore()) this.#pause();
  }
}

function allCards(): string[] {
  try {
    return readdirSync(CARDS)
      .filter((name) => name.startsWith('card'))
      .toSorted()
      .map((name) => `${CARDS}/${name}`);
  } catch {
    return [];
  }
}

function chooseConnectors(device: KmsDevice, { connectors }: Resources, wanted: string | undefined): Connector[] {
  const chosen = connectors.filter(({ name }) => wanted === undefined || name === wanted);
  if (chosen.length > 0 || wanted === undefined) return chosen;
  const there = connectors
    .map(({ name, isConnected }) => `${name} (${isConnected ? 'connected' : 'nothing plugged in'})`)
    .join(', ');
  throw new KmsError('connector-missing', `${device.name} has no connector ${wanted}; it has ${there || 'none'}`);
}

function noMode(device: KmsDevice, connectors: readonly Connector[], wanted: WantedMode): KmsError {
  const there = [...new Set(connectors.flatMap(({ modes }) => modes.map(describeMode)))].join(', ');
  return new KmsError(
    'mode-missing',
    `${device.name}:${connectors.map(({ name }) => name).join(', ')} has no mode ${describeMode(wanted)}; it has ${there || 'none'}`,
  );
}
