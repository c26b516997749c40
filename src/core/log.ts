export type LogLevel = 'info' | 'warn' | 'error';

/** Receives messages for a person: one line each, without a newline. Never called per frame. */
export type Log = (level: LogLevel, message: string) => void;

/** Like `Log`, for messages that would repeat: each `kind` (by default, each message) is logged once. */
export type LogOnce = (level: LogLevel, message: string, kind?: string) => void;

/**
 * Wraps `log` to log each kind of message once. Give a kind wherever the guest influences the
 * text: it can cause any number of different messages, but only a few kinds of them.
 */
export function logOnce(log: Log): LogOnce {
  const logged = new Set<string>();
  return (level, message, kind = message) => {
    if (logged.has(kind)) return;
    logged.add(kind);
    log(level, message);
  };
}
