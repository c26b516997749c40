import { timingSafeEqual } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { isIP, Socket } from 'node:net';
import { dirname, extname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { createWebSocketStream, WebSocketServer } from 'ws';
import { packageFile } from '../../src/sys/package-file.ts';

/** A page has loaded within this time, however slow the line; a connection that has become a viewer's has no limit. */
const REQUEST_MS = 30_000;
/** Viewers send short messages. A longer one ends the connection. */
const MAX_MESSAGE = 64 * 1024;
/** Where noVNC's page connects, as websockify has it. */
const WEBSOCKET_PATH = '/websockify';
const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};
const JSON_TYPE = 'application/json';
/** Nothing is loaded from elsewhere, and no other page may frame this one. noVNC draws pointers by data URLs. */
const HEADERS = {
  'Cache-Control': 'no-cache',
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

export interface WebFrontOptions {
  /** Whether viewers have to know one; default false. Without it, the page has to be opened by an address or as `localhost`. */
  readonly hasPassword?: boolean;
  /** Lets in only browsers that have opened `/?token=TOKEN`, which become known by a cookie. Default: all. */
  readonly token?: string;
  /** Lines that the page shows beside the picture when it is opened as `/?status`. */
  readonly status?: () => readonly string[];
}

/** A page with noVNC, and the WebSocket that it connects to: for connections that speak HTTP. */
export class WebFront implements Disposable {
  /** A viewer that came by WebSocket; its greeting has not been sent. */
  onViewer: (stream: Duplex) => void = (stream) => stream.destroy();
  readonly #options: WebFrontOptions;
  readonly #files: ReadonlyMap<string, Buffer>;
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  readonly #toStream: typeof createWebSocketStream;
  /** Connections that are not a viewer's, with their limits. */
  readonly #sockets = new Map<Duplex, NodeJS.Timeout>();

  private constructor(options: WebFrontOptions, webSockets: WebSocketServer, toStream: typeof createWebSocketStream) {
    this.#options = options;
    this.#files = readPage();
    this.#webSockets = webSockets;
    this.#toStream = toStream;
    this.#http = createServer((request, response) => this.#answer(request, response));
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /** Reads all that it will serve, because a bridge that has confined itself can read no more files. */
  static async open(options: WebFrontOptions = {}): Promise<WebFront> {
    const ws = await import('ws');
    const webSockets = new ws.WebSocketServer({ noServer: true, clientTracking: false, maxPayload: MAX_MESSAGE });
    return new WebFront(options, webSockets, ws.createWebSocketStream);
  }

  /** Takes over a connection, from its first byte on. */
  accept(socket: Socket): void {
    this.#sockets.set(
      socket,
      setTimeout(() => socket.destroy(), REQUEST_MS),
    );
    socket.on('close', () => this.#forget(socket));
    this.#http.emit('connection', socket);
  }

  /** Whether a browser at that address has a connection; it keeps one for some seconds after its last request. */
  isOpenAt(remoteAddress: string | undefined): boolean {
    for (const socket of this.#sockets.keys())
      if (socket instanceof Socket && socket.remoteAddress === remoteAddress) return true;
    return false;
  }

  /** Ends the connections that are not a viewer's. */
  [Symbol.dispose](): void {
    for (const socket of [...this.#sockets.keys()]) {
      this.#forget(socket);
      socket.destroy();
    }
  }

  #forget(socket: Duplex): void {
    clearTimeout(this.#sockets.get(socket));
    this.#sockets.delete(socket);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    request.resume();
    const { status, token } = this.#options;
    const [path, query] = (request.url ?? '').split('?') as [string, string?];
    if (token !== undefined && path === '/' && this.#isOurs(request) && isSame(query ?? '', `token=${token}`)) {
      const cookie = `${cookieName(request)}=${token}; Path=/; HttpOnly; SameSite=Strict`;
      response.writeHead(303, { ...HEADERS, Location: status ? '/?status' : '/', 'Set-Cookie': cookie });
      response.end();
      return;
    }
    const isStatus = status !== undefined && path === '/status';
    const body = isStatus ? JSON.stringify(status()) : this.#files.get(path === '/' ? '/index.html' : path);
    const refusal = this.#refusal(request) ?? (body === undefined ? 404 : null);
    const type = isStatus ? JSON_TYPE : (TYPES[extname(path)] ?? TYPES['.html']);
    response.writeHead(refusal ?? 200, { ...HEADERS, 'Content-Type': type });
    response.end(refusal === null ? body : EXPLANATIONS[refusal]);
  }

  /** The HTTP status for a request that is not to be answered; null for any other. */
  #refusal(request: IncomingMessage): number | null {
    if (!this.#isOurs(request)) return 403;
    if (!this.#isKnown(request)) return 401;
    return request.method === 'GET' ? null : 405;
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    if (this.#refusal(request) !== null || request.url !== WEBSOCKET_PATH) {
      socket.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
      return;
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.#forget(socket);
      const stream = this.#toStream(webSocket);
      // A viewer that is not read from would not hear of its end.
      socket.on('close', () => stream.destroy());
      this.onViewer(stream);
    });
  }

  /** Whether a browser has shown the token, if there is one. */
  #isKnown(request: IncomingMessage): boolean {
    const { token } = this.#options;
    if (token === undefined) return true;
    const wanted = `${cookieName(request)}=${token}`;
    return (request.headers.cookie ?? '').split('; ').some((cookie) => isSame(cookie, wanted));
  }

  /**
   * Whether a request comes from our page or from a program: the pages of others may make a browser send requests to us,
   * by another Origin, or by a name of theirs that leads to this machine.
   */
  #isOurs({ headers: { host = '', origin } }: IncomingMessage): boolean {
    const at = parseUrl(`http://${host}`);
    if (!at) return false;
    if (origin !== undefined && parseUrl(origin)?.host !== at.host) return false;
    return (
      this.#options.hasPassword === true ||
      at.hostname === 'localhost' ||
      isIP(at.hostname.replace(/^\[|\]$/g, '')) !== 0
    );
  }
}

/** Cookies of a host are those of all its ports. */
function cookieName({ socket }: IncomingMessage): string {
  return `scanout-${socket.localPort}`;
}

function isSame(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

const EXPLANATIONS: Readonly<Record<number, string>> = {
  401: 'Open this page by the whole address that was printed, with its token.',
  403: 'Open this page by the address of its machine, such as http://127.0.0.1:5900/, or as http://localhost:5900/.',
  404: 'There is no such file here.',
  405: 'This only answers GET.',
};

/** The files of our page, and those of noVNC below /novnc, by their paths. */
function readPage(): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const page = packageFile('display/vnc/page');
  for (const name of readdirSync(page)) files.set(`/${name}`, readFileSync(join(page, name)));
  const novnc = dirname(dirname(createRequire(import.meta.url).resolve('@novnc/novnc')));
  for (const folder of ['core', 'vendor'])
    for (const name of readdirSync(join(novnc, folder), { recursive: true, encoding: 'utf8' }))
      if (name.endsWith('.js')) files.set(`/novnc/${folder}/${name}`, readFileSync(join(novnc, folder, name)));
  return files;
}

function parseUrl(text: string): URL | null {
  return URL.canParse(text) ? new URL(text) : null;
}
