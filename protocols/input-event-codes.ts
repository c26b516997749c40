/**
 * linux/input-event-codes.h and linux/input.h: types and codes of the input events that this
 * project sends and receives.
 */
import { ior, iow } from './layout.ts';

/** Event types. */
export const EV = { SYN: 0x00, KEY: 0x01, REL: 0x02, ABS: 0x03, LED: 0x11, REP: 0x14 } as const;

/** Ends a group of events that happened together. */
export const SYN_REPORT = 0;

/* A keyboard's keys are numbered KEY_ESC to KEY_MICMUTE; the gaps do not matter. */
export const KEY_ESC = 1;
export const KEY_MICMUTE = 248;
export const KEY_CNT = 0x300;

/** KEY_*: the keys of a keyboard, named after the US layout, without those of remote controls. */
export const KEY = {
  ESC: 1,
  1: 2,
  2: 3,
  3: 4,
  4: 5,
  5: 6,
  6: 7,
  7: 8,
  8: 9,
  9: 10,
  0: 11,
  MINUS: 12,
  EQUAL: 13,
  BACKSPACE: 14,
  TAB: 15,
  Q: 16,
  W: 17,
  E: 18,
  R: 19,
  T: 20,
  Y: 21,
  U: 22,
  I: 23,
  O: 24,
  P: 25,
  LEFTBRACE: 26,
  RIGHTBRACE: 27,
  ENTER: 28,
  LEFTCTRL: 29,
  A: 30,
  S: 31,
  D: 32,
  F: 33,
  G: 34,
  H: 35,
  J: 36,
  K: 37,
  L: 38,
  SEMICOLON: 39,
  APOSTROPHE: 40,
  GRAVE: 41,
  LEFTSHIFT: 42,
  BACKSLASH: 43,
  Z: 44,
  X: 45,
  C: 46,
  V: 47,
  B: 48,
  N: 49,
  M: 50,
  COMMA: 51,
  DOT: 52,
  SLASH: 53,
  RIGHTSHIFT: 54,
  KPASTERISK: 55,
  LEFTALT: 56,
  SPACE: 57,
  CAPSLOCK: 58,
  F1: 59,
  F2: 60,
  F3: 61,
  F4: 62,
  F5: 63,
  F6: 64,
  F7: 65,
  F8: 66,
  F9: 67,
  F10: 68,
  NUMLOCK: 69,
  SCROLLLOCK: 70,
  KP7: 71,
  KP8: 72,
  KP9: 73,
  KPMINUS: 74,
  KP4: 75,
  KP5: 76,
  KP6: 77,
  KPPLUS: 78,
  KP1: 79,
  KP2: 80,
  KP3: 81,
  KP0: 82,
  KPDOT: 83,
  ZENKAKUHANKAKU: 85,
  '102ND': 86,
  F11: 87,
  F12: 88,
  RO: 89,
  KATAKANA: 90,
  HIRAGANA: 91,
  HENKAN: 92,
  KATAKANAHIRAGANA: 93,
  MUHENKAN: 94,
  KPJPCOMMA: 95,
  KPENTER: 96,
  RIGHTCTRL: 97,
  KPSLASH: 98,
  SYSRQ: 99,
  RIGHTALT: 100,
  LINEFEED: 101,
  HOME: 102,
  UP: 103,
  PAGEUP: 104,
  LEFT: 105,
  RIGHT: 106,
  END: 107,
  DOWN: 108,
  PAGEDOWN: 109,
  INSERT: 110,
  DELETE: 111,
  MACRO: 112,
  MUTE: 113,
  VOLUMEDOWN: 114,
  VOLUMEUP: 115,
  POWER: 116,
  KPEQUAL: 117,
  KPPLUSMINUS: 118,
  PAUSE: 119,
  SCALE: 120,
  KPCOMMA: 121,
  HANGEUL: 122,
  HANJA: 123,
  YEN: 124,
  LEFTMETA: 125,
  RIGHTMETA: 126,
  COMPOSE: 127,
  STOP: 128,
  AGAIN: 129,
  PROPS: 130,
  UNDO: 131,
  FRONT: 132,
  COPY: 133,
  OPEN: 134,
  PASTE: 135,
  FIND: 136,
  CUT: 137,
  HELP: 138,
  MENU: 139,
  F13: 183,
  F14: 184,
  F15: 185,
  F16: 186,
  F17: 187,
  F18: 188,
  F19: 189,
  F20: 190,
  F21: 191,
  F22: 192,
  F23: 193,
  F24: 194,
} as const;

export const BTN = {
  LEFT: 0x110,
  RIGHT: 0x111,
  MIDDLE: 0x112,
  SIDE: 0x113,
  EXTRA: 0x114,
  FORWARD: 0x115,
  BACK: 0x116,
  TASK: 0x117,
  /* Of a pen. */
  STYLUS3: 0x149,
  TOUCH: 0x14a,
  STYLUS: 0x14b,
  STYLUS2: 0x14c,
} as const;

/** The high-resolution wheels count 120 per notch. Up and right are positive. */
export const REL = { X: 0x00, Y: 0x01, HWHEEL: 0x06, WHEEL: 0x08, WHEEL_HI_RES: 0x0b, HWHEEL_HI_RES: 0x0c } as const;

/** The MT_* axes belong to the touch whose slot was selected last, by MT_SLOT. */
export const ABS = {
  X: 0x00,
  Y: 0x01,
  MT_SLOT: 0x2f,
  MT_POSITION_X: 0x35,
  MT_POSITION_Y: 0x36,
  MT_TOOL_TYPE: 0x37,
  MT_TRACKING_ID: 0x39,
} as const;

/** Values of ABS.MT_TOOL_TYPE. A touch that becomes PALM is cancelled. */
export const MT_TOOL = { FINGER: 0, PALM: 2, MAX: 0x0f } as const;

export const LED = { NUML: 0x00, CAPSL: 0x01, SCROLLL: 0x02, COMPOSE: 0x03, KANA: 0x04 } as const;

/** The device is a touchscreen: touches are on the picture itself. */
export const INPUT_PROP_DIRECT = 1;

/** ioctl of a device: the clock of its events' times. */
export const EVIOCSCLOCKID = iow('E', 0xa0, { size: 4 });
/** Every ioctl that reads something of a device, as EVIOCGNAME does, has this in the bits of EVIOCG_MASK. */
export const EVIOCG = ior('E', 0, { size: 0 });
export const EVIOCG_MASK = 0xc000ff00;

export const BUS_VIRTUAL = 0x06;
