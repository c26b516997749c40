import { setTimeout } from 'node:timers/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import { formatRect, formatSize } from '../../display/picture/difference.ts';
import { parseVncAddress } from '../../display/vnc/address.ts';
import { ControlClient } from '../control/client.ts';
import { ControlError, type FrameEvent } from '../control/protocol.ts';
import type { BridgeStats } from '../control/stats.ts';
import { UsageError } from '../core/errors.ts';
import type { Picture } from '../core/picture.ts';
import { monotonicMs } from '../sys/clock.ts';
import { bridgeStatus } from './bridge-status.ts';
import { controlOption, scanoutOption } from './control-options.ts';
import { isBridgeStats } from './stats.ts';
import { endSignal, print, printJson } from './terminal.ts';
import { WatchPage } from './watch-page.ts';
import { WatchScreen } from './watch-screen.ts';

interface Options {
  control: string;
  scanout: number;
  json?: true;
  lines?: true;
  page?: number | true;
}

/** At most so often is a terminal drawn. */
const DRAW_MS = 100;
const STATUS_MS = 1000;
const MAX_PORT = 65_535;
/** Why a watch ends that its user ends. */
const ENDED = new Error('ended by its user');
/** Keys that end it, as a terminal in raw mode sends them. */
const END_KEYS = ['q', 'Q', '\x03', '\x04', '\x1b'];

export function command(): Command {
  return new Command('watch')
    .addOption(controlOption())
    .addOption(scanoutOption())
    .option('--lines', 'print a line for each frame, as where stdout is not a terminal')
    .addOption(new Option('--json', 'print each frame as a line of JSON').conflicts('lines'))
    .addOption(
      new Option(
        '--page [port]',
        'serve a page with the picture, at a port of 127.0.0.1; the bridge needs `--output vnc`',
      )
        .argParser(parsePort)
        .conflicts(['json', 'lines']),
    )
    .addHelpText(
      'after',
      '\nOn a terminal, shows the picture and what the bridge does: how frames reach each output, how often and how old, what was typed and clicked, who looks on and who drives; q ends it. Elsewhere, prints what comes on screen until the bridge ends: the time, how many frames, the size, and what they changed. The page shows both in a browser, which can also operate the guest. The bridge is a running `scanout run` or `scanout record`. docs/control.md describes the JSON.\n\nExample:\n  $ scanout watch --json',
    )
    .action(async ({ control, scanout, json, lines, page }: Options) => {
      const bridge = new ControlClient(control);
      if (page !== undefined) await onPage(bridge, scanout, page === true ? 0 : page);
      else if (json || lines || !process.stdout.isTTY) await asLines(bridge, scanout, json === true);
      else await onTerminal(bridge, scanout);
    });
}

function parsePort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > MAX_PORT) throw new InvalidArgumentError('write a TCP port, or 0.');
  return Number(text);
}

async function asLines(bridge: ControlClient, scanout: number, json: boolean): Promise<void> {
  for await (const event of bridge.watch({ scanout })) {
    if (json) printJson(event, 0);
    else print(eventText(event));
  }
}

function eventText({ timeMs, frames, width, height, damage, cursor }: FrameEvent): string {
  const changed = [...damage.map(formatRect), ...cursor.map((rect) => `cursor ${formatRect(rect)}`)].join(', ');
  const picture = width === 0 ? 'off' : formatSize({ width, height });
  return `${(timeMs / 1000).toFixed(3)} +${frames} ${picture}: ${changed || 'nothing changed'}`;
}

/** What a bridge does, asked for every second. */
class Status {
  readonly #bridge: ControlClient;
  readonly #scanout: number;
  #before: { readonly stats: BridgeStats; readonly ms: number } | null = null;
  /** As `bridgeStatus`. */
  lines: readonly string[] = [];

  constructor(bridge: ControlClient, scanout: number) {
    this.#bridge = bridge;
    this.#scanout = scanout;
  }

  /** Whether a second has gone by since `update`. */
  get isOld(): boolean {
    return !this.#before || monotonicMs() - this.#before.ms >= STATUS_MS;
  }

