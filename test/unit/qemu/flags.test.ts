import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { dbusFlags, qemuFlags, shellLines } from '../../../src/qemu/flags.ts';
import { UsageError } from '../../../src/core/errors.ts';
import { skipWithoutProgram } from '../../rig/skip.ts';

const GIB = 2 ** 30;
const QEMU = 'qemu-system-x86_64';

test('qemuFlags: gives the flags for vhost-user-gpu-pci', () => {
  expect(shellLines(qemuFlags({ socket: '/tmp/gpu.sock', memoryBytes: 2 * GIB, generic: false }))).toBe(
    [
      '-machine q35,memory-backend=mem \\',
      '-m 2G \\',
      '-object memory-backend-memfd,id=mem,size=2G,share=on \\',
      '-vga none \\',
      '-chardev socket,id=vg,path=/tmp/gpu.sock \\',
      '-device vhost-user-gpu-pci,chardev=vg',
    ].join('\n'),
  );
});

test('qemuFlags: gives the generic device the numbers of a virtio-gpu', () => {
  expect(qemuFlags({ socket: 's', memoryBytes: GIB, generic: true }).at(-1)).toEqual([
    '-device',
    'vhost-user-test-device-pci,virtio-id=16,num_vqs=2,config_size=16,vq_size=256,chardev=vg',
  ]);
});

test('qemuFlags: gives each input device its own socket', () => {
  expect(qemuFlags({ socket: 's', inputs: ['a', 'b,c'], memoryBytes: GIB, generic: false }).slice(6)).toEqual([
    ['-chardev', 'socket,id=vi0,path=a'],
    ['-device', 'vhost-user-input-pci,chardev=vi0'],
    ['-chardev', 'socket,id=vi1,path=b,,c'],
    ['-device', 'vhost-user-input-pci,chardev=vi1'],
  ]);
});

test('qemuFlags: gives the clipboard the port of the SPICE agent, which connects again', () => {
  expect(qemuFlags({ socket: 's', clipboard: 'c,d', memoryBytes: GIB, generic: false }).slice(6)).toEqual([
    ['-device', 'virtio-serial-pci,id=clipboard-bus'],
    ['-chardev', 'socket,id=clipboard,path=c,,d,reconnect-ms=1000'],
    ['-device', 'virtserialport,bus=clipboard-bus.0,chardev=clipboard,name=com.redhat.spice.0'],
  ]);
});

test('dbusFlags: gives a D-Bus display for one client, and the QMP socket to pass it by', () => {
  expect(dbusFlags('/run/a,b.qmp')).toEqual([
    ['-display', 'dbus,p2p=yes'],
    ['-chardev', 'socket,id=qmp-dbus,path=/run/a,,b.qmp,server=on,wait=off'],
    ['-mon', 'chardev=qmp-dbus,mode=control'],
  ]);
  expect(() => dbusFlags('')).toThrow(UsageError);
});

test('qemuFlags: gives memory in megabytes if it is not whole gigabytes', () => {
  expect(qemuFlags({ socket: 's', memoryBytes: 1.5 * GIB, generic: false })[1]).toEqual(['-m', '1536M']);
});

test.each([
  ['an empty socket path', { socket: '', memoryBytes: GIB }],
  ['a socket path that is too long', { socket: 'x'.repeat(108), memoryBytes: GIB }],
  ['an input device with an empty socket path', { socket: 's', inputs: [''], memoryBytes: GIB }],
  ['a clipboard with an empty socket path', { socket: 's', clipboard: '', memoryBytes: GIB }],
  ['a fraction of a megabyte', { socket: 's', memoryBytes: 4096 }],
])('qemuFlags: refuses %s', (_what, setup) => {
  expect(() => qemuFlags({ ...setup, generic: false })).toThrow(UsageError);
});

test.each(['/tmp/gpu.sock', '/tmp/with space', "/tmp/it's", '/tmp/$HOME`id`', '/tmp/a\nb'])(
  'shellLines: a shell parses a command line with the socket path %j back into the flags',
  (socket) => {
    const flags = qemuFlags({ socket, memoryBytes: GIB, generic: false });

    const seen = execFileSync('sh', ['-c', `printf '%s\\0' ${shellLines(flags)}`], { encoding: 'utf8' });

    expect(seen.split('\0').slice(0, -1)).toEqual(flags.flat());
  },
);

test('qemuFlags: doubles a comma in the path', () => {
  expect(qemuFlags({ socket: '/tmp/a,b', memoryBytes: GIB, generic: false })[4]).toEqual([
    '-chardev',
    'socket,id=vg,path=/tmp/a,,b',
  ]);
});

test.skipIf(skipWithoutProgram(QEMU))('qemuFlags: QEMU accepts the flags of vhost-user-gpu-pci', async () => {
  // Those of the generic device boot the guests of test/host/blobs.test.ts.
  const flags = qemuFlags({ socket: '/tmp/unused.sock', memoryBytes: GIB / 4, generic: false });
  // A null chardev: QEMU fails only after it has read all flags, when the device talks to it.
  const withoutSocket = flags.map(([flag, value]) => [flag, flag === '-chardev' ? 'null,id=vg' : value]);

  const run = promisify(execFile)(QEMU, ['-S', '-display', 'none', '-accel', 'tcg', ...withoutSocket.flat()]);

  await expect(run).rejects.toMatchObject({ stderr: expect.stringContaining('vhost_backend_init failed') as string });
});
