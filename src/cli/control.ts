import { connect } from 'node:net';
import { join } from 'node:path';
import { ScanoutError } from '../sys/errors.ts';
import type { Picture } from '../core/picture.ts';

/**
 * The control socket of a running bridge. A request is one line of JSON, a reply is one line of
 * JSON; a reply with `bytes` is followed by that many bytes:
 *
 *     {"command":"stats"}                                  -> {"ok":true,"stats":[...]}
 *     {"command":"screenshot","scanout":0,"cursor":true}   -> {"ok":true,"width":W,"height":H,"bytes":W*H*4} R G B A ...
 *     the same with "quietMs":500,"timeoutMs":30000        -> the same, once nothing has changed for quietMs
 *     anything that fails                                  -> {"ok":false,"code":"no-picture","message":"..."}
 *
 * Pixels are sent raw and the client encodes the PNG, so that the bridge drops no frames.
 */

export type ControlErrorCode =
  | 'malformed'
  | 'no-scanout'
  | 'no-picture'
  | 'timeout'
  | 'unreachable'
  | 'in-use'
  | 'unsafe-directory'
  | 'protocol'
  | 'internal';

/** A request that failed, on either side of the control socket. */
export class ControlError extends ScanoutError<ControlErrorCode> {}

/** How long nothing may change before the picture is taken, and how long to wait for that. */
interface Stillness {
  readonly quietMs: number;
  readonly timeoutMs: number;
}

export interface ScreenshotRequest {
  readonly scanout: number;
  readonly cursor: boolean;
  /** Absent: take the picture now. */
  readonly still?: Stillness;
}

export type ControlRequest = { readonly command: 'stats' } | ({ readonly command: 'screenshot' } & ScreenshotRequest);

/** The longest wait for a screen to stand still. */
export const MAX_WAIT_MS = 3_600_000;

/** The longest request line in bytes, without its newline. */
export const MAX_REQUEST = 4096;

/** Throws ControlError `malformed`. */
export function parseRequest(line: string): ControlRequest {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch (cause) {
    throw new ControlError('malformed', 'the request is not one line of JSON', { cause });
  }
  if (typeof request !== 'object' || request === null || !('command' in request))
    throw new ControlError('malformed', 'the request has no "command"');
  if (request.command === 'stats') return { command: 'stats' };
  if (request.command === 'screenshot') return parseScreenshot(request);
  throw new ControlError('malformed', 'the commands are "stats" and "screenshot"');
}

function parseScreenshot(request: object): ControlRequest {
  const { scanout = 0, cursor = true, quietMs, timeoutMs } = request as Readonly<Record<string, unknown>>;
  if (typeof scanout !== 'number' || !Number.isInteger(scanout) || scanout < 0)
    throw new ControlError('malformed', '"scanout" must be a whole number, 0 or more');
  if (typeof cursor !== 'boolean') throw new ControlError('malformed', '"cursor" must be true or false');
  if (quietMs === undefined && timeoutMs === undefined) return { command: 'screenshot', scanout, cursor };
  if (!isWait(quietMs) || !isWait(timeoutMs))
    throw new ControlError(
      'malformed',
      `give "quietMs" and "timeoutMs" together, as whole numbers from 0 to ${MAX_WAIT_MS}`,
    );
  return { command: 'screenshot', scanout, cursor, still: { quietMs, timeoutMs } };
}

function isWait(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_WAIT_MS;
}

/** Where a bridge listens, and clients connect, without `--control`. */
export function defaultControlPath(env: NodeJS.ProcessEnv = process.env): string {
  const runtime = env['XDG_RUNTIME_DIR'];
  return runtime
    ? join(runtime, 'scanout-bridge.sock')
    : join(`/tmp/scanout-bridge-${process.getuid!()}`, 'control.sock');
}

const TIMEOUT_MS = 30_000;
const MAX_HEAD = 2 ** 20;
/** A picture of 16384 x 16384. */
const MAX_BODY = 2 ** 30;

