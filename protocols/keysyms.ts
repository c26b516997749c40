/** X11/keysymdef.h: numbers of what a key means, and the key of a US keyboard that means it. */
import { KEY } from './input-event-codes.ts';

/** Rows of keys: their characters without and with Shift, which are keysyms in ASCII, and the first of their codes. */
const ROWS: readonly (readonly [plain: string, shifted: string, first: number])[] = [
  ['1234567890-=', '!@#$%^&*()_+', KEY[1]],
  ['qwertyuiop[]', 'QWERTYUIOP{}', KEY.Q],
  ["asdfghjkl;'`", 'ASDFGHJKL:"~', KEY.A],
  ['\\zxcvbnm,./', '|ZXCVBNM<>?', KEY.BACKSLASH],
  [' ', '', KEY.SPACE],
];

/** Keysyms that follow one another, as their keys do. */
const RANGES: readonly (readonly [first: number, last: number, code: number])[] = [
  [0xffbe, 0xffc7, KEY.F1],
  [0xffc8, 0xffc9, KEY.F11],
  [0xffca, 0xffd5, KEY.F13],
];

const SINGLE: readonly (readonly [keysym: number, code: number])[] = [
  [0xff08, KEY.BACKSPACE],
  [0xff09, KEY.TAB],
  [0xfe20, KEY.TAB], // ISO_Left_Tab: with Shift
  [0xff0a, KEY.LINEFEED],
  [0xff0d, KEY.ENTER],
  [0xff13, KEY.PAUSE],
  [0xff6b, KEY.PAUSE], // Break
  [0xff14, KEY.SCROLLLOCK],
  [0xff15, KEY.SYSRQ],
  [0xff61, KEY.SYSRQ], // Print
  [0xff62, KEY.SYSRQ], // Execute
  [0xff1b, KEY.ESC],
  [0xff23, KEY.HENKAN],
  [0xff22, KEY.MUHENKAN],
  [0xff25, KEY.HIRAGANA],
  [0xff27, KEY.KATAKANAHIRAGANA],
  [0xff50, KEY.HOME],
  [0xff51, KEY.LEFT],
  [0xff52, KEY.UP],
  [0xff53, KEY.RIGHT],
  [0xff54, KEY.DOWN],
  [0xff55, KEY.PAGEUP],
  [0xff56, KEY.PAGEDOWN],
  [0xff57, KEY.END],
  [0xff63, KEY.INSERT],
  [0xff65, KEY.UNDO],
  [0xff66, KEY.AGAIN],
  [0xff67, KEY.COMPOSE], // Menu
  [0xff68, KEY.FIND],
  [0xff69, KEY.STOP], // Cancel
  [0xff6a, KEY.HELP],
  [0xff7f, KEY.NUMLOCK],
  [0xff8d, KEY.KPENTER],
  [0xff95, KEY.KP7], // KP_Home
  [0xff96, KEY.KP4],
  [0xff97, KEY.KP8],
  [0xff98, KEY.KP6],
  [0xff99, KEY.KP2],
  [0xff9a, KEY.KP9],
  [0xff9b, KEY.KP3],
  [0xff9c, KEY.KP1],
  [0xff9d, KEY.KP5],
  [0xff9e, KEY.KP0],
  [0xff9f, KEY.KPDOT],
  [0xffaa, KEY.KPASTERISK],
  [0xffab, KEY.KPPLUS],
  [0xffac, KEY.KPDOT], // KP_Separator
  [0xffad, KEY.KPMINUS],
  [0xffae, KEY.KPDOT],
  [0xffaf, KEY.KPSLASH],
  [0xffb0, KEY.KP0],
  [0xffb1, KEY.KP1],
  [0xffb2, KEY.KP2],
  [0xffb3, KEY.KP3],
  [0xffb4, KEY.KP4],
  [0xffb5, KEY.KP5],
  [0xffb6, KEY.KP6],
  [0xffb7, KEY.KP7],
  [0xffb8, KEY.KP8],
  [0xffb9, KEY.KP9],
  [0xffbd, KEY.KPEQUAL],
  [0xffe1, KEY.LEFTSHIFT],
  [0xffe2, KEY.RIGHTSHIFT],
  [0xffe3, KEY.LEFTCTRL],
  [0xffe4, KEY.RIGHTCTRL],
  [0xffe5, KEY.CAPSLOCK],
  [0xffe7, KEY.LEFTALT], // Meta, which is Alt with Shift
  [0xffe8, KEY.RIGHTALT],
  [0xffe9, KEY.LEFTALT],
  [0xffea, KEY.RIGHTALT],
  [0xfe03, KEY.RIGHTALT], // ISO_Level3_Shift: AltGr
  [0xff7e, KEY.RIGHTALT], // Mode_switch
  [0xffeb, KEY.LEFTMETA], // Super
  [0xffec, KEY.RIGHTMETA],
  [0xffff, KEY.DELETE],
];

const keys = new Map<number, number>([
  ...ROWS.flatMap(([plain, shifted, first]) =>
    [plain, shifted].flatMap((row) =>
      Array.from(row, (character, index) => [character.charCodeAt(0), first + index] as const),
    ),
  ),
  ...RANGES.flatMap(([first, last, code]) =>
    Array.from({ length: last - first + 1 }, (_, index) => [first + index, code + index] as const),
  ),
  ...SINGLE,
]);

/** The kernel's KEY_* of the key that has this keysym on a US keyboard, with Shift or without; 0 if none has. */
export function keyOfKeysym(keysym: number): number {
  return keys.get(keysym) ?? 0;
}
