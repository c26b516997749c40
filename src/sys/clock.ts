/**
 * CLOCK_MONOTONIC at performance.now() 0. A difference is too small if the process loses the
 * processor between its two reads, so the largest of several is taken.
 */
const originMs = Math.max(
  ...Array.from({ length: 8 }, () => Number(process.hrtime.bigint()) / 1e6 - performance.now()),
);

/** CLOCK_MONOTONIC in milliseconds, the clock that KMS and Wayland timestamps use. Allocates nothing. */
export function monotonicMs(): number {
  return originMs + performance.now();
}

/** The longest delay that setTimeout takes, ms: 24.8 days. It takes a longer one for 1 ms. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** setTimeout for a delay that may be infinite or longer than a timer can be; the callback is then called after 24.8 days. */
export function startTimer(callback: () => void, delayMs: number): NodeJS.Timeout {
  return setTimeout(callback, Math.min(delayMs, MAX_DELAY_MS));
}
