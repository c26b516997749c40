export type LogLevel = 'info' | 'warn' | 'error';

/**
 * Text as a terminal may show it: control characters other than tabs, with which a guest or peer could change the
 * terminal, become `?`. A line break does too, so the text stays one line.
 */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, '?');
}

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

/** The lines of one guest or peer in one second: more than any does that works. */
const LINES_PER_SECOND = 20;

/**
 * Wraps `log` for messages that a guest or peer can cause at will. Of each second's messages the first `perSecond` are
 * logged, and then how many were left out.
 */
export function limitLog(log: Log, perSecond = LINES_PER_SECOND): Log {
  let left = perSecond;
  let omitted = 0;
  let second: NodeJS.Timeout | undefined;
  const startSecond = (): void => {
    second = setTimeout(endSecond, 1000).unref();
  };
  const endSecond = (): void => {
    second = undefined;
    left = perSecond;
    if (omitted === 0) return;
    const count = omitted;
    omitted = 0;
    startSecond();
    log('warn', `left out ${count} messages of the last second`);
  };
  return (level, message) => {
    if (!second) startSecond();
    if (left === 0) {
      omitted++;
      return;
    }
    left--;
    log(level, message);
  };
}
