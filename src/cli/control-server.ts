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

/** Answers requests. Throws or rejects with ControlError for a request that fails. */
export interface ControlHandlers {
  stats(): unknown;
  /** `signal` is aborted when the client disconnects. */
  screenshot(request: ScreenshotRequest, signal: AbortSignal): Promise<Picture>;
}

/**
 * Answers requests on a Unix socket that only its owner may open (mode 0600). A client that sends an invalid request
 * gets an error and is disconnected; other clients and the bridge are not affected.
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
   * Listens at `path`. Creates its directory (mode 0700) if it is missing, and replaces a socket that no process listens
   * on. Throws ControlError `in-use` or `unsafe-directory`, or the SysError of bind.
   */
  static open(path: string, handlers: ControlHandlers): ControlServer {
    prepareDirectory(dirname(path));
    let listener: OwnedFd;
    try {
      listener = listenUnix(path);
    } catch (error) {
      if (!(error instanceof SysError && error.code === 'EADDRINUSE')) throw error;
      throw new ControlError(
        'in-use',
        `${path} belongs to another running bridge, or is not a socket: give --control another path`,
        { cause: error },
      );
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
  // Another user may have created this directory in /tmp first.
  const found = lstatSync(directory);
  if (!found.isDirectory() || found.uid !== process.getuid!() || (found.mode & 0o077) !== 0) {
    throw new ControlError(
      'unsafe-directory',
      `${directory} must be a directory that only this user can access: remove it or give --control another path`,
    );
  }
}

async function serve(client: Socket, handlers: ControlHandlers): Promise<void> {
  const disconnected = new AbortController();
  client.on('close', () => disconnected.abort(new ControlError('unreachable', 'the client disconnected')));
  client.setTimeout(IDLE_MS);
  try {
    for await (const line of requestLines(client)) {
      // A client that waits for an answer is not idle.
      client.setTimeout(0);
      const [head, body] = await answer(line, handlers, disconnected.signal);
      client.setTimeout(IDLE_MS);
      await send(client, head, body);
    }
    client.end();
  } catch (error) {
    if (error instanceof ControlError) client.end(`${JSON.stringify(refusal(error))}\n`, () => client.destroy());
    else client.destroy();
  }
}

/** The reply to a request. Throws ControlError `malformed`, after which the client is disconnected. */
async function answer(
  line: string,
  handlers: ControlHandlers,
  signal: AbortSignal,
): Promise<[head: object, body: Uint8Array | null]> {
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
  // The loop is left on an invalid request, whose answer must still be sent.
  for await (const chunk of client.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      if (end > MAX_REQUEST) break;
      yield rest.toString('utf8', 0, end);
      rest = rest.subarray(end + 1);
    }
    if (rest.length > MAX_REQUEST)
      throw new ControlError('malformed', `a request may have at most ${MAX_REQUEST} bytes`);
  }
}

/** Resolves when the kernel has taken everything, so that a client that does not read costs memory for one reply only. */
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
