/** grp.h: an entry of the groups of the system. */
import { addr64, struct, u32 } from './layout.ts';

/** The strings are terminated by a zero byte. */
export const group = struct('group', { gr_name: addr64, gr_passwd: addr64, gr_gid: u32, gr_mem: addr64 });
