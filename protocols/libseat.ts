/** libseat.h, the header of libseat: the one struct its calls take. */
import { addr64, struct } from './layout.ts';

/** Addresses of two C functions `void (struct libseat *, void *)`; neither may be 0. */
export const libseat_seat_listener = struct('libseat_seat_listener', { enable_seat: addr64, disable_seat: addr64 });
