/** linux/input-event-codes.h and linux/input.h: what the events of input devices mean, as far as we send and take them. */

/** Event types. */
export const EV = { SYN: 0x00, KEY: 0x01, REL: 0x02, ABS: 0x03, LED: 0x11, REP: 0x14 } as const;

/** Ends a group of events that happened together. */
export const SYN_REPORT = 0;

/** Keys of keyboards have the numbers 1 to KEY_MICMUTE, without gaps that matter. */
export const KEY_ESC = 1;
export const KEY_MICMUTE = 248;
export const KEY_CNT = 0x300;

/** KEY_*: those that mean something to us. */
export const KEY = { LEFTCTRL: 29, G: 34, LEFTSHIFT: 42, RIGHTSHIFT: 54, LEFTALT: 56, RIGHTCTRL: 97, RIGHTALT: 100, LEFTMETA: 125, RIGHTMETA: 126 } as const;

export const BTN = { LEFT: 0x110, RIGHT: 0x111, MIDDLE: 0x112, SIDE: 0x113, EXTRA: 0x114, FORWARD: 0x115, BACK: 0x116, TASK: 0x117, TOUCH: 0x14a } as const;

/** The high-resolution wheels count 120 to a notch. Up and right are positive. */
export const REL = { X: 0x00, Y: 0x01, HWHEEL: 0x06, WHEEL: 0x08, WHEEL_HI_RES: 0x0b, HWHEEL_HI_RES: 0x0c } as const;

/** MT_*: of the touch whose slot was named last. */
export const ABS = { X: 0x00, Y: 0x01, MT_SLOT: 0x2f, MT_POSITION_X: 0x35, MT_POSITION_Y: 0x36, MT_TOOL_TYPE: 0x37, MT_TRACKING_ID: 0x39 } as const;

/** Values of ABS.MT_TOOL_TYPE. A touch that turns out to be a palm never was one. */
export const MT_TOOL = { FINGER: 0, PALM: 2, MAX: 0x0f } as const;

export const LED = { NUML: 0x00, CAPSL: 0x01, SCROLLL: 0x02, COMPOSE: 0x03, KANA: 0x04 } as const;

/** Touches are on the picture itself. */
export const INPUT_PROP_DIRECT = 1;

export const BUS_VIRTUAL = 0x06;
