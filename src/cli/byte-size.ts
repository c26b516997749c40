import { UsageError } from '../core/errors.ts';

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** `512M`, `2G`: a positive number of bytes. Throws UsageError; `what` names the option. */
export function parseByteSize(text: string, what: string): number {
  const match = /^([1-9]\d{0,6})([KMGT])i?B?$/i.exec(text);
  if (!match) throw new UsageError(`${what}: '${text}' is not a size; write a whole number and K, M, G or T, such as 512M or 2G`);
  return Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
}
