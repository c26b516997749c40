const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** CLOCK_MONOTONIC in milliseconds, the clock that KMS and Wayland timestamps use. Allocates nothing. */
export function monotonicMs(): number {
  return originMs + performance.now();
}
