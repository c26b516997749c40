/** `scanout run --guest qemu-dbus` in its sandbox, with a scripted QEMU: its QMP socket and its D-Bus display. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HeadlessOutput } from '../../../display/headless/output.ts';
import { PIXMAN_FORMAT } from '../../../protocols/pixman.ts';
import * as uapi from '../../../protocols/qemu-display1.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { ControlClient, requestScreenshot, requestStats } from '../../../src/control/client.ts';
import { Replay } from '../../../src/guest/replay/replay.ts';
import type { OwnedFd } from '../../../src/sys/fd.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { Poll } from '../../../src/sys/poll.ts';
import { acceptUnix, listenUnix, UnixConnection } from '../../../src/sys/socket.ts';
import { FakeVm } from '../guest/qemu-dbus/fake-vm.ts';
import { scanout, start } from './scanout.ts';
import { eventually } from '../../rig/eventually.ts';

const WIDTH = 32;
const HEIGHT = 16;

let directory: string;
const file = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'scanout-dbus-'));
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** QEMU's QMP socket, for one client after another: what add_client passes is a client of `vm`. */
class FakeQmp implements Disposable {
  readonly #listening: OwnedFd;
  readonly #accepting: Poll;
  #client: { readonly connection: UnixConnection; readonly poll: Poll } | null = null;
  readonly #vm: FakeVm;
  #passed: OwnedFd | null = null;
  readonly commands: string[] = [];
  /** How often it says that the guest has not read its keyboard. */
  unread = 0;

  constructor(path: string, vm: FakeVm) {
    this.#vm = vm;
    this.#listening = listenUnix(path);
    this.#accepting = Poll.readable(this.#listening, () => this.#accept());
  }

  [Symbol.dispose](): void {
    this.#close();
    this.#accepting[Symbol.dispose]();
    this.#listening[Symbol.dispose]();
  }

  #close(): void {
    this.#client?.poll[Symbol.dispose]();
    this.#client?.connection[Symbol.dispose]();
    this.#client = null;
  }

  #accept(): void {
    const socket = acceptUnix(this.#listening);
    if (!socket) return;
    this.#close();
    const connection = UnixConnection.adopt(socket);
    connection.send(Buffer.from('{"QMP": {"version": {}, "capabilities": []}}\r\n'));
    this.#client = { connection, poll: Poll.readable(connection, () => this.#read(connection)) };
  }

  #read(connection: UnixConnection): void {
    const bytes = Buffer.alloc(4096);
    const length = connection.recv(bytes, 0, bytes.length);
    if (length === 0) this.#close();
    if (length <= 0) return;
    const { execute, id } = JSON.parse(bytes.toString('utf8', 0, length)) as { execute: string; id: number };
    this.commands.push(execute);
    if (execute === 'getfd') this.#passed = connection.fds.shift() ?? null;
    if (execute === 'add_client') this.#vm.serve(this.#passed!);
    let answer = '{}';
    if (execute === 'human-monitor-command') {
      answer = `"portb[0x0064] = ${this.unread > 0 ? '0x1d' : '0x1c'}\\r\\n"`;
      this.unread = Math.max(0, this.unread - 1);
    }
    connection.send(Buffer.from(`{"return": ${answer}, "id": ${id}}\r\n`));
  }
}

/** What the VM was told of keys and the pointer. */
function inputOf(vm: FakeVm): string[] {
  return vm.calls.filter(([name]) => /^(Keyboard|Mouse)\./.test(name)).map((call) => call.join(' '));
}

