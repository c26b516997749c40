const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** CLOCK_MONOTONIC in milliseconds, the clock of KMS and Wayland timestamps. Allocates nothing. */
export function monotonicMs(): number {
  return originMs + performance.now();
}
