/** Options that several commands share, of those that ask a running bridge or compare pictures. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CompareOptions } from '../../display/picture/compare.ts';
import { defaultControlPath, MAX_WAIT_MS } from '../control/protocol.ts';
import type { Point } from '../control/operator.ts';
import type { Rect } from '../core/geometry.ts';

export function controlOption(): Option {
  return new Option('--control <socket>', 'control socket of the bridge').default(defaultControlPath());
}

export function scanoutOption(): Option {
  return new Option('--scanout <number>', "which of the guest's monitors, counted from 0")
    .argParser(parseIndex)
    .default(0);
}

function parseIndex(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('write a whole number, 0 or more.');
  return Number(text);
}

export function parseRegion(text: string): Rect {
  const [width, height, x, y] = (/^(\d{1,5})x(\d{1,5})\+(\d{1,5})\+(\d{1,5})$/.exec(text) ?? []).slice(1).map(Number);
  if (!width || !height) throw new InvalidArgumentError('write WIDTHxHEIGHT+X+Y in pixels, such as 640x480+100+50.');
  return { x: x!, y: y!, width, height };
}

/** A position in pixels along one side of a picture. */
export function parsePosition(text: string): number {
  if (!/^\d{1,5}(\.\d+)?$/.test(text)) throw new InvalidArgumentError('write a position in pixels, 0 or more.');
  return Number(text);
}

export function parsePoint(text: string): Point {
  const [x, y, ...rest] = text.split(',');
  if (x === undefined || y === undefined || rest.length > 0)
    throw new InvalidArgumentError('write X,Y in pixels, such as 640,400.');
  return { x: parsePosition(x), y: parsePosition(y) };
}

export function parseMs(text: string): number {
  const ms = /^\d{1,7}$/.test(text) ? Number(text) : NaN;
  if (!(ms <= MAX_WAIT_MS)) throw new InvalidArgumentError(`write milliseconds from 0 to ${MAX_WAIT_MS}.`);
  return ms;
}

/** What `addCompareOptions` adds. */
export interface ComparisonFlags {
  threshold: number;
  allowed: number;
  region?: Rect;
  mask?: Rect[];
  ignoreAntialiasing?: true;
}

function parseNumber(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('write a number such as 20 or 0.01.');
  return Number(text);
}

export function addCompareOptions(command: Command): Command {
  return command
    .option('--threshold <number>', 'how far a colour may be off, from 0 (exact) to 1', parseNumber, 0)
    .option(
      '--allowed <number>',
      'how many pixels may differ; a number below 1 is a share of those compared',
      parseNumber,
      0,
    )
    .option('--ignore-antialiasing', 'ignore pixels that look like anti-aliasing')
    .option('--region <rect>', 'compare only this rectangle, WIDTHxHEIGHT+X+Y', parseRegion)
    .option(
      '--mask <rect>',
      'do not compare this rectangle, WIDTHxHEIGHT+X+Y; may be repeated',
      (text: string, before?: Rect[]) => [...(before ?? []), parseRegion(text)],
    );
}

export function compareOptionsOf(flags: ComparisonFlags): CompareOptions {
  const { threshold, allowed, ignoreAntialiasing = false, region, mask: masks = [] } = flags;
  return { threshold, allowed, ignoreAntialiasing, masks, ...(region && { region }) };
}

/** For an option. */
export function parseSeconds(text: string): number {
  const seconds = /^\d{1,7}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  if (seconds <= 0) throw new InvalidArgumentError('write a number above 0.');
  return seconds;
}
