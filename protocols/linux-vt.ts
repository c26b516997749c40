/** linux/vt.h: ioctls that switch virtual terminals. */

/** The argument is the number of a terminal, counted from 1. */
export const VT_ACTIVATE = 0x5606;
