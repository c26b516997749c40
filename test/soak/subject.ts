import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { requestScreenshot, requestStats } from '../../src/control/client.ts';
import { ControlError, type ScreenshotRequest } from '../../src/control/protocol.ts';
import type { SessionStats } from '../../src/control/stats.ts';
import type { Picture } from '../../src/core/picture.ts';
import { FrontEndError } from '../../src/guest/replay/front-end-channel.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { connectUnix } from '../../src/sys/socket.ts';
import { openFds } from '../rig/process-resources.ts';
import type { Random } from '../rig/random.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { startWeston, type Weston } from '../rig/weston.ts';
import type { Figures, QuietPoint } from './figures.ts';
import { HonestGuest } from './honest-guest.ts';

/** Size of the guest's monitors. The compositor's output has room for the whole of a window. */
export const WIDTH = 640;
export const HEIGHT = 480;
export const SCANOUTS = 2;

const LOST = 'lost the compositor';
const FOUND = 'connected to a compositor again';

/** Lines that only a fault of ours causes, whatever the peers do: those of unexpected exceptions, and Node's warnings. */
const FAULT =
  /\b(?:Type|Range|Reference|Syntax)Error\b|the guest's \S+ failed:|done twice|the recording stopped|^\(node:\d+\)/;

/** Characters of the log that are kept from round to round. */
const LOG_TAIL = 64 * 1024;

/** Tries to connect while the bridge is busy with a front end that vanished. */
const CONNECTS = 100;

/** Looks at the child's resources to find the smallest, without a control client that is about to be closed. */
const LOOKS = 500;

/** Limit of the wait for the child to close what it has no use for. */
const PATIENCE_MS = 20_000;

/** A request that is made again while the bridge has as many clients as it serves: others of a round have not left yet. */
async function whenServed<T>(request: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof ControlError && error.code === 'busy')) throw error;
      await setImmediate();
    }
  }
}

/** Resolves when the bridge whose statistics `ask` returns has no front end. Its log may leave that out. */
export async function untilGone(ask: () => Promise<SessionStats>): Promise<void> {
  while ((await ask()).guest.connected) await setImmediate();
}

/** A `scanout run` with a headless output and a window for each scanout, and the compositor of the windows. */
export class Subject implements AsyncDisposable {
  readonly figures: Figures;
  readonly weston: Weston;
  readonly run: ScanoutRun;
  /** Rejects when the child ends before `end`. */
  readonly died: Promise<never>;
  readonly guestSocket: string;
  readonly controlSocket: string;
  readonly #dir: string;
  #probe: Promise<void> | null = null;
  #probeFailure: unknown = null;
  #isEnding = false;
  #restarts = 0;
  #baseline: Resources | null = null;

  private constructor(dir: string, weston: Weston, run: ScanoutRun, figures: Figures) {
    this.figures = figures;
    this.#dir = dir;
    this.weston = weston;
    this.run = run;
    this.guestSocket = join(dir, 'gpu');
    this.controlSocket = join(dir, 'control');
    this.died = run.exited().then((code) => {
      if (this.#isEnding) return new Promise<never>(() => undefined);
      throw new Error(`expected scanout to run on, but it exited with code ${String(code)}`);
    });
    this.died.catch(() => undefined);
  }

  static async start(figures: Figures): Promise<Subject> {
    const dir = mkdtempSync(join(tmpdir(), 'scanout-soak-'));
    // Not the kiosk shell: Weston 14's crashes now and then when one of two windows closes.
    const weston = await startWeston({ size: [2 * WIDTH, 2 * HEIGHT], shell: 'desktop' });
    try {
      const headless = Array.from({ length: SCANOUTS }, () => ['--output', `headless:${WIDTH}x${HEIGHT}`]).flat();
      const run = await ScanoutRun.start(
        ...['--guest', `vhost-user:${join(dir, 'gpu')}`, '--control', join(dir, 'control')],
        ...[...headless, '--output', `wayland:${weston.socket}`, '--max-guest-memory', '64M'],
      );
      return new Subject(dir, weston, run, figures);
    } catch (error) {
      await weston[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true });
      throw error;
    }
  }

  /** Asks for `stats`. The time to the answer counts as one between rounds. */
  stats(): Promise<SessionStats> {
    return this.#ask('between');
  }

