import type { FrameTimes } from '../bridge/frame-ages.ts';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import type { Rect, Size } from '../core/geometry.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { MouseButton, Point } from './operator.ts';

/** The protocol of the control socket, version 1: docs/control.md. */
export const PROTOCOL = 1;

export type ControlErrorCode =
  | 'malformed'
  | 'no-scanout'
  | 'no-picture'
  /** The region is not within the picture. */
  | 'no-region'
  /** No screen that shows the scanout can be read back. */
  | 'no-output-picture'
  /** The guest does not have the input device, or its driver takes nothing from it. */
  | 'input'
  /** No key has that name, or types that character. */
  | 'key'
  /** The position is not on the picture. */
  | 'off-screen'
  | 'timeout'
  /** Too many clients are connected, or the bridge is ending. */
  | 'busy'
  | 'unreachable'
  | 'in-use'
  | 'unsafe-directory'
  | 'protocol'
  | 'internal';

/** A request that failed, on either side of the control socket. */
export class ControlError extends ScanoutError<ControlErrorCode> {}

/** Those that a bridge answers with. */
const ANSWERED: readonly ControlErrorCode[] = [
  ...(['malformed', 'no-scanout', 'no-picture', 'no-region', 'no-output-picture'] as const),
  ...(['input', 'key', 'off-screen', 'timeout', 'busy', 'unreachable', 'internal'] as const),
];

/** Whether it is a code that a bridge answers with. */
export function isControlErrorCode(code: unknown): code is ControlErrorCode {
  return ANSWERED.includes(code as ControlErrorCode);
}

/** A scanout, and which part of its picture counts. */
interface View {
  readonly scanout: number;
  readonly cursor: boolean;
  /** Not empty. Absent: the whole picture. */
  readonly region?: Rect;
}

export interface ScreenshotRequest extends View {
  /** What the first output of the scanout really shows, in its pixels and with the cursor, instead of the guest's picture. */
  readonly output?: boolean;
  /** To be sent as a file. Absent: as the R, G, B, A of its pixels. */
  readonly format?: 'png';
  /** How long nothing may change before the picture is taken, and how long to wait for that. Absent: take the picture now. */
  readonly still?: { readonly quietMs: number; readonly timeoutMs: number };
}

/** A picture as a file. */
export interface PngFile extends Size {
  readonly bytes: Uint8Array;
}

export interface WaitRequest extends View {
  readonly for: 'stable' | 'change';
  /** How long nothing may change, for `stable`. */
  readonly quietMs: number;
  readonly timeoutMs: number;
}

/** Positions are in pixels of a scanout's picture. */
export type InputRequest =
  | { readonly command: 'type'; readonly text: string }
  | { readonly command: 'press'; readonly keys: string }
  | ({ readonly command: 'move'; readonly scanout: number } & Point)
  | ({
      readonly command: 'click';
      readonly scanout: number;
      readonly button: MouseButton;
      readonly double: boolean;
    } & Point)
  | {
      readonly command: 'drag';
      readonly scanout: number;
      readonly button: MouseButton;
      readonly from: Point;
      readonly to: Point;
    }
  /** Notches; positive is to the right, and down. */
  | {
      readonly command: 'scroll';
      readonly scanout: number;
      readonly right: number;
      readonly down: number;
      readonly at?: Point;
    }
  | { readonly command: 'touch'; readonly scanout: number; readonly from: Point; readonly to: Point };

export type ControlRequest =
  | { readonly command: 'hello' }
  | { readonly command: 'stats' }
  | ({ readonly command: 'screenshot' } & ScreenshotRequest)
  | ({ readonly command: 'wait' } & WaitRequest)
  | { readonly command: 'watch'; readonly scanout: number }
  | { readonly command: 'trace'; readonly scanout: number }
  | InputRequest;

/** What a bridge has, for a client to know what it can ask for. */
export interface Hello {
  /** Version of the protocol. */
  readonly protocol: number;
  readonly scanouts: number;
  /** Whether the guest has a keyboard and a pointer. */
  readonly keyboard: boolean;
  readonly touch: boolean;
}

