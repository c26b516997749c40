import type { Log, LogLevel } from './log.ts';

/** As `Log`, for what would be said again and again. */
export type LogOnce = (level: LogLevel, message: string, kind?: string) => void;

/** Once for each kind, by default each message: a guest can cause as many different messages as it likes, of the same few kinds. */
export function logOnce(log: Log): LogOnce {
  const logged = new Set<string>();
  return (level, message, kind = message) => {
    if (logged.has(kind)) return;
    logged.add(kind);
    log(level, message);
  };
}
