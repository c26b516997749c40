/** Windows on Mutter, GNOME's compositor, which draws no title bars: ours are operated by its pointer and keyboard. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { XdgToplevel } from '../../display/wayland/client/index.ts';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { BTN, KEY } from '../../protocols/input-event-codes.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import type { GuestInput } from '../../src/core/input.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { Mutter, skipWithoutMutter } from '../rig/mutter.ts';
import { mappingCount, openFds } from '../rig/process-resources.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { SinkLog } from '../unit/display/wayland/sink-log.ts';
import { FakeGuest } from '../unit/display/wayland/window-rig.ts';

const SCREEN = { width: 1280, height: 800 };
const [WIDTH, HEIGHT, BAR] = [400, 300, 32];

/** Notices where the host's pointer is in the guest's picture. */
class GuestLog extends SinkLog implements GuestInput {
  scanoutSized = (): void => undefined;
  #waiting: ((position: { x: number; y: number }) => void)[] = [];

  /** Resolves with the next position. */
  next(): Promise<{ x: number; y: number }> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  override pointerMovedTo = (_scanout: number, x: number, y: number): void => {
    for (const resolve of this.#waiting.splice(0)) resolve({ x, y });
  };
}

describe.skipIf(skipWithoutMutter())('WaylandOutput on Mutter', () => {
  let mutter: Mutter;
  let stack: DisposableStack;
  let windows: WaylandWindows;
  let guest: FakeGuest;
  let input: GuestLog;
  let closed: Promise<void>;
  let before: { fds: number; mappings: number };

  beforeEach(async () => {
    mutter = await Mutter.start(SCREEN.width, SCREEN.height);
    before = { fds: openFds().size, mappings: mappingCount(/scanout-window/) };
    stack = new DisposableStack();
    let close = (): void => undefined;
    closed = new Promise((resolve) => (close = resolve));
    windows = stack.use(await WaylandWindows.open({ socket: mutter.socket, onClosed: () => close() }));
    guest = new FakeGuest();
    input = new GuestLog();
    const bridge = stack.use(new Bridge(guest, { zeroCopy: 'off', input }));
    bridge.show(0, windows.openOutputs(1)[0]!);
    await show(WIDTH, HEIGHT);
  });

  afterEach(async () => {
    stack[Symbol.dispose]();
    expect({ fds: openFds().size, mappings: mappingCount(/scanout-window/) }).toEqual(before);
    await mutter[Symbol.asyncDispose]();
  });

  /** Two frames, the second of which is drawn when the first is on screen. */
  async function show(width: number, height: number): Promise<void> {
    for (let i = 0; i < 2; i++) {
      const shown = stack.use(new GuestPicture(width, height));
      shown.noise(i);
      guest.show(shown.framebuffer);
      await guest.flush(0, 0, width, height);
    }
  }

  async function positionAt(x: number, y: number): Promise<{ x: number; y: number }> {
    const told = input.next();
    await mutter.moveTo(x, y);
    return told;
  }

  /**
   * Where the guest's picture begins on the screen: Mutter tells no client, but the guest hears of the pointer. While
   * Mutter still animates a window that has opened, two places on it are not as far apart as on the screen.
   */
  async function origin(): Promise<{ x: number; y: number }> {
    for (;;) {
      // Mutter places the first window at the top left.
      const first = await positionAt(200, 200);
      const second = await positionAt(240, 230);
      if (second.x - first.x === 40 && second.y - first.y === 30) return { x: 200 - first.x, y: 200 - first.y };
    }
  }

  async function click(x: number, y: number): Promise<void> {
    await mutter.moveTo(x, y);
    await mutter.button(BTN.LEFT, true);
    await mutter.button(BTN.LEFT, false);
  }

  /** Moves on when Mutter has heard that our window wishes to be moved or resized: it ignores a wish that comes late. */
  async function drag(wish: 'move' | 'resize', x: number, y: number, dx: number, dy: number): Promise<void> {
    await mutter.moveTo(x, y);
    const wished = vi.spyOn(XdgToplevel.prototype, wish);
    await mutter.button(BTN.LEFT, true);
    while (wished.mock.calls.length === 0) await windows.roundtrip();
    await windows.roundtrip();
    wished.mockRestore();
    await mutter.move(dx / 2, dy / 2);
    await mutter.move(dx / 2, dy / 2);
    await mutter.button(BTN.LEFT, false);
  }

  test('moves by its title bar', async () => {
    const start = await origin();
    await drag('move', start.x + 100, start.y - BAR / 2, 60, 40);
    const end = await origin();
    expect([end.x - start.x, end.y - start.y]).toEqual([60, 40]);
  });

  test('is resized at its edges, and the guest is told', async () => {
    const { x, y } = await origin();
    const told = guest.nextMonitor();
    await drag('resize', x + WIDTH + 3, y + HEIGHT + 3, 100, 50);
    expect(await told).toMatchObject({ width: WIDTH + 100, height: HEIGHT + 50 });
  });

  test('fills the screen below its bar when maximised by its button, and all of it by Ctrl+Alt+F', async () => {
    const { x, y } = await origin();
    const maximized = guest.nextMonitor();
    await click(x + WIDTH - 48, y - BAR / 2);
    expect(await maximized).toMatchObject({ width: SCREEN.width, height: SCREEN.height - BAR });
    const whole = guest.nextMonitor();
    // Mutter has a keyboard from the first key on, which no client hears.
    while (!input.lines.includes(`key ${KEY.A} up`)) await mutter.keys(KEY.A);
    await mutter.keys(KEY.LEFTCTRL, KEY.LEFTALT, KEY.F);
    expect(await whole).toMatchObject(SCREEN);
  });

  test('closes by its button', async () => {
    const { x, y } = await origin();
    await click(x + WIDTH - 10, y - BAR / 2);
    await closed;
  });
});
