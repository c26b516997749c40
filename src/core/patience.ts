/** How long a wait for a picture takes at most if nothing else is asked for, ms. */
export const DEFAULT_TIMEOUT_MS = 30_000;

/** How long a screen must stand still to count as stable if nothing else is asked for, ms. */
export const DEFAULT_QUIET_MS = 500;
