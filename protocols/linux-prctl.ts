/** linux/prctl.h: options of prctl(2). */

export const PR_SET_DUMPABLE = 4;
export const PR_SET_NAME = 15;
export const PR_GET_NAME = 16;
export const PR_SET_NO_NEW_PRIVS = 38;
export const PR_SET_VMA = 0x53564d41;
