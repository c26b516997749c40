/** asm-generic/ioctls.h: ioctls of terminals, and of every descriptor. */
import { array, ior, iow, struct, u32, u8 } from './layout.ts';

export const termios2 = struct('termios2', {
  c_iflag: u32,
  c_oflag: u32,
  c_cflag: u32,
  c_lflag: u32,
  c_line: u8,
  c_cc: array(u8, 19),
  c_ispeed: u32,
  c_ospeed: u32,
});

export const TCGETS = 0x5401;
export const TCSETS = 0x5402;
export const TCGETS2 = ior('T', 0x2a, termios2);
export const TCSETS2 = iow('T', 0x2b, termios2);
export const TIOCSTI = 0x5412;
export const TIOCGWINSZ = 0x5413;
export const FIONREAD = 0x541b;
export const FIONBIO = 0x5421;
export const FIONCLEX = 0x5450;
export const FIOCLEX = 0x5451;
