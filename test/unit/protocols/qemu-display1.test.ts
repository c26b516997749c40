import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { KEY_MICMUTE } from '../../../protocols/input-event-codes.ts';
import { keyOfQnum, qnumOf } from '../../../protocols/qemu-display1.ts';
import { skipBecause } from '../../rig/skip.ts';

/** QEMU's keymaps, generated from its own key data: each key's number in the kernel and in QEMU is in a comment. */
const KEYMAPS = '/usr/share/qemu/keymaps';
const isSkipped = !existsSync(KEYMAPS) && skipBecause('QEMU has no keymaps here: run sh test/rig/install.sh as root');

describe.skipIf(isSkipped)('qnumOf against the keymaps of QEMU', () => {
  const numbers = new Map<number, number>();
  for (const name of readdirSync(KEYMAPS)) {
    const text = readFileSync(`${KEYMAPS}/${name}`, 'utf8');
    for (const [, key, qnum] of text.matchAll(/^# evdev (\d+) .*, number (0x[0-9a-f]+)/gm))
      numbers.set(Number(key), Number(qnum));
  }

  test('gives every key that QEMU knows its number', () => {
    expect(numbers.size).toBeGreaterThan(130);
    expect([...numbers.keys()].map((key) => [key, qnumOf(key)])).toEqual([...numbers]);
  });

  test('keyOfQnum gives the key back, and nothing for other numbers', () => {
    expect([...numbers.values()].map(keyOfQnum)).toEqual([...numbers.keys()]);
    const known = new Set(numbers.values());
    const others = Array.from({ length: 256 }, (_, qnum) => qnum).filter((qnum) => !known.has(qnum));
    expect(others.filter((qnum) => keyOfQnum(qnum) !== 0)).toEqual([]);
  });

  test('gives no key a number of another key', () => {
    const keys = Array.from({ length: KEY_MICMUTE }, (_, index) => index + 1).filter((key) => qnumOf(key) !== 0);
    expect(new Set(keys.map(qnumOf)).size).toBe(keys.length);
    expect(keys.filter((key) => !numbers.has(key))).toEqual([]);
  });
});
