import { lstatSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Picture } from '../core/picture.ts';
import { SysError } from '../sys/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { listenUnix } from '../sys/socket.ts';
import { ControlError, MAX_REQUEST, parseRequest, type ScreenshotRequest } from './control.ts';

const MAX_CLIENTS = 8;
const IDLE_MS = 30_000;

/** What clients can ask for. Throws ControlError for what cannot be had. */
export interface ControlHandlers {
  stats(): unknown;
  /** The signal: whoever asked is gone. */
  screenshot(request: ScreenshotRequest, signal: AbortSignal): Promise<Picture>;
}

/**
 * Answers on a Unix socket only its owner may open (0600). A client that speaks nonsense is told
 * so and let go; the others and the bridge do not notice.
 */
export class ControlServer implements Disposable {
  readonly path: string;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();

  private constructor(path: string, handlers: ControlHandlers, listener: OwnedFd) {
    this.path = path;
    this.#server = createServer({ allowHalfOpen: true }, (client) => {
      this.#clients.add(client);
      client.on('close', () => this.#clients.delete(client));
      client.on('error', () => client.destroy());
      client.on('timeout', () => client.destroy());
      void serve(client, handlers);
    });
    this.#server.maxConnections = MAX_CLIENTS;
    this.#server.listen({ fd: listener.take() });
  }

  /**
   * Listens at `path`, whose directory is made (0700) if it is missing; a socket nobody answers
   * on is replaced. Throws ControlError `in-use`, `unsafe-directory`; SysError of bind.
   */
  static open(path: string, handlers: ControlHandlers): ControlServer {
    prepareDirectory(dirname(path));
    let listener: OwnedFd;
    try {
      listener = listenUnix(path);
    } catch (error) {
      if (!(error instanceof SysError && error.code === 'EADDRINUSE')) throw error;
      throw new ControlError('in-use', `${path} belongs to another running bridge (or is no socket): give --control another path`, { cause: error });
    }
    return new ControlServer(path, handlers, listener);
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const client of this.#clients) client.destroy();
    rmSync(this.path, { force: true });
  }
}

function prepareDirectory(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (directory !== `/tmp/scanout-bridge-${process.getuid!()}`) return;
  // Anybody could have made this one first.
  const found = lstatSync(directory);
  if (!found.isDirectory() || found.uid !== process.getuid!() || (found.mode & 0o077) !== 0) {
    throw new ControlError('unsafe-directory', `${directory} is not a directory of this user alone: remove it or give --control another path`);
  }
}

async function serve(client: Socket, handlers: ControlHandlers): Promise<void> {
  const gone = new AbortController();
  client.on('close', () => gone.abort(new ControlError('unreachable', 'the client is gone')));
  client.setTimeout(IDLE_MS);
  try {
    for await (const line of requestLines(client)) {
      // An answer may take its time: a client is idle while it neither asks nor reads.
      client.setTimeout(0);
      const [head, body] = await answer(line, handlers, gone.signal);
      client.setTimeout(IDLE_MS);
      await send(client, head, body);
    }
    client.end();
  } catch (error) {
    if (error instanceof ControlError) client.end(`${JSON.stringify(refusal(error))}\n`, () => client.destroy());
    else client.destroy();
  }
}

/** The reply to one request. Throws ControlError `malformed`, after which the client is let go. */
async function answer(line: string, handlers: ControlHandlers, signal: AbortSignal): Promise<[head: object, body: Uint8Array | null]> {
  const request = parseRequest(line);
  try {
    if (request.command === 'stats') return [{ ok: true, stats: handlers.stats() }, null];
    const { width, height, data } = await handlers.screenshot(request, signal);
    return [{ ok: true, width, height, bytes: data.length }, data];
  } catch (error) {
    return [refusal(error), null];
  }
}

function refusal(error: unknown): object {
  const code = error instanceof ControlError ? error.code : 'internal';
  return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
}

async function* requestLines(client: Socket): AsyncGenerator<string> {
  let rest = Buffer.alloc(0);
  // The answer to nonsense still has to go out after this loop was left.
  for await (const chunk of client.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      if (end > MAX_REQUEST) break;
      yield rest.toString('utf8', 0, end);
      rest = rest.subarray(end + 1);
    }
    if (rest.length > MAX_REQUEST) throw new ControlError('malformed', `a request has at most ${MAX_REQUEST} bytes`);
  }
}

/** Resolves when the kernel has taken it all: a client that does not read costs one reply, not many. */
function send(client: Socket, head: object, body: Uint8Array | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null): void => (error ? reject(error) : resolve());
    const line = `${JSON.stringify(head)}\n`;
    if (!body) {
      client.write(line, done);
      return;
    }
    client.cork();
    client.write(line);
    client.write(body, done);
    client.uncork();
  });
}
