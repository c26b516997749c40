import { vi } from 'vitest';

/** As `vi.waitFor`, whose limit of a second is too short for a busy machine. */
export function eventually<T>(look: () => T | Promise<T>, timeout = 150_000): Promise<T> {
  return vi.waitFor(look, { timeout, interval: 10 });
}
