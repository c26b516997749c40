/** poll.h: the argument of poll(2). */
import { i32, struct, u16 } from './layout.ts';

/** A bit of `events` and `revents`: there is something to read. */
export const POLLIN = 0x1;

/** A negative `fd` is ignored. */
export const pollfd = struct('pollfd', { fd: i32, events: u16, revents: u16 });
