/** `node --import short-waits.ts main.js run -- QEMU`: the command waits for nothing longer than a moment. */
import { syncBuiltinESMExports } from 'node:module';
import timers from 'node:timers/promises';

/** Enough for a program that is there to handle a signal, on a busy machine. */
const MOMENT_MS = 2000;

const wait = timers.setTimeout;
timers.setTimeout = (delayMs, value, options) => wait(Math.min(delayMs ?? 0, MOMENT_MS), value, options);
syncBuiltinESMExports();
