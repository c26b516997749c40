import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VhostUserGuest } from '../../../../src/guest/vhost-user/guest.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { listenUnix } from '../../../../src/sys/socket.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vhost-user-guest-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

describe('VhostUserGuest.open', () => {
  test('closes the given descriptor if the number of scanouts is refused', () => {
    const socket = listenUnix(join(directory, 'socket'));
    expect(() => VhostUserGuest.open({ socket, scanouts: 99 })).toThrow(expect.objectContaining({ code: 'usage' }));
    expect(() => socket.fd).toThrow();
  });

  test('closes the given descriptor if it is not a socket', () => {
    const file = createMemfd('no socket', 1);
    expect(() => VhostUserGuest.open({ socket: file })).toThrow('ENOTSOCK');
    expect(() => file.fd).toThrow();
  });
});
