import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VhostUserInput } from '../../../../src/guest/vhost-user/input.ts';
import { listenUnix } from '../../../../src/sys/socket.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vhost-user-input-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

describe('VhostUserInput.serve', () => {
  test('serves one socket for each kind', () => {
    using input = VhostUserInput.open();
    input.serve('keyboard-pointer', join(directory, 'keyboard'));
    input.serve('touch', join(directory, 'touch'));
    expect(['keyboard', 'touch'].map((name) => existsSync(join(directory, name)))).toEqual([true, true]);
  });

  test('refuses a second socket for the same kind and closes it', () => {
    using input = VhostUserInput.open();
    input.serve('touch', join(directory, 'first'));
    const second = listenUnix(join(directory, 'second'));
    expect(() => input.serve('touch', second)).toThrow(expect.objectContaining({ code: 'usage' }));
    expect(() => second.fd).toThrow();
    expect(() => input.serve('touch', join(directory, 'third'))).toThrow(expect.objectContaining({ code: 'usage' }));
    expect(existsSync(join(directory, 'third'))).toBe(false);
  });

  test('can be called again for a kind whose socket could not be opened', () => {
    using input = VhostUserInput.open();
    expect(() => input.serve('touch', join(directory, 'missing', 'socket'))).toThrow('ENOENT');
    input.serve('touch', join(directory, 'socket'));
    expect(existsSync(join(directory, 'socket'))).toBe(true);
  });
});
