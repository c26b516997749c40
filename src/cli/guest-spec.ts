import { UsageError } from '../core/errors.ts';

/** Where the guest's VMM comes from: a socket to listen on, or one this process was started with. */
export type GuestSpec = { readonly socket: string } | { readonly fd: number };

export const GUEST_FORMS = 'vhost-user:SOCKET (vhost-user:/tmp/gpu.sock) or vhost-user:fd=N (vhost-user:fd=3)';

const FIRST_AFTER_STDIO = 3;

/** Throws UsageError. */
export function parseGuestSpec(text: string): GuestSpec {
  const rest = /^vhost-user:(.+)$/s.exec(text)?.[1];
  if (rest === undefined) throw new UsageError(`--guest: cannot use '${text}'; write ${GUEST_FORMS}`);
  return parseSocket('--guest', rest, GUEST_FORMS);
}

/** What stands after `vhost-user:` in an option that has these forms. Throws UsageError. */
export function parseSocket(option: string, text: string, forms: string): GuestSpec {
  if (text.includes('\0')) throw new UsageError(`${option}: a path has no zero bytes; write ${forms}`);
  if (!text.startsWith('fd=')) return { socket: text };
  const fd = /^fd=(\d{1,7})$/.exec(text)?.[1];
  if (fd === undefined || Number(fd) < FIRST_AFTER_STDIO) {
    throw new UsageError(`${option}: '${text}' is no inherited socket; its number is ${FIRST_AFTER_STDIO} or more: ${forms}`);
  }
  return { fd: Number(fd) };
}
