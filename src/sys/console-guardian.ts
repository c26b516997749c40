/**
 * A program: `node console-guardian.js FD MODE`. When its standard input ends, it sets the keyboard mode of the virtual
 * terminal FD to MODE, unless it was sent a byte before. See virtual-terminal.ts.
 */
import { readSync } from 'node:fs';
import { KDSKBMODE } from '../../protocols/linux-kd.ts';
import { tryIoctl } from './ioctl.ts';

const STDIN = 0;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
const [fd, mode] = process.argv.slice(2).map(Number);
if (readSync(STDIN, new Uint8Array(1)) === 0) tryIoctl({ fd: fd! }, KDSKBMODE, mode!);