/** What has come on screen since the event before. */
export interface FrameEvent {
  /** CLOCK_MONOTONIC of the newest frame. */
  readonly timeMs: number;
  /** How many frames; 0 in the first event, which describes what was there. */
  readonly frames: number;
  /** Of the picture, in pixels; 0 while the guest shows nothing. */
  readonly width: number;
  readonly height: number;
  /** What may have changed, at most 16 rectangles, without the cursor. */
  readonly damage: readonly Rect[];
  /** Where the cursor was and is, if it changed; may reach beyond the picture. */
  readonly cursor: readonly Rect[];
}

/** When a frame of an output came to each stage. */
export interface TracedFrame extends FrameTimes {
  readonly output: string;
}

/** What has been released, or presented again, since the event before. */
export interface TraceEvent {
  readonly frames: readonly TracedFrame[];
  /** How many there were beside these, because the client was slow. */
  readonly lost: number;
}

/** The longest wait. */
export const MAX_WAIT_MS = 3_600_000;
/** The longest request line in bytes, without its newline. */
export const MAX_REQUEST = 2 ** 16;
/** Pixels of the largest side of a picture that a guest can show. */
export const MAX_SIDE = 16384;
/** The most notches of one request. */
const MAX_NOTCHES = 100;

/** Throws ControlError `malformed`. Fields that it does not know are ignored. */
export function parseRequest(line: string): ControlRequest {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch (cause) {
    throw new ControlError('malformed', 'the request is not one line of JSON', { cause });
  }
  if (typeof request !== 'object' || request === null || !('command' in request))
    throw new ControlError('malformed', 'the request has no "command"');
  const { command } = request;
  const parse = typeof command === 'string' && Object.hasOwn(PARSERS, command) ? PARSERS[command] : undefined;
  if (parse) return parse(request);
  throw new ControlError('malformed', `the commands are ${Object.keys(PARSERS).join(', ')}`);
}

type Fields = Readonly<Record<string, unknown>>;

const PARSERS: Readonly<Record<string, (fields: Fields) => ControlRequest>> = {
  hello: () => ({ command: 'hello' }),
  stats: () => ({ command: 'stats' }),
  screenshot: (fields) => {
    const { quietMs, timeoutMs } = fields;
    const output = boolean(fields, 'output', false);
    const format = oneOf(fields, 'format', ['pixels', 'png'], 'pixels');
    const how = { ...(output && { output }), ...(format === 'png' && { format }) } as const;
    const what = { command: 'screenshot', ...view(fields), ...how } as const;
    if (output && !what.cursor) throw malformed('"cursor" cannot be false with "output": a screen shows its cursor');
    if (quietMs === undefined && timeoutMs === undefined) return what;
    return { ...what, still: { quietMs: wait(fields, 'quietMs'), timeoutMs: wait(fields, 'timeoutMs') } };
  },
  wait: (fields) => ({
    command: 'wait',
    ...view(fields),
    for: oneOf(fields, 'for', ['stable', 'change']),
    quietMs: wait(fields, 'quietMs', 500),
    timeoutMs: wait(fields, 'timeoutMs', 30_000),
  }),
  watch: (fields) => ({ command: 'watch', scanout: scanout(fields) }),
  trace: (fields) => ({ command: 'trace', scanout: scanout(fields) }),
  type: (fields) => ({ command: 'type', text: string(fields, 'text') }),
  press: (fields) => ({ command: 'press', keys: string(fields, 'keys') }),
  move: (fields) => ({ command: 'move', scanout: scanout(fields), ...point(fields, 'the request') }),
  click: (fields) => ({
    command: 'click',
    scanout: scanout(fields),
    ...point(fields, 'the request'),
    button: button(fields),
    double: boolean(fields, 'double', false),
  }),
  drag: (fields) => ({
    command: 'drag',
    scanout: scanout(fields),
    from: point(fields['from'], '"from"'),
    to: point(fields['to'], '"to"'),
    button: button(fields),
  }),
  scroll: (fields) => ({
    command: 'scroll',
    scanout: scanout(fields),
    right: whole(fields, 'right', -MAX_NOTCHES, MAX_NOTCHES, 0),
    down: whole(fields, 'down', -MAX_NOTCHES, MAX_NOTCHES, 0),
    ...(fields['at'] !== undefined && { at: point(fields['at'], '"at"') }),
  }),
  touch: (fields) => {
    const from = point(fields['from'], '"from"');
    const to = fields['to'] === undefined ? from : point(fields['to'], '"to"');
    return { command: 'touch', scanout: scanout(fields), from, to };
  },
};

