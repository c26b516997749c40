import { UsageError } from '../core/errors.ts';

/** Where the guest's VMM comes from: a socket to listen on, or one this process was started with. */
export type GuestSpec = { readonly socket: string } | { readonly fd: number };

export const GUEST_FORMS = 'vhost-user:SOCKET (vhost-user:/tmp/gpu.sock) or vhost-user:fd=N (vhost-user:fd=3)';

const FIRST_AFTER_STDIO = 3;

/** Throws UsageError. */
export function parseGuestSpec(text: string): GuestSpec {
  const rest = /^vhost-user:(.+)$/s.exec(text)?.[1];
  if (rest === undefined || rest.includes('\0')) throw new UsageError(`--guest: cannot use '${text}'; write ${GUEST_FORMS}`);
  if (!rest.startsWith('fd=')) return { socket: rest };
  const fd = /^fd=(\d{1,7})$/.exec(rest)?.[1];
  if (fd === undefined || Number(fd) < FIRST_AFTER_STDIO) {
    throw new UsageError(`--guest: '${rest}' is no inherited socket; its number is ${FIRST_AFTER_STDIO} or more: ${GUEST_FORMS}`);
  }
  return { fd: Number(fd) };
}
