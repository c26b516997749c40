import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatVncAddress, isLocal, parseVncAddress } from '../../../../display/vnc/address.ts';
import { VncOutput, type VncOptions } from '../../../../display/vnc/output.ts';
import { eventually } from '../../../rig/eventually.ts';
import { freePort } from '../../../rig/free-port.ts';
import { RfbViewer } from '../../../rig/rfb-viewer.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { VncRig } from './rig.ts';

expectNoLeaks();

const MODE = { width: 64, height: 48 };

describe('parseVncAddress', () => {
  test.each([
    ['127.0.0.1:5900', true],
    ['127.8.9.1:1', true],
    ['[::1]:5900', true],
    ['0.0.0.0:5900', false],
    ['192.168.1.5:65535', false],
    ['[::]:5900', false],
    ['[fe80::1]:5901', false],
    ['./vnc.sock', true],
    ['/run/vnc:1', true],
  ])('%s: only this machine can connect: %s', (text, local) => {
    const address = parseVncAddress(text)!;
    expect(formatVncAddress(address)).toBe(text);
    expect(isLocal(address)).toBe(local);
  });

  test('localhost is 127.0.0.1', () =>
    expect(parseVncAddress('localhost:5900')).toEqual({ host: '127.0.0.1', port: 5900 }));

  test.each([
    '',
    '5900',
    ':5900',
    'example.org:5900',
    '127.0.0.1',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    '::1:5900',
    '[127.0.0.1]:5900',
    '[::1]',
    '1.2.3:5',
    'a/\0',
  ])('refuses %j', (text) => expect(parseVncAddress(text)).toBeNull());
});

describe('VncOutput.open', () => {
  test('VncOutput: listens on a Unix socket that only its owner may open, and removes it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'vnc-'));
    const path = join(directory, 'vnc.sock');
    using output = await VncOutput.open({ ...MODE, address: { path } });
    expect(statSync(path).mode & 0o7777).toBe(0o600);
    output[Symbol.dispose]();
    expect(() => statSync(path)).toThrow();
    rmSync(directory, { recursive: true });
  });

  test('VncOutput: serves viewers by TCP, and says when another process has the port', async () => {
    const host = '127.0.0.1';
    const address = { host, port: await freePort(host) };
    using output = await VncOutput.open({ ...MODE, address });
    const viewer = await RfbViewer.connect(address, { speaksFirst: false });
    await viewer.update();
    expect([viewer.width, viewer.height]).toEqual([64, 48]);
    await expect(VncOutput.open({ ...MODE, address })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    viewer[Symbol.dispose]();
  });

  test.each<[string, Partial<VncOptions>, RegExp]>([
    [
      'an address that others can reach without a password',
      { address: { host: '0.0.0.0', port: 5900 } },
      /other machines/,
    ],
    ['an empty password', { password: '' }, /1 to 8 bytes/],
    ['a password that VNC would cut', { password: '123456789' }, /1 to 8 bytes/],
    ['a mode without pixels', { width: 0 }, /screen size/],
  ])('VncOutput: refuses %s', async (_what, options, message) => {
    await expect(VncOutput.open({ ...MODE, address: { path: '/nowhere/vnc.sock' }, ...options })).rejects.toThrow(
      message,
    );
  });

  test('VncOutput: says loudly that others can connect', async () => {
    const host = '0.0.0.0';
    const messages: string[] = [];
    const address = { host, port: await freePort(host) };
    using output = await VncOutput.open({
      ...MODE,
      address,
      password: 'secret',
      log: (level, message) => messages.push(`${level} ${message}`),
    });
    expect(messages[0]).toMatch(/^warn .*ANYONE .*NOT ENCRYPTED/);
    output[Symbol.dispose]();
  });
});

describe('VncOutput with a password', () => {
  test.each(['003.008', '003.007', '003.003'])(
    'VncOutput: lets in a viewer of version %s that knows it',
    async (version) => {
      using rig = await VncRig.open({ password: 'sesame' });
      const viewer = await rig.connect({ password: 'sesame', version });
      expect([viewer.width, viewer.height]).toEqual([64, 48]);
    },
  );

  test('VncOutput: refuses a viewer that does not know it, and says so', async () => {
    using rig = await VncRig.open({ password: 'sesame' });
    await expect(rig.connect({ password: 'sesam' })).rejects.toThrow('the password is wrong');
    await eventually(() =>
      expect(rig.messages).toEqual([expect.stringContaining('disconnected a viewer: the password is wrong')]),
    );
    expect(rig.output.stats.viewers).toBe(0);
  });
});
