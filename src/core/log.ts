export type LogLevel = 'info' | 'warn' | 'error';

/** Where messages for a person go; one line each, without a newline. Never called per frame. */
export type Log = (level: LogLevel, message: string) => void;
