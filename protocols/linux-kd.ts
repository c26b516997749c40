/** linux/kd.h: ioctls of virtual terminals. */

/** The argument is the address of an int. */
export const KDGKBMODE = 0x4b44;
/** The argument is the mode itself. */
export const KDSKBMODE = 0x4b45;

/** The terminal gets characters in UTF-8. */
export const K_UNICODE = 0x03;
/** The terminal gets no keys, and the kernel acts on none, Ctrl+Alt+F1 included; on SysRq it does. */
export const K_OFF = 0x04;
