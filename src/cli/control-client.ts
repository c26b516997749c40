import { connect } from 'node:net';
import type { Picture } from '../core/picture.ts';
import { ControlError, type ControlErrorCode, type ScreenshotRequest } from './control-protocol.ts';

const TIMEOUT_MS = 30_000;
const MAX_HEAD = 2 ** 20;
/** A picture of 16384 x 16384. */
const MAX_BODY = 2 ** 30;

interface Reply {
  readonly head: Readonly<Record<string, unknown>>;
  readonly body: Uint8Array;
}

/** The bridge's stats, as it tells them. Throws ControlError. */
export async function requestStats(path: string): Promise<unknown> {
  const { head } = await request(path, { command: 'stats' });
  return head['stats'];
}

/** What a scanout's first output shows, now or when it stands still. Throws ControlError. */
export async function requestScreenshot(path: string, { still, ...what }: ScreenshotRequest): Promise<Picture> {
  const { head, body } = await request(path, { command: 'screenshot', ...what, ...still }, still?.timeoutMs);
  const { width, height } = head;
  if (typeof width !== 'number' || typeof height !== 'number' || width * height * 4 !== body.length) {
    throw new ControlError('protocol', `${path} answered with ${body.length} bytes for a picture of ${String(width)}x${String(height)}`);
  }
  return { width, height, data: body };
}

/** The bridge may take `itsMs` to have an answer. */
async function request(path: string, what: object, itsMs = 0): Promise<Reply> {
  const socket = connect(path);
  const timeoutMs = TIMEOUT_MS + itsMs;
  socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs / 1000} seconds`)));
  socket.write(`${JSON.stringify(what)}\n`);
  try {
    return await readReply(socket as AsyncIterable<Buffer>, path);
  } catch (cause) {
    if (cause instanceof ControlError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const isAbsent = code === 'ENOENT' || code === 'ECONNREFUSED';
    throw new ControlError('unreachable', isAbsent ? `no bridge answers at ${path}: start \`scanout run\`, or give its --control path` : `${path}: ${message}`, { cause });
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
    if (!head && length > MAX_HEAD) throw new ControlError('protocol', `${path} answered without a first line`);
    if (head && length >= wanted) return { head, body: Buffer.concat(chunks).subarray(0, wanted) };
  }
  throw new ControlError('protocol', `${path} hung up before its answer was complete`);
}

function parseHead(line: string, path: string): Readonly<Record<string, unknown>> {
  let head: unknown;
  try {
    head = JSON.parse(line);
  } catch (cause) {
    throw new ControlError('protocol', `${path} does not answer like a bridge`, { cause });
  }
  if (typeof head !== 'object' || head === null) throw new ControlError('protocol', `${path} does not answer like a bridge`);
  const { ok, code, message } = head as Record<string, unknown>;
  if (ok !== true) throw new ControlError((code ?? 'protocol') as ControlErrorCode, String(message));
  return head as Record<string, unknown>;
}

function bodyLength(head: Readonly<Record<string, unknown>>, path: string): number {
  const { bytes = 0 } = head;
  if (typeof bytes !== 'number' || !Number.isInteger(bytes) || bytes < 0 || bytes > MAX_BODY) {
    throw new ControlError('protocol', `${path} announced ${String(bytes)} bytes`);
  }
  return bytes;
}
