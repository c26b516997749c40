import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { keyOfKeysym } from '../../../protocols/keysyms.ts';
import { keyOfQnum } from '../../../protocols/qemu-display1.ts';
import { skipBecause } from '../../rig/skip.ts';

/** QEMU's keymap of a US keyboard: `exclam 0x02 shift`. */
const KEYMAP = '/usr/share/qemu/keymaps/en-us';
const HEADER = '/usr/include/X11/keysymdef.h';
const missing = [KEYMAP, HEADER].filter((path) => !existsSync(path));
const isSkipped =
  missing.length > 0 && skipBecause(`no ${missing.join(' and no ')}: run sh test/rig/install.sh as root`);

describe.skipIf(isSkipped)("keyOfKeysym against QEMU's keymap and the header of X11", () => {
  const numbers = new Map<string, number>();
  for (const [, name, value] of readFileSync(HEADER, 'utf8').matchAll(/^#define XK_(\w+)\s+(0x[0-9a-f]+)/gm))
    numbers.set(name!, Number(value));
  /** By keysym, the keys that have it: a symbol may be on several. */
  const keys = new Map<number, Set<number>>();
  for (const [, name, qnum] of readFileSync(KEYMAP, 'utf8').matchAll(/^(\w+) (0x[0-9a-f]+)(?! altgr)/gm)) {
    const keysym = numbers.get(name!);
    if (keysym !== undefined) keys.set(keysym, (keys.get(keysym) ?? new Set()).add(keyOfQnum(Number(qnum))));
  }

  test('knows each keysym of a US keyboard, by a key that has it', () => {
    expect(keys.size).toBeGreaterThan(150);
    const wrong = [...keys].filter(([keysym, codes]) => !codes.has(keyOfKeysym(keysym)));
    const names = new Map([...numbers].map(([name, value]) => [value, name]));
    // It needs AltGr.
    expect(wrong.map(([keysym]) => names.get(keysym))).toEqual(['brokenbar']);
  });
});
