/**
 * A shared clipboard between programs that are not ours: the stock SPICE agent with an X server as the guest, and
 * wl-clipboard on sway as the desktop.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KEY } from '../../protocols/input-event-codes.ts';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { shareClipboard } from '../../src/core/clipboard.ts';
import { VdagentClipboard } from '../../src/guest/vdagent/clipboard.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { eventually } from '../rig/eventually.ts';
import { mappingCount, openFds } from '../rig/process-resources.ts';
import { Sway, skipWithoutSway } from '../rig/sway.ts';
import { VirtualInput } from '../rig/virtual-input.ts';
import { output, skipWithoutAgent, XAgent } from '../rig/x-agent.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import { FakeGuest } from '../unit/display/wayland/window-rig.ts';

const TEXT = 'UTF8_STRING';
/** Longer than a pipe and many chunks; what is in it does not matter. */
const PNG = Buffer.alloc(700_001, 'not really a picture');

describe.skipIf(skipWithoutSway() || skipWithoutAgent())('a clipboard shared between spice-vdagent and sway', () => {
  const log: string[] = [];
  const programs: { program: ChildProcess; closed: Promise<unknown> }[] = [];
  let before: { fds: number; mappings: number };
  let sway: Sway;
  let agent: XAgent;
  let guest: VdagentClipboard;
  let input: VirtualInput;
  let stack: DisposableStack;

  beforeAll(async () => {
    before = { fds: openFds().size, mappings: mappingCount() };
    agent = new XAgent();
    sway = await Sway.start(640, 480);
    stack = new DisposableStack();
    input = stack.use(await VirtualInput.plug(sway.socket));
    const add = (level: string, message: string): void => void log.push(`${level} ${message}`);
    guest = stack.use(VdagentClipboard.open({ socket: agent.port, log: add }));
    const source = new FakeGuest();
    const shown = stack.use(new GuestPicture(64, 64));
    const bridge = new Bridge(source, { zeroCopy: 'off' });
    const windows = stack.use(await WaylandWindows.open({ socket: sway.socket, shareClipboard: true, log: add }));
    stack.use(bridge);
    stack.use(shareClipboard(guest, windows.clipboard!));
    bridge.show(0, windows.openOutputs(1, () => Promise.resolve(PNG.subarray(2)))[0]!);
    source.show(shown.framebuffer);
    await source.flush(0, 0, 64, 64);
    await agent.start();
    await eventually(() => expect(guest.stats).toEqual({ connected: true, agent: true }));
    await press();
  }, 120_000);

  afterAll(async () => {
    stack[Symbol.dispose]();
    for (const { program, closed } of programs) {
      program.kill();
      await closed;
    }
    await agent[Symbol.asyncDispose]();
    await sway[Symbol.asyncDispose]();
    expect({ fds: openFds().size, mappings: mappingCount() }).toEqual(before);
  });

  /** A key in the window, by which the compositor knows that its user is there. */
  async function press(...modifiers: readonly number[]): Promise<void> {
    const keys = [...modifiers, KEY.C];
    for (const isDown of [true, false]) for (const key of keys) input.keyboard.key(key, isDown);
    await input.sent();
  }

  const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], WAYLAND_DISPLAY: sway.socket });

  function desktopPastes(type: string): Promise<Buffer> {
    return output('wl-paste', ['--no-newline', '--type', type], environment());
  }

  /** The program stays, as others do that have copied something. */
  function desktopCopies(type: string, data: Uint8Array): void {
    const args = ['--pdeathsig', 'KILL', 'wl-copy', '--foreground', '--type', type];
    const program = spawn('setpriv', args, { env: environment(), stdio: ['pipe', 'ignore', 'ignore'] });
    programs.push({ program, closed: once(program, 'close') });
    program.stdin.end(data);
  }

  /** `paste` until it gives `wanted`: the one that copies is not told when the other end has it. */
  function expectPasted(paste: () => Promise<Buffer>, wanted: Uint8Array): Promise<void> {
    return eventually(async () => expect((await paste()).equals(wanted)).toBe(true));
  }

  test.each([
    ['text', TEXT, 'text/plain;charset=utf-8', Buffer.from('größer als\nzuvor')],
    ['a picture', 'image/png', 'image/png', PNG],
  ])(
    '%s: what a program of the guest copies, one of the desktop pastes',
    { timeout: 120_000 },
    async (_, x, wayland, data) => {
      await press();
      agent.copy(x, data);
      await expectPasted(() => desktopPastes(wayland), data);
    },
  );

  test.each([
    ['text', TEXT, 'text/plain;charset=utf-8', Buffer.from('kleiner als\nzuvor')],
    ['a picture', 'image/png', 'image/png', PNG.subarray(1)],
  ])(
    '%s: what a program of the desktop copies, one of the guest pastes',
    { timeout: 120_000 },
    async (_, x, wayland, data) => {
      desktopCopies(wayland, data);
      await expectPasted(() => agent.paste(x), data);
    },
  );

  test('Ctrl+Alt+C: a program of the desktop pastes the picture of the window', { timeout: 120_000 }, async () => {
    await press(KEY.LEFTCTRL, KEY.LEFTALT);
    await expectPasted(() => desktopPastes('image/png'), PNG.subarray(2));
  });

  test('nothing was refused or lost meanwhile', () => {
    expect(log.filter((line) => !line.startsWith('info'))).toEqual([]);
    expect(guest.stats).toEqual({ connected: true, agent: true });
  });
});
