/** sys/epoll.h: numbers of epoll_create1(2), epoll_ctl(2) and epoll_wait(2). */

export const EPOLL_CLOEXEC = 0o2000000;

export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;

/** A bit of `epoll_event.events`, the u32 at offset 0: there is something to read. */
export const EPOLLIN = 0x1;

/** Room for one epoll_event: 12 bytes on x86-64, where it is packed, and 16 elsewhere. */
export const EPOLL_EVENT_SIZE = 16;
