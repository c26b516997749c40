/** `scanout libvirt install` with a real libvirt of an ordinary user, which starts the back end for a real guest. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodePng } from '../../display/picture/png.ts';
import { eventually } from '../rig/eventually.ts';
import { filledScreen, fillingGuest, saidSize } from '../rig/filling-guest.ts';
import { skipWithoutGuest } from '../rig/guest-image.ts';
import { expectSamePicture, pictureWhen } from '../rig/picture.ts';
import { buildScanout, MAIN } from '../rig/scanout-run.ts';
import { skipBecause } from '../rig/skip.ts';

const LIBVIRTD = '/usr/sbin/libvirtd';
/** User id of `nobody`. */
const NOBODY = 65534;

function isLibvirtMissing(): boolean {
  if (!existsSync(LIBVIRTD) || !existsSync('/usr/bin/virsh'))
    return skipBecause('libvirt is not installed: run sh test/rig/install.sh as root');
  if (process.getuid!() !== 0) return skipBecause('starting libvirt as another user requires root');
  return false;
}

describe.skipIf(skipWithoutGuest() || isLibvirtMissing())('scanout libvirt with a real libvirt', () => {
  let dir: string;
  let env: NodeJS.ProcessEnv;
  let daemon: ChildProcess;
  let log = '';
  const file = (name: string) => join(dir, name);

  async function asUser(program: string, ...args: string[]): Promise<string> {
    return (await promisify(execFile)(program, args, { env, uid: NOBODY, gid: NOBODY, cwd: dir })).stdout;
  }
  const scanout = (...args: string[]) => asUser(process.execPath, MAIN, ...args);
  const virsh = (...args: string[]) => asUser('/usr/bin/virsh', '-c', 'qemu:///session', ...args);

  beforeAll(async () => {
    buildScanout();
    dir = mkdtempSync(join(tmpdir(), 'scanout-libvirt-'));
    for (const name of ['', 'run', 'config', 'config/libvirt']) {
      mkdirSync(file(name), { recursive: true, mode: 0o700 });
      chownSync(file(name), NOBODY, NOBODY);
    }
    env = {
      PATH: process.env['PATH'],
      HOME: dir,
      XDG_RUNTIME_DIR: file('run'),
      XDG_CONFIG_HOME: file('config'),
      XDG_DATA_HOME: file('data'),
      XDG_CACHE_HOME: file('cache'),
      // Else virsh starts a daemon of its own, which would outlive the test.
      LIBVIRT_AUTOSTART: '0',
    };
    // The console goes to a file without a second daemon.
    writeFileSync(file('config/libvirt/qemu.conf'), 'stdio_handler = "file"\n');
    const { kernel, initrd, append } = fillingGuest();
    copyFileSync(kernel, file('kernel'));
    writeFileSync(file('initrd'), initrd);
    const domain = (name: string, memory: string): string => `<domain type='qemu'>
        <name>${name}</name>
        <memory unit='MiB'>256</memory>
        <vcpu>2</vcpu>
        ${memory}
        <os>
          <type arch='x86_64' machine='q35'>hvm</type>
          <kernel>${file('kernel')}</kernel><initrd>${file('initrd')}</initrd><cmdline>${append}</cmdline>
        </os>
        <features><acpi/></features>
        <cpu mode='maximum'/>
        <devices>
          <serial type='file'><source path='${file('console')}'/></serial>
          <video><driver name='vhostuser'/><model type='virtio' heads='1'/></video>
          <memballoon model='none'/>
        </devices>
      </domain>`;
    const shared = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>";
    writeFileSync(file('domain.xml'), domain('shown', shared));
    writeFileSync(file('private.xml'), domain('private', ''));
    await scanout('libvirt', 'install', '--session', '--output', 'headless:1024x768');
    daemon = spawn('setpriv', ['--pdeathsig', 'TERM', LIBVIRTD, '--timeout', '600'], {
      env,
      uid: NOBODY,
      gid: NOBODY,
      cwd: dir,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [daemon.stdout!, daemon.stderr!]) stream.on('data', (text) => (log += String(text)));
    await eventually(async () => expect(await virsh('list').catch(() => log)).toContain('Id'));
  });
  afterAll(async () => {
    for (const name of ['shown', 'private']) await virsh('destroy', name).catch(() => undefined);
    const ended = once(daemon, 'close');
    daemon.kill('SIGTERM');
    await ended;
    rmSync(dir, { recursive: true, force: true });
  });

  test.each(['the first', 'the second'])(
    'shows the guest of %s start, and leaves nothing when it is destroyed',
    async () => {
      await virsh('create', file('domain.xml'));
      await eventually(() => expect(saidSize(readFileSync(file('console'), 'latin1'))).not.toBeNull());
      const expected = filledScreen(saidSize(readFileSync(file('console'), 'latin1'))!);
      expect(expected).toMatchObject({ width: 1024, height: 768 });
      const picture = await pictureWhen(
        async () => {
          await scanout('screenshot', file('screen.png'));
          return decodePng(readFileSync(file('screen.png')));
        },
        ({ data }) => data[0] === expected.data[0] && data.at(-2) === expected.data.at(-2),
      );
      expectSamePicture(picture, expected, 'libvirt');

      await virsh('destroy', 'shown');
      await eventually(() => expect(readdirSync(file('run'))).not.toContain('scanout-bridge.sock'));
      rmSync(file('console'));
    },
  );

  test('a domain whose memory is not shared shows nothing: its log says what it needs, and nothing is left', async () => {
    await virsh('create', file('private.xml'));
    const qemuLog = file('cache/libvirt/qemu/log/private.log');
    await eventually(() => expect(readFileSync(qemuLog, 'utf8')).toMatch(/vhost-user memory map, .*share=on/));
    await virsh('destroy', 'private');
    await eventually(() => expect(readdirSync(file('run'))).not.toContain('scanout-bridge.sock'));
  });
});
