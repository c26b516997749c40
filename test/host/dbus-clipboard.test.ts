/**
 * A clipboard shared between programs that are not ours: sway's, by wl-clipboard, and that of QEMU, which has it from the
 * stock SPICE agent with an X server. The guest only connects the agent to QEMU.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KEY } from '../../protocols/input-event-codes.ts';
import { requestStats } from '../../src/control/client.ts';
import { QemuProcess } from '../../src/qemu/process.ts';
import { eventually } from '../rig/eventually.ts';
import { guestKernel, initramfs, skipWithoutGuest } from '../rig/guest-image.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutSway, Sway } from '../rig/sway.ts';
import { VirtualInput } from '../rig/virtual-input.ts';
import { output, skipWithoutAgent, XAgent } from '../rig/x-agent.ts';

const TYPE = 'UTF8_STRING';
/** More than a pipe and a socket hold. */
const LONG = 'long '.repeat(100_000);

/** Joins its two ports. */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /dev
/bin/busybox mount -t devtmpfs dev /dev
exec 3<>/dev/vport0p1 4<>/dev/vport0p2
/bin/busybox cat <&3 >&4 &
exec /bin/busybox cat <&4 >&3
`;

describe.skipIf(skipWithoutGuest() || skipWithoutAgent() || skipWithoutSway())(
  "scanout run --guest qemu-dbus --clipboard, with QEMU's clipboard of a spice-vdagent, on sway",
  () => {
    const programs: { program: ChildProcess; closed: Promise<unknown> }[] = [];
    let directory: string;
    let agent: XAgent;
    let sway: Sway;
    let input: VirtualInput;
    let qemu: QemuProcess;
    let bridge: ScanoutRun;
    const at = (name: string): string => join(directory, name);

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'dbus-clipboard-'));
      const { kernel, modulesDir } = guestKernel();
      writeFileSync(at('initrd'), initramfs({ modulesDir, modules: [], init: INIT }));
      agent = new XAgent();
      sway = await Sway.start(800, 600);
      input = await VirtualInput.plug(sway.socket);
      qemu = new QemuProcess(
        'qemu-system-x86_64',
        [
          ...[
            '-nodefaults',
            '-no-user-config',
            '-accel',
            'tcg,tb-size=128',
            '-m',
            '256',
            '-machine',
            'q35',
            '-vga',
            'std',
          ],
          ...['-kernel', kernel, '-initrd', at('initrd'), '-append', 'quiet panic=-1 mitigations=off'],
          ...[
            '-display',
            'dbus,p2p=yes',
            '-qmp',
            `unix:${at('qmp')},server=on,wait=off`,
            '-device',
            'virtio-serial-pci',
          ],
          ...['-chardev', 'qemu-vdagent,id=vdagent,clipboard=on,mouse=off'],
          ...['-device', 'virtserialport,chardev=vdagent,name=com.redhat.spice.0'],
          ...['-chardev', `socket,id=agent,path=${agent.port},server=on,wait=off`],
          ...['-device', 'virtserialport,chardev=agent,name=agent'],
        ],
        [],
      );
      await eventually(() => expect(existsSync(at('qmp'))).toBe(true));
      await agent.start();
      bridge = await ScanoutRun.start(
        ...['--guest', `qemu-dbus:qmp=${at('qmp')}`, '--output', `wayland:${sway.socket}`, '--clipboard'],
        ...['--control', at('control')],
      );
      await eventually(async () =>
        expect(await requestStats(at('control'))).toMatchObject({ clipboard: { connected: true, agent: null } }),
      );
    }, 120_000);

    afterAll(async () => {
      await bridge.end('SIGTERM');
      for (const { program, closed } of programs) {
        program.kill();
        await closed;
      }
      await qemu.kill();
      await agent[Symbol.asyncDispose]();
      input[Symbol.dispose]();
      await sway[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true });
    });

    /** A key in the window, by which the compositor knows that its user is there. */
    async function press(): Promise<void> {
      for (const isDown of [true, false]) input.keyboard.key(KEY.LEFTCTRL, isDown);
      await input.sent();
    }

    const environment = (): NodeJS.ProcessEnv => ({ PATH: process.env['PATH'], WAYLAND_DISPLAY: sway.socket });

    /** The program stays, as others do that have copied something. */
    function desktopCopies(text: string): void {
      const args = ['--pdeathsig', 'KILL', 'wl-copy', '--foreground', '--type', 'text/plain;charset=utf-8'];
      const program = spawn('setpriv', args, { env: environment(), stdio: ['pipe', 'ignore', 'ignore'] });
      programs.push({ program, closed: once(program, 'close') });
      program.stdin.end(text);
    }

    async function guestCopies(text: string): Promise<void> {
      await press();
      agent.copy(TYPE, Buffer.from(text));
    }

    const desktopHas = (text: string): Promise<void> =>
      eventually(async () =>
        expect((await output('wl-paste', ['--no-newline'], environment())).toString() === text).toBe(true),
      );
    const guestHas = (text: string): Promise<void> =>
      eventually(async () => expect((await agent.paste(TYPE)).toString() === text).toBe(true));

    // First: what is copied before the agent has come is not shared.
    test('what a program of the desktop copies, one of the guest pastes', { timeout: 120_000 }, async () => {
      for (const text of ['kleiner als\nzuvor', LONG]) {
        desktopCopies(text);
        await guestHas(text);
      }
    });

    test('what a program of the guest copies, one of the desktop pastes', { timeout: 120_000 }, async () => {
      for (const text of ['größer als\nzuvor', LONG]) {
        await guestCopies(text);
        await desktopHas(text);
      }
    });

    test('both take turns', { timeout: 120_000 }, async () => {
      desktopCopies('first');
      await guestHas('first');
      await guestCopies('second');
      await desktopHas('second');
      desktopCopies('third');
      await guestHas('third');
    });
  },
);
