/**
 * A clipboard shared between two desktops that are not ours: Xorg in a guest with the stock SPICE agent, on the GPU of
 * `scanout run`, and sway, whose window shows it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KEY } from '../../protocols/input-event-codes.ts';
import { requestStats } from '../../src/control/client.ts';
import { eventually } from '../rig/eventually.ts';
import { bootGuest, type Guest } from '../rig/guest.ts';
import { cacheDir, skipWithoutGuest } from '../rig/guest-image.ts';
import { buildScanout, ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';
import { VirtualInput } from '../rig/virtual-input.ts';
import { output, skipWithoutAgent } from '../rig/x-agent.ts';

const XORG = '/usr/lib/xorg/Xorg';
const PICTURE = readFileSync(join(import.meta.dirname, '../../fixtures/console.png'));

/** Xorg, and the SPICE agent on its port, as a desktop starts them; a guest without udev has no link to that port. */
const DESKTOP = `mount -t tmpfs tmp /tmp
export DISPLAY=:0 HOME=/tmp
${XORG} :0 -noreset -nolisten tcp -logfile /run/xorg.log -config /run/none vt1 >/run/xorg.out 2>&1 &
until [ -e /tmp/.X11-unix/X0 ]; do kill -0 $! || { cat /run/xorg.out; exit 1; }; sleep 0.2; done
port=/dev/$(basename $(dirname $(grep -l com.redhat.spice.0 /sys/class/virtio-ports/*/name)))
spice-vdagentd -x -X -f -u /dev/null -s $port -S /run/agent >/run/daemon.log 2>&1 &
until [ -e /run/agent ]; do sleep 0.2; done
spice-vdagent -x -s $port -S /run/agent >/run/agent.log 2>&1 &`;

describe.skipIf(skipWithoutGuest(XORG) || skipWithoutAgent() || skipWithoutSway())(
  'scanout run --clipboard vdagent, with Xorg and spice-vdagent in a real guest, on sway',
  () => {
    const programs: { program: ChildProcess; closed: Promise<unknown> }[] = [];
    let directory: string;
    /** Files here have the same paths in the guest, whose /tmp is its own. */
    let shared: string;
    let sway: Sway;
    let input: VirtualInput;
    let bridge: ScanoutRun;
    let guest: Guest;
    const at = (name: string): string => join(directory, name);

    beforeAll(async () => {
      buildScanout();
      directory = mkdtempSync(join(tmpdir(), 'clipboard-guest-'));
      shared = mkdtempSync(join(cacheDir, 'clipboard-'));
      sway = await Sway.start(800, 600);
      input = await VirtualInput.plug(sway.socket);
      bridge = await ScanoutRun.start(
        ...['--guest', `vhost-user:${at('gpu')}`, '--output', `wayland:${sway.socket}`, '--control', at('control')],
        ...['--clipboard', `vdagent:${at('clipboard')}`],
      );
      guest = await bootGuest({
        gpu: { kind: 'vhost-user', socket: at('gpu') },
        extraQemuArgs: [
          ...['-chardev', `socket,id=clipboard,path=${at('clipboard')}`],
          ...['-device', 'virtserialport,chardev=clipboard,name=com.redhat.spice.0'],
        ],
      });
      await guest.run(DESKTOP);
      await eventually(async () =>
        expect(await requestStats(at('control'))).toMatchObject({ clipboard: { connected: true, agent: true } }),
      );
    }, 600_000);

    afterAll(async () => {
      for (const { program, closed } of programs) {
        program.kill();
        await closed;
      }
      await guest[Symbol.asyncDispose]();
      await bridge.end('SIGTERM');
      input[Symbol.dispose]();
      await sway[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
      rmSync(shared, { recursive: true });
    });

    const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], WAYLAND_DISPLAY: sway.socket });
    const file = (data: Uint8Array): string => {
      const path = join(shared, String(Math.random()));
      writeFileSync(path, data);
      return path;
    };

    test.each([
      ['text', 'UTF8_STRING', 'text/plain;charset=utf-8', Buffer.from('größer als\nzuvor')],
      ['a picture', 'image/png', 'image/png', PICTURE],
    ])('%s: what a program of the guest copies, one of the desktop pastes', async (_, x, wayland, data) => {
      // A key in the window, by which the compositor knows that its user is there.
      for (const isDown of [true, false]) input.keyboard.key(KEY.LEFTCTRL, isDown);
      await input.sent();
      await guest.run(`xclip -selection clipboard -t ${x} -i ${file(data)} >/dev/null 2>&1`);

      await eventually(async () => {
        const pasted = await output('wl-paste', ['--no-newline', '--type', wayland], environment());
        expect(pasted.equals(data)).toBe(true);
      });
    });

    test.each([
      ['text', 'UTF8_STRING', 'text/plain;charset=utf-8', Buffer.from('kleiner als\nzuvor')],
      ['a picture', 'image/png', 'image/png', Buffer.concat([PICTURE, PICTURE])],
    ])('%s: what a program of the desktop copies, one of the guest pastes', async (_, x, wayland, data) => {
      const args = ['--pdeathsig', 'KILL', 'wl-copy', '--foreground', '--type', wayland];
      const program = spawn('setpriv', args, { env: environment(), stdio: ['pipe', 'ignore', 'ignore'] });
      programs.push({ program, closed: once(program, 'close') });
      program.stdin.end(data);

      const path = file(data);
      await eventually(() => guest.run(`xclip -selection clipboard -t ${x} -o | cmp - ${path}`));
    });
  },
);