test('scanout run: shows, operates and records a VM by its QMP socket from inside the sandbox, and finds it again', async () => {
  using vm = new FakeVm([{ label: 'VGA' }]);
  using qmp = new FakeQmp(file('qmp'), vm);
  const control = file('control.sock');
  const guest = `qemu-dbus:qmp=${file('qmp')}`;
  const output = `headless:${WIDTH}x${HEIGHT}`;
  const record = file('session.scanout');
  const bridge = start(['run', '--guest', guest, '--output', output, '--control', control, '--record', record]);
  let log = '';
  bridge.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text));
  try {
    for (const colour of [0x123456, 0x654321]) {
      await eventually(() => expect(vm.interfaces[0], log).toBeDefined());
      using memfd = createMemfd('surface', WIDTH * HEIGHT * 4, 0);
      using mapping = Mapping.file(memfd, 0, WIDTH * HEIGHT * 4, 'read-write');
      new Uint32Array(mapping.bytes.buffer).fill(colour);
      const rows = [WIDTH, HEIGHT, WIDTH * 4, PIXMAN_FORMAT.x8r8g8b8];
      await vm.call(0, uapi.LISTENER_MAP, 'ScanoutMap', 'huuuuu', [memfd, 0, ...rows]);
      await vm.call(0, uapi.LISTENER_MAP, 'UpdateMap', 'iiii', [0, 0, WIDTH, HEIGHT]);
      await eventually(async () => {
        const { data } = await requestScreenshot(control, { scanout: 0, cursor: false });
        expect([...data.subarray(0, 3)]).toEqual([colour >> 16, (colour >> 8) & 0xff, colour & 0xff]);
      });
      const stats = await requestStats(control);
      expect(stats).toMatchObject({
        guest: { kind: 'qemu-dbus', connected: true, vm: 'fake VM', consoles: [{ way: 'mapped' }] },
      });
      vm.calls.length = 0;
      const client = new ControlClient(control);
      qmp.unread = 3;
      await client.type('aB');
      expect(qmp.unread).toBe(0);
      await client.click(WIDTH - 1, 2, { button: 'right' });
      await client.touch({ x: 1, y: 1 });
      // KEY_A, KEY_LEFTSHIFT, KEY_B; the second button.
      expect(inputOf(vm)).toEqual([
        ...[30, 42, 48].map((key) => `Keyboard.Press ${key}`).toSpliced(1, 0, 'Keyboard.Release 30'),
        ...['Keyboard.Release 48', 'Keyboard.Release 42'],
        ...[`Mouse.SetAbsPosition ${WIDTH - 1} 2`, 'Mouse.Press 2', 'Mouse.Release 2'],
      ]);
      expect(vm.calls.filter(([name]) => name === 'MultiTouch.SendEvent').map(([, kind]) => kind)).toEqual([0, 2]);
      const { stdout } = await scanout('stats', '--control', control);
      expect(stdout).toContain('guest: connected, VM fake VM');
      vm[Symbol.dispose]();
    }
    expect(qmp.commands.slice(0, 3)).toEqual(['qmp_capabilities', 'getfd', 'add_client']);
    expect(log).toContain('the VM is gone; the last picture stays');
    const closed = once(bridge, 'close');
    bridge.kill('SIGTERM');
    await closed;
    using replay = Replay.open({ file: record, speed: 'fast' });
    expect(replay.monitors.get(0)).toMatchObject({ width: WIDTH, height: HEIGHT });
    using screen = HeadlessOutput.open({ width: WIDTH, height: HEIGHT });
    using played = new Bridge(replay);
    played.show(0, screen);
    expect(await replay.finished).toMatchObject({ errors: 0 });
    await screen.settled();
    expect([...screen.capture()!.data.subarray(0, 3)]).toEqual([0x65, 0x43, 0x21]);
  } finally {
    bridge.kill('SIGKILL');
  }
});

test.each([
  [['--input', 'vhost-user:/tmp/input.sock'], 'has its keyboard and pointer'],
  [['--output', 'vmm'], 'works only with --guest vhost-user'],
])('scanout run: refuses what a D-Bus display does not have: %s', async (args, reason) => {
  const { code, stderr } = await scanout('run', '--guest', 'qemu-dbus:qmp=/nowhere', ...args);
  expect(code).toBe(2);
  expect(stderr).toContain(reason);
});

test('scanout qemu-args --dbus: prints the flags, and refuses those of other guests', async () => {
  const printed = await scanout('qemu-args', '--dbus', '/run/vm.qmp');
  expect(printed.stdout).toContain('-display dbus,p2p=yes');
  expect((await scanout('qemu-args', '--dbus', '/run/vm.qmp', '--generic')).code).toBe(2);
  expect((await scanout('qemu-args')).stderr).toContain('--dbus');
});
