import { Option } from 'commander';
import type { Log, LogLevel } from '../core/log.ts';

const LEVELS: readonly LogLevel[] = ['info', 'warn', 'error'];

export function logLevelOption(): Option {
  return new Option('--log-level <level>', 'least important message to print on stderr').choices(LEVELS).default('info');
}

/** One line a message on stderr. What a guest or a peer put into it cannot move the cursor or start a line. */
export function stderrLog(least: LogLevel): Log {
  const from = LEVELS.indexOf(least);
  return (level, message) => {
    if (LEVELS.indexOf(level) < from) return;
    const time = new Date().toISOString().slice(11, 23);
    // A progress line may stand where this one goes.
    const clear = process.stderr.isTTY ? '\r\x1b[K' : '';
    process.stderr.write(`${clear}${time} ${level.padEnd(5)} ${printable(message)}\n`);
  };
}

function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}
