import { EAGAIN, EINTR } from '../../src/sys/errors.ts';

/* What an atomic commit gives: 0, -errno with nothing changed, or MUST_WAIT. */

/** Not sent yet: it would block until the picture's fence has signalled. */
export const MUST_WAIT = 1;

const EPERM = 1;
const ENOMEM = 12;
const EACCES = 13;
const EBUSY = 16;
const ENODEV = 19;

/** Says nothing about what was asked for: the same commit may work later. */
const passing = new Set([EPERM, EINTR, EAGAIN, ENOMEM, EACCES, EBUSY, ENODEV].map((errno) => -errno));

/** The hardware or its driver does not do this. */
export function isRefused(result: number): boolean {
  return result < 0 && !passing.has(result);
}

/** Another commit is not on screen yet. */
export function isBusy(result: number): boolean {
  return result === -EBUSY;
}

/** Somebody else is master of the card. */
export function isForbidden(result: number): boolean {
  return result === -EACCES || result === -EPERM;
}

/** The card was pulled out, or its driver is gone. */
export function isGone(result: number): boolean {
  return result === -ENODEV;
}
