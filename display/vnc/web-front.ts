import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { isIP, type Socket } from 'node:net';
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
/** Nothing is loaded from elsewhere, and no other page may frame this one. noVNC draws pointers by data URLs. */
const HEADERS = {
  'Cache-Control': 'no-cache',
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** A page with noVNC, and the WebSocket that it connects to: for connections that speak HTTP. */
export class WebFront implements Disposable {
  /** A viewer that came by WebSocket; its greeting has not been sent. */
  onViewer: (stream: Duplex) => void = (stream) => stream.destroy();
  readonly #hasPassword: boolean;
  readonly #files: ReadonlyMap<string, Buffer>;
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  readonly #toStream: typeof createWebSocketStream;
  /** Connections that are not a viewer's, with their limits. */
  readonly #sockets = new Map<Duplex, NodeJS.Timeout>();

  private constructor(hasPassword: boolean, webSockets: WebSocketServer, toStream: typeof createWebSocketStream) {
    this.#hasPassword = hasPassword;
    this.#files = readPage();
    this.#webSockets = webSockets;
    this.#toStream = toStream;
    this.#http = createServer((request, response) => this.#answer(request, response));
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /**
   * Reads all that it will serve, because a bridge that has confined itself can read no more files. `hasPassword`: whether
   * viewers have to know one. Without it, the page has to be opened by an address or as `localhost`.
   */
  static async open(hasPassword: boolean): Promise<WebFront> {
    const ws = await import('ws');
    const webSockets = new ws.WebSocketServer({ noServer: true, clientTracking: false, maxPayload: MAX_MESSAGE });
    return new WebFront(hasPassword, webSockets, ws.createWebSocketStream);
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
    const path = (request.url ?? '').split('?')[0]!;
    const file = this.#files.get(path === '/' ? '/index.html' : path);
    const status = !this.#isOurs(request) ? 403 : request.method !== 'GET' ? 405 : file ? 200 : 404;
    response.writeHead(status, { ...HEADERS, 'Content-Type': TYPES[extname(path)] ?? TYPES['.html'] });
    response.end(status === 200 ? file : EXPLANATIONS[status]);
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    if (!this.#isOurs(request) || request.url !== WEBSOCKET_PATH) {
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

  /**
   * Whether a request comes from our page or from a program: the pages of others may make a browser send requests to us,
   * by another Origin, or by a name of theirs that leads to this machine.
   */
  #isOurs({ headers: { host = '', origin } }: IncomingMessage): boolean {
    const at = parseUrl(`http://${host}`);
    if (!at) return false;
    if (origin !== undefined && parseUrl(origin)?.host !== at.host) return false;
    return this.#hasPassword || at.hostname === 'localhost' || isIP(at.hostname.replace(/^\[|\]$/g, '')) !== 0;
  }
}

const EXPLANATIONS: Readonly<Record<number, string>> = {
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
