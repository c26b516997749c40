import { mkdirSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Picture } from '../core/picture.ts';
import { SysError } from '../sys/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { listenUnix, SocketFile } from '../sys/socket.ts';
import type { FrameTrace } from './frame-trace.ts';
import type { FrameWatch } from './frame-watch.ts';
import {
  checkDirectory,
  ControlError,
  type ControlRequest,
  type Hello,
  type InputRequest,
  MAX_REQUEST,
  parseRequest,
  type PngFile,
  type ScreenshotRequest,
  type WaitRequest,
} from './protocol.ts';

const MAX_CLIENTS = 8;
const IDLE_MS = 30_000;
/** Requests that may wait while one is answered, in bytes. */
const MAX_WAITING = 2 * MAX_REQUEST;

/** Answers requests. Throws or rejects with ControlError for a request that fails. */
export interface ControlHandlers {
  hello(): Hello;
  stats(): unknown;
  /** `signal` is aborted when the client disconnects; so are those below. */
  screenshot(request: ScreenshotRequest, signal: AbortSignal): Promise<Picture>;
  screenshotPng(request: ScreenshotRequest, signal: AbortSignal): Promise<PngFile>;
  wait(request: WaitRequest, signal: AbortSignal): Promise<void>;
  /** The server disposes what it resolves with. */
  watch(scanout: number, signal: AbortSignal): Promise<FrameWatch>;
  /** The server disposes what it returns. */
  trace(scanout: number): FrameTrace;
  operate(request: InputRequest, signal: AbortSignal): Promise<void>;
}

/** One with a single answer. */
type SingleRequest = Exclude<ControlRequest, { command: 'watch' | 'trace' }>;
type Answer = readonly [head: object, body: Uint8Array | null];

/**
 * Answers requests on a Unix socket that only its owner may open (mode 0600). A client that sends an invalid request
 * gets an error and is disconnected; other clients and the bridge are not affected.
 */
export class ControlServer implements Disposable {
  readonly path: string;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  readonly #file: SocketFile;

  private constructor(path: string, handlers: ControlHandlers, listener: OwnedFd) {
    this.path = path;
    this.#file = SocketFile.at(path);
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      if (this.#clients.size >= MAX_CLIENTS) {
        refuse(socket, new ControlError('busy', `the bridge serves ${MAX_CLIENTS} clients already: try again later`));
        return;
      }
      this.#clients.add(socket);
      socket.on('close', () => this.#clients.delete(socket));
      new Client(socket, handlers);
    });
    this.#server.listen({ fd: listener.take() });
  }

  /**
   * Listens at `path`. Creates its directory (mode 0700) if it is missing, and replaces a socket that no process listens
   * on. Throws ControlError `in-use` or `unsafe-directory`, or the SysError of bind.
   */
  static open(path: string, handlers: ControlHandlers): ControlServer {
    const directory = dirname(path);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    checkDirectory(directory);
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

  /** How many are connected. */
  get clients(): number {
    return this.#clients.size;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
    this.#server.close();
    for (const client of this.#clients) client.destroy();
  }
}

/**
 * A connection. Its requests are answered one after the other. It is read meanwhile, because only that shows that the
 * client has gone and that its answer is not wanted.
 */
class Client {
  readonly #socket: Socket;
  readonly #handlers: ControlHandlers;
  readonly #gone = new AbortController();
  #requests = Buffer.alloc(0);
  #isAnswering = false;

  constructor(socket: Socket, handlers: ControlHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    const left = (): void => this.#gone.abort(new ControlError('unreachable', 'the client disconnected'));
    socket.setTimeout(IDLE_MS);
    socket.on('timeout', () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', left);
    socket.on('end', () => {
      left();
      void this.#answerAll();
    });
    socket.on('data', (bytes) => {
      this.#requests = Buffer.concat([this.#requests, bytes]);
      if (this.#requests.length > MAX_WAITING) socket.destroy();
      else void this.#answerAll();
    });
  }

  async #answerAll(): Promise<void> {
    if (this.#isAnswering) return;
    this.#isAnswering = true;
    const socket = this.#socket;
    try {
      for (let line = this.#nextLine(); line !== null; line = this.#nextLine()) {
        // A client that waits for an answer is not idle.
        socket.setTimeout(0);
        for await (const [head, body] of answers(line, this.#handlers, this.#gone.signal)) {
          socket.setTimeout(IDLE_MS);
          // One that sends but does not take its answers is.
          socket.pause();
          await send(socket, head, body);
          socket.resume();
          socket.setTimeout(0);
        }
        socket.setTimeout(IDLE_MS);
      }
      if (socket.readableEnded) socket.end();
      this.#isAnswering = false;
    } catch (error) {
      // No further request is answered.
      if (error instanceof ControlError) refuse(socket, error);
      else socket.destroy();
    }
  }

  /** Null until a whole line has arrived. */
  #nextLine(): string | null {
    const end = this.#requests.indexOf(0x0a);
    if ((end < 0 ? this.#requests.length : end) > MAX_REQUEST)
      throw new ControlError('malformed', `a request may have at most ${MAX_REQUEST} bytes`);
    if (end < 0) return null;
    const line = this.#requests.toString('utf8', 0, end);
    this.#requests = this.#requests.subarray(end + 1);
    return line;
  }
}

/**
 * The replies to a request: one, or those of a watch or a trace until the client leaves. Throws ControlError `malformed`, after
 * which the client is disconnected.
 */
async function* answers(line: string, handlers: ControlHandlers, signal: AbortSignal): AsyncGenerator<Answer> {
  const request = parseRequest(line);
  try {
    if (request.command === 'watch') {
      using watch = await handlers.watch(request.scanout, signal);
      for (;;) yield [{ ok: true, frame: await watch.next(signal) }, null];
    } else if (request.command === 'trace') {
      using trace = handlers.trace(request.scanout);
      for (;;) yield [{ ok: true, trace: await trace.next(signal) }, null];
    } else {
      yield await answer(request, handlers, signal);
    }
  } catch (error) {
    yield [refusal(error), null];
  }
}

async function answer(request: SingleRequest, handlers: ControlHandlers, signal: AbortSignal): Promise<Answer> {
  switch (request.command) {
    case 'hello':
      return [{ ok: true, ...handlers.hello() }, null];
    case 'stats':
      return [{ ok: true, stats: handlers.stats() }, null];
    case 'screenshot': {
      const { output, format } = request;
      if (format) {
        const { width, height, bytes } = await handlers.screenshotPng(request, signal);
        return [{ ok: true, width, height, bytes: bytes.length, ...(output && { output }), format }, bytes];
      }
      const { width, height, data } = await handlers.screenshot(request, signal);
      return [{ ok: true, width, height, bytes: data.length, ...(output && { output }) }, data];
    }
    case 'wait':
      await handlers.wait(request, signal);
      return [{ ok: true }, null];
    default:
      await handlers.operate(request, signal);
      return [{ ok: true }, null];
  }
}

function refusal(error: unknown): object {
  const code = error instanceof ControlError ? error.code : 'internal';
  return { ok: false, code, message: error instanceof Error ? error.message : String(error) };
}

/** Sends an error and disconnects the client. */
function refuse(socket: Socket, error: ControlError): void {
  socket.on('error', () => socket.destroy());
  socket.end(`${JSON.stringify(refusal(error))}\n`, () => socket.destroy());
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