  /** Asks for `stats` without waiting for the answer, unless one is awaited already. `probed` reports a failure. */
  probe(): void {
    this.#probe ??= this.#ask('during')
      .then(
        () => undefined,
        (error: unknown) => void (this.#probeFailure ??= error),
      )
      .finally(() => (this.#probe = null));
  }

  /** Rejects if a `probe` was not answered. */
  async probed(): Promise<void> {
    await this.#probe;
    if (this.#probeFailure !== null) throw new Error('expected stats to answer', { cause: this.#probeFailure });
  }

  /** Resolves after that many answers to `stats`: a stretch of time as the child sees it. */
  async answers(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.#ask('during');
  }

  screenshot(request: Partial<ScreenshotRequest> & { readonly scanout: number }): Promise<Picture> {
    return whenServed(() => requestScreenshot(this.controlSocket, { cursor: false, ...request }));
  }

  /** A raw client of the control socket, connected. */
  async client(): Promise<Socket> {
    const socket = connect(this.controlSocket);
    // The bridge may end a connection first.
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    return socket;
  }

  /** Resolves when no front end is connected. */
  vmmGone(): Promise<void> {
    return untilGone(() => this.#ask('during'));
  }

  /** A connection for a VMM, once the last one is gone. */
  async connect(): Promise<OwnedFd> {
    await this.vmmGone();
    return connectUnix(this.guestSocket);
  }

  async honestGuest(random: Random): Promise<HonestGuest> {
    for (let tries = 1; ; tries++) {
      try {
        return await HonestGuest.connect(await this.connect(), SCANOUTS, random);
      } catch (error) {
        // A front end that has vanished may be accepted after `vmmGone` and before this one.
        if (!(error instanceof FrontEndError && error.code === 'closed') || tries === CONNECTS) throw error;
      }
    }
  }

  /** Ends the compositor by `how`, calls `between`, and starts it again; resolves when the windows are on it. */
  async restartCompositor(how: 'kill' | 'stop', between: () => Promise<void>): Promise<void> {
    const [lost, found] = [this.#logged(LOST), this.#logged(FOUND)];
    await this.weston[how]();
    this.#restarts++;
    await this.run.logged(LOST, lost + 1);
    await between();
    await this.weston.start();
    await this.run.logged(FOUND, found + 1);
    this.figures.count('compositor restarts');
  }

  /** Checks what the child has logged since the last call, and shortens the log. */
  checkLog(): void {
    const fault = this.run.log.split('\n').find((line) => FAULT.test(line));
    if (fault !== undefined) throw new Error(`expected no fault in the log, but found: ${fault}`);
    const lost = this.#logged(LOST);
    if (lost !== this.#restarts)
      throw new Error(
        `expected the connection to the compositor to end ${this.#restarts} times, with it, but it was lost ${lost} times`,
      );
    this.#restarts = 0;
    // The tail may say `lost` once more, so its lines are marked.
    this.run.log = this.run.log.slice(-LOG_TAIL).replaceAll(LOST, 'lost (before)').replaceAll(FOUND, 'found (before)');
  }

  /**
   * To be called while no VMM is connected and the compositor runs. The first call keeps the child's descriptors and
   * mappings of memfds; the others reject if there are not as many again soon.
   */
  async quietPoint(): Promise<void> {
    this.#baseline ??= await this.#smallest();
    const baseline = this.#baseline;
    const deadline = performance.now() + PATIENCE_MS;
    let now = this.#resources();
    // Nothing reports that the child has closed a descriptor.
    for (; difference(baseline, now) !== ''; now = this.#resources()) {
      if (performance.now() > deadline)
        throw new Error(`expected the resources of the first quiet point, but found ${difference(baseline, now)}`);
      await setImmediate();
    }
    this.figures.quiet.push(this.#quietPoint(now));
  }

  /** Ends the child by SIGTERM and checks that it leaves nothing behind. */
  async end(): Promise<void> {
    this.#isEnding = true;
    const code = await this.run.end('SIGTERM');
    if (code !== 0) throw new Error(`expected SIGTERM to end scanout with code 0, but it was ${String(code)}`);
    const left = readdirSync(this.#dir);
    if (left.length > 0) throw new Error(`expected nothing to be left in ${this.#dir}, but found ${left.join(', ')}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    await this.run[Symbol.asyncDispose]();
    await this.weston[Symbol.asyncDispose]();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #ask(when: 'during' | 'between'): Promise<SessionStats> {
    const start = performance.now();
    const stats = await whenServed(() => requestStats(this.controlSocket));
    this.figures.latencies[when].add(performance.now() - start);
    return stats as SessionStats;
  }

  #logged(text: string): number {
    return this.run.log.split(text).length - 1;
  }

  async #smallest(): Promise<Resources> {
    let smallest = this.#resources();
    for (let look = 0; look < LOOKS; look++) {
      await setImmediate();
      const now = this.#resources();
      if (total(now.fds) + total(now.mappings) < total(smallest.fds) + total(smallest.mappings)) smallest = now;
    }
    return smallest;
  }

  /** Number of open descriptors of each sort, and of mappings of each memfd and dma-buf. */
  #resources(): Resources {
    const fds = counted([...openFds(this.run.pid).values()]);
    const maps = readFileSync(`/proc/${this.run.pid}/maps`, 'utf8');
    return { fds, mappings: counted(maps.match(/\/(?:memfd|dmabuf):\S*/g) ?? []) };
  }

  #quietPoint({ fds, mappings }: Resources): QuietPoint {
    const status = readFileSync(`/proc/${this.run.pid}/status`, 'utf8');
    const rssBytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
    return { timeMs: performance.now(), fds: total(fds), mappings: total(mappings), rssBytes };
  }
}

/** How many there are of each sort. */
interface Resources {
  readonly fds: ReadonlyMap<string, number>;
  readonly mappings: ReadonlyMap<string, number>;
}

/** What is counted, without the numbers that tell one socket from another. */
function counted(targets: readonly string[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const target of targets) {
    const sort = target.replace(/\d+/g, 'N');
    counts.set(sort, (counts.get(sort) ?? 0) + 1);
  }
  return counts;
}

function total(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

function difference(before: Resources, now: Resources): string {
  return [...changes('descriptors', before.fds, now.fds), ...changes('mappings', before.mappings, now.mappings)].join(
    '; ',
  );
}

function changes(
  what: string,
  before: ReadonlyMap<string, number>,
  now: ReadonlyMap<string, number>,
): readonly string[] {
  return [...new Set([...before.keys(), ...now.keys()])]
    .filter((sort) => before.get(sort) !== now.get(sort))
    .map((sort) => `${before.get(sort) ?? 0} ${what} of ${sort} then, ${now.get(sort) ?? 0} now`);
}