function malformed(message: string): ControlError {
  return new ControlError('malformed', message);
}

function view(fields: Fields): View {
  const { region } = fields;
  if (region !== undefined && !isRegion(region))
    throw malformed('"region" must have "x" and "y" from 0 and "width" and "height" from 1, as whole numbers');
  return { scanout: scanout(fields), cursor: boolean(fields, 'cursor', true), ...(region && { region }) };
}

function scanout(fields: Fields): number {
  return whole(fields, 'scanout', 0, 2 ** 16, 0);
}

/** Without `fallback` the field is required. */
function wait(fields: Fields, name: string, fallback?: number): number {
  return whole(fields, name, 0, MAX_WAIT_MS, fallback);
}

function button(fields: Fields): MouseButton {
  return oneOf(fields, 'button', ['left', 'right', 'middle'], 'left');
}

function whole(fields: Fields, name: string, least: number, most: number, fallback?: number): number {
  const value = fields[name] === undefined ? fallback : fields[name];
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
  throw malformed(`"${name}" must be a whole number from ${least} to ${most}`);
}

function boolean(fields: Fields, name: string, fallback: boolean): boolean {
  const { [name]: value = fallback } = fields;
  if (typeof value === 'boolean') return value;
  throw malformed(`"${name}" must be true or false`);
}

function string(fields: Fields, name: string): string {
  const { [name]: value } = fields;
  if (typeof value === 'string') return value;
  throw malformed(`"${name}" must be text`);
}

function oneOf<T extends string>(fields: Fields, name: string, choices: readonly T[], fallback?: T): T {
  const { [name]: value = fallback } = fields;
  const choice = choices.find((each) => each === value);
  if (choice !== undefined) return choice;
  throw malformed(`"${name}" must be one of ${choices.map((each) => `"${each}"`).join(', ')}`);
}

function point(value: unknown, what: string): Point {
  const { x, y } = (value ?? {}) as Fields;
  if (isPosition(x) && isPosition(y)) return { x, y };
  throw malformed(`${what} must have "x" and "y", numbers of pixels from 0`);
}

function isPosition(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= MAX_SIDE;
}

/** Whether it is a rectangle of whole pixels that is not empty. */
export function isRegion(value: unknown): value is Rect {
  const { x, y, width, height } = (value ?? {}) as Fields;
  return [x, y].every((offset) => offset === 0 || isSide(offset)) && isSide(width) && isSide(height);
}

export function isSide(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_SIDE;
}

/** Where a bridge listens, and clients connect, without `--control`. */
export function defaultControlPath(env: NodeJS.ProcessEnv = process.env): string {
  const runtime = env['XDG_RUNTIME_DIR'];
  return runtime ? join(runtime, 'scanout-bridge.sock') : join(privateDirectory(), 'control.sock');
}

/** The directory of this user's files in /tmp. Create it with mode 0700, and check it before it is used. */
export function privateDirectory(): string {
  return `/tmp/scanout-bridge-${process.getuid!()}`;
}

/**
 * Throws ControlError `unsafe-directory` if `directory` is the private directory in /tmp and exists, but another user
 * made it or may write to it: what lies there may be that user's.
 */
export function checkDirectory(directory: string): void {
  if (directory !== privateDirectory()) return;
  const found = lstatSync(directory, { throwIfNoEntry: false });
  if (!found || (found.isDirectory() && found.uid === process.getuid!() && (found.mode & 0o022) === 0)) return;
  throw new ControlError(
    'unsafe-directory',
    `${directory} must be a directory of this user that others cannot write to: remove it, or set XDG_RUNTIME_DIR`,
  );
}
