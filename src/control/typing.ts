/** Translates text and names of keys into key presses on a US keyboard. */
import { KEY, LED } from '../../protocols/input-event-codes.ts';
import { DisplayError } from '../../display/picture/errors.ts';

/** KEY_* codes, pressed in this order and released in reverse. */
export type Chord = readonly number[];

/** Rows of keys: their characters without and with Shift, and their codes. */
const CHARACTERS: readonly (readonly [plain: string, shifted: string, codes: readonly number[]])[] = [
  [
    '`1234567890-=',
    '~!@#$%^&*()_+',
    [KEY.GRAVE, KEY[1], KEY[2], KEY[3], KEY[4], KEY[5], KEY[6], KEY[7], KEY[8], KEY[9], KEY[0], KEY.MINUS, KEY.EQUAL],
  ],
  [
    'qwertyuiop[]\\',
    'QWERTYUIOP{}|',
    [
      KEY.Q,
      KEY.W,
      KEY.E,
      KEY.R,
      KEY.T,
      KEY.Y,
      KEY.U,
      KEY.I,
      KEY.O,
      KEY.P,
      KEY.LEFTBRACE,
      KEY.RIGHTBRACE,
      KEY.BACKSLASH,
    ],
  ],
  [
    "asdfghjkl;'",
    'ASDFGHJKL:"',
    [KEY.A, KEY.S, KEY.D, KEY.F, KEY.G, KEY.H, KEY.J, KEY.K, KEY.L, KEY.SEMICOLON, KEY.APOSTROPHE],
  ],
  ['zxcvbnm,./', 'ZXCVBNM<>?', [KEY.Z, KEY.X, KEY.C, KEY.V, KEY.B, KEY.N, KEY.M, KEY.COMMA, KEY.DOT, KEY.SLASH]],
  [' \n\t\b\x1b', '', [KEY.SPACE, KEY.ENTER, KEY.TAB, KEY.BACKSPACE, KEY.ESC]],
];

const CHORDS = new Map<string, Chord>(
  CHARACTERS.flatMap(([plain, shifted, codes]) => [
    ...Array.from(plain, (character, index) => [character, [codes[index]!]] as const),
    ...Array.from(shifted, (character, index) => [character, [KEY.LEFTSHIFT, codes[index]!]] as const),
  ]),
);

/** Names in addition to the kernel's. */
const ALIASES: Readonly<Record<string, number>> = {
  CTRL: KEY.LEFTCTRL,
  CONTROL: KEY.LEFTCTRL,
  SHIFT: KEY.LEFTSHIFT,
  ALT: KEY.LEFTALT,
  ALTGR: KEY.RIGHTALT,
  META: KEY.LEFTMETA,
  SUPER: KEY.LEFTMETA,
  WIN: KEY.LEFTMETA,
  ESCAPE: KEY.ESC,
  RETURN: KEY.ENTER,
  DEL: KEY.DELETE,
  INS: KEY.INSERT,
  PGUP: KEY.PAGEUP,
  PGDN: KEY.PAGEDOWN,
  PRINT: KEY.SYSRQ,
  PRINTSCREEN: KEY.SYSRQ,
};

const NAMES: ReadonlyMap<string, number> = new Map(Object.entries({ ...ALIASES, ...KEY }));

/** How many characters of a name may be wrong for it to be suggested. */
const MAX_TYPOS = 2;

/** The chords that type `text`; `leds` tells whether Caps Lock is on. Throws DisplayError `key` for a character that no key types. */
export function chordsOf(text: string, leds = 0): Chord[] {
  const isCaps = (leds & (1 << LED.CAPSL)) !== 0;
  return Array.from(text, (character, index) => {
    const typed = isCaps && /^[a-z]$/i.test(character) ? otherCase(character) : character;
    const chord = CHORDS.get(typed);
    if (!chord)
      throw new DisplayError(
        'key',
        `no key of a US keyboard types ${JSON.stringify(character)} (character ${index + 1} of the text); use ASCII, \\n, \\t, \\b and \\x1b`,
      );
    return chord;
  });
}

/** The chord of `ctrl+alt+F2`, `enter` or `?`: names of the kernel's KEY_* in any case, or characters. Throws DisplayError `key`. */
export function parseChord(keys: string): Chord {
  // A + at the end is a character: `ctrl++`.
  const names = keys === '+' ? ['+'] : keys.endsWith('++') ? [...keys.slice(0, -2).split('+'), '+'] : keys.split('+');
  return [...new Set(names.flatMap((name) => chordOf(name.trim(), keys)))];
}

function chordOf(name: string, keys: string): Chord {
  const code = NAMES.get(name.toUpperCase());
  if (code !== undefined) return [code];
  const chord = CHORDS.get(name);
  if (chord) return chord;
  const near = [...NAMES.keys()]
    .filter((known) => name.length > 1 && distance(known, name.toUpperCase()) <= MAX_TYPOS)
    .map((known) => known.toLowerCase());
  const advice =
    near.length > 0
      ? `did you mean ${near.slice(0, 4).join(', ')}?`
      : 'names are those of linux/input-event-codes.h without KEY_, such as enter, f2, pageup, leftctrl; or one character';
  throw new DisplayError('key', `press '${keys}': no key is called '${name}': ${advice}`);
}

function otherCase(letter: string): string {
  return letter === letter.toUpperCase() ? letter.toLowerCase() : letter.toUpperCase();
}

/** The Levenshtein distance: how many characters to add, remove or replace to turn one text into the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j++)
      row.push(Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
  }
  return row[b.length]!;
}