  /**
   * Has the bridge measure when every frame comes to each stage, instead of one in 256, until the signal is aborted or the
   * bridge ends. Without that, because it has enough clients, ages come later.
   */
  async measure(signal: AbortSignal): Promise<void> {
    const trace = this.#bridge.trace({ scanout: this.#scanout, signal });
    try {
      let isOver: boolean | undefined;
      do isOver = (await trace.next()).done;
      while (!isOver);
    } catch (error) {
      if (!signal.aborted && !(error instanceof ControlError)) throw error;
    }
  }

  /** Rejects as the client's `stats`, and with ControlError `protocol` if a bridge of another version answers. */
  async update(signal: AbortSignal): Promise<BridgeStats> {
    const stats: unknown = await this.#bridge.stats({ signal });
    if (!isBridgeStats(stats))
      throw new ControlError(
        'protocol',
        `${this.#bridge.path}: the answer is not statistics; scanout stats --json prints it`,
      );
    const ms = monotonicMs();
    const before = this.#before;
    this.lines = bridgeStatus(stats, before?.stats ?? null, before ? (ms - before.ms) / 1000 : 0, this.#scanout);
    this.#before = { stats, ms };
    return stats;
  }
}

/** Until a key, a signal, or the bridge ends it. Rejects with ControlError. */
async function onTerminal(bridge: ControlClient, scanout: number): Promise<void> {
  const status = new Status(bridge, scanout);
  const over = new AbortController();
  const { signal } = over;
  // Before the screen is taken, for an error to be seen.
  await status.update(signal);
  const measured = status.measure(signal);
  let isNew = true;
  const watched = (async () => {
    const frames = bridge.watch({ scanout, signal });
    while (!(await frames.next()).done) isNew = true;
  })();
  // The bridge has ended, unless this has.
  watched.finally(() => over.abort(ENDED)).catch(() => undefined);
  void endSignal().then(() => over.abort(ENDED));
  const { stdin } = process;
  const key = (bytes: Buffer): void => {
    if (END_KEYS.includes(bytes.toString())) over.abort(ENDED);
  };
  if (stdin.isTTY) stdin.setRawMode(true).on('data', key);
  try {
    using screen = new WatchScreen(process.stdout);
    let picture: Picture | null = null;
    for (;;) {
      await setTimeout(DRAW_MS, undefined, { signal });
      const isOld = status.isOld;
      if (isOld) await status.update(signal);
      if (!isNew && !isOld) continue;
      if (isNew) {
        isNew = false;
        picture = await pictureOf(bridge, scanout, signal);
      }
      screen.draw(picture, status.lines);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    over.abort(ENDED);
    if (stdin.isTTY) stdin.off('data', key).setRawMode(false).pause();
    await Promise.all([watched, measured]).catch((error: unknown) => {
      if (error !== ENDED) throw error;
    });
  }
}

/** Null while the guest shows nothing. */
async function pictureOf(bridge: ControlClient, scanout: number, signal: AbortSignal): Promise<Picture | null> {
  try {
    return await bridge.screenshot({ scanout, signal });
  } catch (error) {
    if (error instanceof ControlError && error.code === 'no-picture') return null;
    throw error;
  }
}

/** Until a signal, or the bridge ends it. Rejects with UsageError for a bridge without VNC, or ControlError. */
async function onPage(bridge: ControlClient, scanout: number, port: number): Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  const status = new Status(bridge, scanout);
  const { vnc } = await status.update(signal);
  const address = parseVncAddress(vnc?.[scanout]?.address ?? '');
  if (!address)
    throw new UsageError(
      `--page: the bridge shows scanout ${scanout} to no VNC viewers: start it with \`--output vnc\` beside its other outputs`,
    );
  using page = await WatchPage.open(address, port, () => status.lines);
  print(`${page.url}\n  for a browser on this machine, until interrupted`);
  void endSignal().then(() => over.abort());
  const measured = status.measure(signal);
  try {
    for (;;) {
      await setTimeout(STATUS_MS, undefined, { signal });
      await status.update(signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    over.abort();
    await measured;
  }
}
