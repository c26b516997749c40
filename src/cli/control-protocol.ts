/**
 * The control socket of a running bridge. A request is one line of JSON, a reply is one line of
 * JSON; a reply with `bytes` is followed by that many bytes:
 *
 *     {"command":"stats"}                                  -> {"ok":true,"stats":[...]}
 *     {"command":"screenshot","scanout":0,"cursor":true}   -> {"ok":true,"width":W,"height":H,"bytes":W*H*4} R G B A ...
 *     the same with "quietMs":500,"timeoutMs":30000        -> the same, once nothing has changed for so long
 *     anything the bridge cannot do                        -> {"ok":false,"code":"no-picture","message":"..."}
 *
 * Pixels travel raw: the client makes the PNG, so that the bridge drops no frame for it.
 */
import { join } from 'node:path';
import { ScanoutError } from '../sys/errors.ts';

export type ControlErrorCode = 'malformed' | 'no-scanout' | 'no-picture' | 'timeout' | 'unreachable' | 'in-use' | 'unsafe-directory' | 'protocol' | 'internal';

/** A request that failed, on either side of the control socket. */
export class ControlError extends ScanoutError<ControlErrorCode> {}

/** How long nothing may have changed before a picture is taken, and how long that may take to come. */
export interface Stillness {
  readonly quietMs: number;
  readonly timeoutMs: number;
}

export interface ScreenshotRequest {
  readonly scanout: number;
  readonly cursor: boolean;
  /** Absent: the picture of now. */
  readonly still?: Stillness;
}

export type ControlRequest = { readonly command: 'stats' } | ({ readonly command: 'screenshot' } & ScreenshotRequest);

/** Nobody waits longer for a screen to stand still. */
export const MAX_WAIT_MS = 3_600_000;

/** Longest request line in bytes, its newline aside. */
export const MAX_REQUEST = 4096;

/** Throws ControlError `malformed`. */
export function parseRequest(line: string): ControlRequest {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch (cause) {
    throw new ControlError('malformed', 'the request is not one line of JSON', { cause });
  }
  if (typeof request !== 'object' || request === null || !('command' in request)) throw new ControlError('malformed', 'the request has no "command"');
  if (request.command === 'stats') return { command: 'stats' };
  if (request.command === 'screenshot') return parseScreenshot(request);
  throw new ControlError('malformed', 'the commands are "stats" and "screenshot"');
}

function parseScreenshot(request: object): ControlRequest {
  const { scanout = 0, cursor = true, quietMs, timeoutMs } = request as Readonly<Record<string, unknown>>;
  if (typeof scanout !== 'number' || !Number.isInteger(scanout) || scanout < 0) throw new ControlError('malformed', '"scanout" is a number from 0 on');
  if (typeof cursor !== 'boolean') throw new ControlError('malformed', '"cursor" is true or false');
  if (quietMs === undefined && timeoutMs === undefined) return { command: 'screenshot', scanout, cursor };
  if (!isWait(quietMs) || !isWait(timeoutMs)) throw new ControlError('malformed', `"quietMs" and "timeoutMs" are given together, whole numbers from 0 to ${MAX_WAIT_MS}`);
  return { command: 'screenshot', scanout, cursor, still: { quietMs, timeoutMs } };
}

function isWait(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_WAIT_MS;
}

/** Where a bridge listens, and a client looks, when `--control` is not given. */
export function defaultControlPath(env: NodeJS.ProcessEnv = process.env): string {
  const runtime = env['XDG_RUNTIME_DIR'];
  return runtime ? join(runtime, 'scanout-bridge.sock') : join(`/tmp/scanout-bridge-${process.getuid!()}`, 'control.sock');
}
