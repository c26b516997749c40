import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, vi } from 'vitest';
import { MemoryBudget } from '../../../../src/core/budget.ts';
import type { WaylandOutput } from '../../../../display/wayland/output.ts';
import { WaylandWindows, type WaylandWindowsOptions } from '../../../../display/wayland/windows.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Framebuffer } from '../../../../src/core/framebuffer.ts';
import type { Log } from '../../../../src/core/log.ts';
import type { GuestInput } from '../../../../src/core/input.ts';
import type { Monitor } from '../../../../src/core/monitor.ts';
import { type Flush, type ScanoutId, type Source, type SourceSink } from '../../../../src/core/source.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { FakeHost, type FakeHostOptions } from './fake-host.ts';
import type { FakeRequest } from './fake-server.ts';

export const [WIDTH, HEIGHT] = [64, 48];

/** A guest that draws when the test calls for it. */
export class FakeGuest implements Source {
  readonly scanouts = 2;
  readonly budget = new MemoryBudget(Infinity);
  readonly monitors: (Monitor | null)[] = [];
  sink!: SourceSink;
  #onMonitor: (() => void) | null = null;

  connect(sink: SourceSink): void {
    this.sink = sink;
  }

  setMonitor(id: ScanoutId, monitor: Monitor | null): void {
    this.monitors[id] = monitor;
    this.#onMonitor?.();
    this.#onMonitor = null;
  }

  /** Resolves with the next monitor it is given. */
  nextMonitor(): Promise<Monitor | null> {
    return new Promise((resolve) => (this.#onMonitor = () => resolve(this.monitors[0]!)));
  }

  show(framebuffer: Framebuffer, scanout = 0): void {
    this.sink.scanout(scanout, framebuffer, { x: 0, y: 0, width: framebuffer.width, height: framebuffer.height });
  }

  /** Resolves when the flush is done. */
  flush(x: number, y: number, width: number, height: number, scanout = 0): Promise<void> {
    const damage = new Damage();
    damage.add(x, y, width, height);
    return new Promise((done) => this.sink.flush(scanout, damage, { isFenced: true, done } satisfies Flush));
  }

  [Symbol.dispose](): void {
    // It owns nothing.
  }
}

export let directory: string;
export let host: FakeHost;
export let guest: FakeGuest;
export let windows: WaylandWindows;
export let output: WaylandOutput;
export let bridge: Bridge;
export let log: string[];
let stack: Disposable[];

/** Gives each test of the file a directory for sockets, and disposes what it opens. */
export function useWindows(): void {
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'scanout-window-'));
    stack = [];
    log = [];
  });
  afterEach(() => {
    for (const made of stack.reverse()) made[Symbol.dispose]();
    rmSync(directory, { recursive: true });
    vi.useRealTimers();
  });
}

export function listen(options: FakeHostOptions = {}): FakeHost {
  host = new FakeHost(options);
  host.server.listen(join(directory, 'wayland'));
  stack.push(host);
  return host;
}

/** Opens windows on a fake compositor and shows a guest in them. Resolves when they are configured. */
export async function open(
  hostOptions: FakeHostOptions = {},
  options: WaylandWindowsOptions & {
    scanouts?: number;
    pngOf?: (scanout: number) => Promise<Uint8Array>;
    keepLast?: boolean;
    input?: GuestInput;
    onLog?: Log;
  } = {},
): Promise<void> {
  listen(hostOptions);
  windows = await WaylandWindows.open({
    socket: join(directory, 'wayland'),
    log: (_, message) => log.push(message),
    ...options,
  });
  stack.push(windows);
  const outputs = windows.openOutputs(options.scanouts ?? 1, options.pngOf);
  output = outputs[0]!;
  guest = new FakeGuest();
  bridge = new Bridge(guest, {
    log: (level, message) => {
      log.push(message);
      options.onLog?.(level, message);
    },
    zeroCopy: 'off',
    keepLast: options.keepLast ?? false,
    ...(options.input && { input: options.input }),
  });
  stack.push(bridge);
  outputs.forEach((each, index) => bridge.show(index, each, index === 0 ? {} : { keepLast: false }));
  // The first commits, of the configured size.
  let desynchronized = 0;
  await host.server.first('wl_subsurface.set_desync', () => ++desynchronized === 2, 0);
}

export function picture(width = WIDTH, height = HEIGHT, format = DRM_FORMAT.XRGB8888): GuestPicture {
  const made = new GuestPicture(width, height, format);
  stack.push(made);
  return made;
}

/** Resolves when everything that was on its way has arrived, on both sides. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 2; i++) await windows.roundtrip();
}

/** Resolves with the next commit of a picture. */
export function nextPicture(): Promise<FakeRequest> {
  const isPicture = ({ object }: FakeRequest): boolean =>
    object === host.picture && Boolean(host.committed.get(host.picture)?.buffer);
  return host.server.first('wl_surface.commit', isPicture);
}

/**
 * Shows a picture, and resolves with its commit when its flush is done. A window whose last frame was shown late, on a busy
 * machine, counts as hidden, and commits nothing until the compositor draws it again: so that happens first.
 */
export async function showPicture(framebuffer: Framebuffer, scanout = 0): Promise<FakeRequest> {
  host.repaint();
  guest.show(framebuffer, scanout);
  const commit = nextPicture();
  const done = guest.flush(0, 0, framebuffer.width, framebuffer.height, scanout);
  const committed = await commit;
  host.repaint();
  await done;
  return committed;
}
