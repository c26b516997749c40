/**
 * org.qemu.Display1 (QEMU's ui/dbus-display1.xml): how QEMU hands out the consoles of a VM over D-Bus, and the numbers
 * that its keys and buttons have.
 */
import { BTN } from './input-event-codes.ts';

/** The name that each VM has on a bus, and waits for while another has it. */
export const BUS_NAME = 'org.qemu';
export const ROOT_PATH = '/org/qemu/Display1';
/** The object that a client has on a listener's connection. */
export const LISTENER_PATH = `${ROOT_PATH}/Listener`;

/** The object that both QEMU and a client that shares its clipboard have. */
export const CLIPBOARD_PATH = `${ROOT_PATH}/Clipboard`;

export const VM = `org.qemu.Display1.VM`;
export const CONSOLE = 'org.qemu.Display1.Console';
export const KEYBOARD = 'org.qemu.Display1.Keyboard';
export const MOUSE = 'org.qemu.Display1.Mouse';
export const MULTI_TOUCH = 'org.qemu.Display1.MultiTouch';
export const LISTENER = 'org.qemu.Display1.Listener';
/** Adds ScanoutMap and UpdateMap to a listener: pictures in shared memory. */
export const LISTENER_MAP = 'org.qemu.Display1.Listener.Unix.Map';
/** Adds ScanoutDMABUF2: pictures in several planes. */
export const LISTENER_DMABUF2 = 'org.qemu.Display1.Listener.Unix.ScanoutDMABUF2';

export const CLIPBOARD = 'org.qemu.Display1.Clipboard';
/** Not the primary selection, which has what was last marked. */
export const CLIPBOARD_SELECTION = 0;
/** QEMU's clipboard has no other type. */
export const CLIPBOARD_TEXT = 'text/plain;charset=utf-8';

export const PROPERTIES = 'org.freedesktop.DBus.Properties';
export const OBJECT_MANAGER = 'org.freedesktop.DBus.ObjectManager';

/** Bits of Keyboard.Modifiers, and the kernel's LED_* for each. */
export const MODIFIERS = [
  { bit: 1, led: 2 },
  { bit: 2, led: 0 },
  { bit: 4, led: 1 },
] as const;

/** InputButton of qapi/ui.json, by the kernel's BTN_*. */
export const BUTTONS: ReadonlyMap<number, number> = new Map([
  [BTN.LEFT, 0],
  [BTN.MIDDLE, 1],
  [BTN.RIGHT, 2],
  [BTN.SIDE, 5],
  [BTN.EXTRA, 6],
]);
export const WHEEL_UP = 3;
export const WHEEL_DOWN = 4;
export const WHEEL_LEFT = 7;
export const WHEEL_RIGHT = 8;

export const TOUCH_BEGIN = 0;
export const TOUCH_UPDATE = 1;
export const TOUCH_END = 2;
export const TOUCH_CANCEL = 3;

/** Keys whose number is that of the kernel: the first 83, with few exceptions, are those of the XT keyboard. */
const SAME_UP_TO = 83;

/** QEMU's numbers of other keys, by the kernel's KEY_*: scan codes of the XT keyboard, with 0x80 for those after 0xe0. */
const OTHERS: readonly (readonly [number, number])[] = [
  [86, 0x56],
  [87, 0x57],
  [88, 0x58],
  [89, 0x73],
  [91, 0x77],
  [92, 0x79],
  [93, 0x70],
  [94, 0x7b],
  [96, 0x9c],
  [97, 0x9d],
  [98, 0xb5],
  [99, 0x54],
  [100, 0xb8],
  [101, 0x5b],
  [102, 0xc7],
  [103, 0xc8],
  [104, 0xc9],
  [105, 0xcb],
  [106, 0xcd],
  [107, 0xcf],
  [108, 0xd0],
  [109, 0xd1],
  [110, 0xd2],
  [111, 0xd3],
  [113, 0xa0],
  [114, 0xae],
  [115, 0xb0],
  [116, 0xde],
  [117, 0x59],
  [119, 0xc6],
  [121, 0x7e],
  [124, 0x7d],
  [125, 0xdb],
  [126, 0xdc],
  [127, 0xdd],
  [128, 0xe8],
  [129, 0x85],
  [130, 0x86],
  [131, 0x87],
  [132, 0x8c],
  [133, 0xf8],
  [134, 0x64],
  [135, 0x65],
  [136, 0xc1],
  [137, 0xbc],
  [138, 0xf5],
  [139, 0x9e],
  [140, 0xa1],
  [142, 0xdf],
  [143, 0xe3],
  [155, 0xec],
  [156, 0xe6],
  [157, 0xeb],
  [158, 0xea],
  [159, 0xe9],
  [163, 0x99],
  [164, 0xa2],
  [165, 0x90],
  [166, 0xa4],
  [172, 0xb2],
  [173, 0xe7],
  [226, 0xed],
];

const numbers = new Map(OTHERS);

/** QEMU's number (qnum) of the kernel's KEY_*; 0 if it has none. */
export function qnumOf(key: number): number {
  if (key <= SAME_UP_TO) return key;
  return numbers.get(key) ?? 0;
}

const keys = new Map(OTHERS.map(([key, qnum]) => [qnum, key]));

/** The kernel's KEY_* of a number that `qnumOf` returns; 0 if there is none. */
export function keyOfQnum(qnum: number): number {
  return keys.get(qnum) ?? (qnum <= SAME_UP_TO ? qnum : 0);
}