interface Reply {
  readonly head: Readonly<Record<string, unknown>>;
  readonly body: Uint8Array;
}

/** Requests the stats of the bridge. Rejects with ControlError. */
export async function requestStats(path: string): Promise<unknown> {
  const { head } = await request(path, { command: 'stats' });
  return head['stats'];
}

/** Requests the picture on a scanout's first output, now or once it stands still. Rejects with ControlError. */
export async function requestScreenshot(path: string, { still, ...what }: ScreenshotRequest): Promise<Picture> {
  const { head, body } = await request(path, { command: 'screenshot', ...what, ...still }, still?.timeoutMs);
  const { width, height } = head;
  if (typeof width !== 'number' || typeof height !== 'number' || width * height * 4 !== body.length) {
    throw new ControlError(
      'protocol',
      `${path} answered with ${body.length} bytes for a picture of ${String(width)}x${String(height)}`,
    );
  }
  return { width, height, data: body };
}

/** `answerMs` is how long the bridge may take to answer, in addition to the transfer. */
async function request(path: string, what: object, answerMs = 0): Promise<Reply> {
  const socket = connect(path);
  const timeoutMs = TIMEOUT_MS + answerMs;
  socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs / 1000} seconds`)));
  socket.write(`${JSON.stringify(what)}\n`);
  try {
    return await readReply(socket as AsyncIterable<Buffer>, path);
  } catch (cause) {
    if (cause instanceof ControlError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const isAbsent = code === 'ENOENT' || code === 'ECONNREFUSED';
    throw new ControlError(
      'unreachable',
      isAbsent
        ? `no bridge answers at ${path}: start \`scanout run\`, or give the path of its control socket with --control`
        : `${path}: ${message}`,
      { cause },
    );
  } finally {
    socket.destroy();
  }
}

async function readReply(stream: AsyncIterable<Buffer>, path: string): Promise<Reply> {
  const chunks: Buffer[] = [];
  let length = 0;
  let head: Readonly<Record<string, unknown>> | null = null;
  let wanted = Infinity;
  for await (const chunk of stream) {
    chunks.push(chunk);
    length += chunk.length;
    const newline = head ? -1 : chunk.indexOf(0x0a);
    if (newline >= 0) {
      const all = Buffer.concat(chunks);
      const end = length - chunk.length + newline;
      head = parseHead(all.toString('utf8', 0, end), path);
      wanted = bodyLength(head, path);
      const rest = all.subarray(end + 1);
      chunks.splice(0, chunks.length, rest);
      length = rest.length;
    }
    if (!head && length > MAX_HEAD) throw new ControlError('protocol', `${path}: the answer has no first line`);
    if (head && length >= wanted) return { head, body: Buffer.concat(chunks).subarray(0, wanted) };
  }
  throw new ControlError('protocol', `${path}: the connection closed before the answer was complete`);
}

function parseHead(line: string, path: string): Readonly<Record<string, unknown>> {
  let head: unknown;
  try {
    head = JSON.parse(line);
  } catch (cause) {
    throw new ControlError('protocol', `${path}: the answer is not that of a bridge`, { cause });
  }
  if (typeof head !== 'object' || head === null)
    throw new ControlError('protocol', `${path}: the answer is not that of a bridge`);
  const { ok, code, message } = head as Record<string, unknown>;
  if (ok !== true) throw new ControlError((code ?? 'protocol') as ControlErrorCode, String(message));
  return head as Record<string, unknown>;
}

function bodyLength(head: Readonly<Record<string, unknown>>, path: string): number {
  const { bytes = 0 } = head;
  if (typeof bytes !== 'number' || !Number.isInteger(bytes) || bytes < 0 || bytes > MAX_BODY) {
    throw new ControlError('protocol', `${path}: the answer announces ${String(bytes)} bytes`);
  }
  return bytes;
}
