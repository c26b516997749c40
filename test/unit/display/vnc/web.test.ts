import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { WebFront } from '../../../../display/vnc/web-front.ts';
import { DisposableStack } from '../../../../src/sys/disposable-stack.ts';
import { eventually } from '../../../rig/eventually.ts';
import { freePort } from '../../../rig/free-port.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { VncRig } from './rig.ts';

expectNoLeaks();

const host = '127.0.0.1';

async function open(password?: string): Promise<{ rig: VncRig; port: number }> {
  const port = await freePort(host);
  return { rig: await VncRig.open({ address: { host, port }, ...(password !== undefined && { password }) }), port };
}

/** Without fetch's resolution of `..`, and with any header. */
async function request(port: number, path: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const [response] = (await once(get({ host, port, path, headers, agent: false }), 'response')) as [IncomingMessage];
  return response;
}

/** A viewer's WebSocket, with the greeting that it got; rejects with what it got instead. */
async function webSocket(port: number, headers: Record<string, string>): Promise<{ socket: WebSocket; said: string }> {
  const socket = new WebSocket(`ws://${host}:${port}/websockify`, { headers });
  const [said] = (await once(socket, 'message')) as [Buffer];
  return { socket, said: said.toString() };
}

async function closed(socket: WebSocket): Promise<void> {
  if (socket.readyState === WebSocket.CLOSED) return;
  const close = once(socket, 'close');
  socket.terminate();
  await close;
}

test('VncOutput: a browser gets a page all of whose files are here, and which may load nothing from elsewhere', async () => {
  const { rig, port } = await open();
  using _rig = rig;
  const page = await request(port, '/');
  expect(page.headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': expect.stringMatching(/^default-src 'none';.*frame-ancestors 'none'$/) as string,
    'x-content-type-options': 'nosniff',
  });
  const html = await text(page);
  const todo = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => new URL(path!, `http://${host}/`));
  const seen = new Set<string>();
  for (let url = todo.pop(); url; url = todo.pop()) {
    expect(url.host).toBe(host);
    if (seen.has(url.pathname)) continue;
    seen.add(url.pathname);
    const response = await request(port, url.pathname);
    expect([url.pathname, response.statusCode]).toEqual([url.pathname, 200]);
    const source = await text(response);
    for (const [, path] of source.matchAll(/^(?:import|export)\b[^;'"]*['"](\.[^'"]+)['"]/gm))
      todo.push(new URL(path!, url));
  }
  expect(seen.size).toBeGreaterThan(40);
});

test.each([
  ['/novnc/core/../../package.json', 404],
  ['/../index.html', 404],
  ['/page.js?a=b', 200],
  ['http://127.0.0.1/page.js', 404],
])('VncOutput: answers a request of %s with %i', async (path, status) => {
  const { rig, port } = await open();
  using _rig = rig;
  const response = await request(port, path);
  expect(response.statusCode).toBe(status);
  await buffer(response);
});

test.each([
  ['127.0.0.1:5900', undefined, 200],
  ['localhost', undefined, 200],
  ['[::1]:5900', undefined, 200],
  ['evil.example:5900', undefined, 403],
  ['evil.example:5900', 'sesame', 200],
] as const)('VncOutput: a browser that calls it %j, with password %j, gets %i', async (name, password, status) => {
  const { rig, port } = await open(password);
  using _rig = rig;
  const response = await request(port, '/', { host: name });
  expect(response.statusCode).toBe(status);
  await buffer(response);
});

test('VncOutput: a viewer may come by WebSocket from its own page or from a program, and from no other page', async () => {
  const { rig, port } = await open();
  using _rig = rig;
  for (const origin of [{}, { origin: `http://${host}:${port}` }]) {
    const { socket, said } = await webSocket(port, origin);
    expect(said).toBe('RFB 003.008\n');
    socket.send('RFB 003.008\n');
    expect([...((await once(socket, 'message')) as [Buffer])[0]]).toEqual([1, 1]);
    await closed(socket);
  }
  for (const origin of ['http://evil.example', `http://${host}:1`, 'null'])
    await expect(webSocket(port, { origin })).rejects.toThrow('403');
  await expect(webSocket(port, { host: 'evil.example', origin: 'http://evil.example' })).rejects.toThrow('403');
});

test('VncOutput: what breaks the rules of HTTP or WebSocket is disconnected, and others are served', async () => {
  const { rig, port } = await open();
  using _rig = rig;
  const garbage = connect({ host, port });
  garbage.end('no request\r\n\r\n');
  expect(await text(garbage)).toMatch(/^HTTP\/1\.1 400 /);
  const { socket } = await webSocket(port, {});
  const close = once(socket, 'close');
  socket.send(Buffer.alloc(64 * 1024 + 1));
  await close;
  const { socket: other } = await webSocket(port, {});
  other.send('HTTP/1.1 ...');
  await once(other, 'close');
  await eventually(() => expect(rig.messages.at(-1)).toContain('disconnected a viewer: not a VNC viewer'));
});

test('VncOutput: waits longer for a connection that says nothing from where a browser has the page', async () => {
  const { rig, port } = await open();
  using _rig = rig;
  const agent = new Agent({ keepAlive: true });
  const [page] = (await once(get({ host, port, agent }), 'response')) as [IncomingMessage];
  await buffer(page);
  const speculative = connect({ host, port });
  await once(speculative, 'connect');
  const viewer = connect({ host, port, localAddress: '127.0.0.2' });
  expect(((await once(viewer, 'data')) as [Buffer])[0].toString()).toBe('RFB 003.008\n');
  speculative.write('GET /page.css HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n');
  expect(await text(speculative)).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  const left = once(viewer, 'close');
  viewer.destroy();
  await left;
  agent.destroy();
});

test('VncOutput: ends connections that have said nothing, or half a request, when it is disposed', async () => {
  const { rig, port } = await open();
  const sockets = ['', 'GET / HTT', 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n'].map((start) => {
    const socket = connect({ host, port });
    socket.on('error', () => undefined);
    socket.write(start);
    return socket;
  });
  await Promise.all(sockets.slice(0, 1).map((socket) => once(socket, 'data')));
  const all = Promise.all(sockets.map((socket) => once(socket, 'close')));
  rig[Symbol.dispose]();
  await all;
});

/** A front with a token, at a port of its own. */
async function openWithToken(status?: () => readonly string[]) {
  using stack = new DisposableStack();
  const web = stack.use(await WebFront.open({ token: 'secret', ...(status && { status }) }));
  const server = createServer((socket) => web.accept(socket)).listen(0, host);
  stack.defer(() => server.close());
  await once(server, 'listening');
  const owned = stack.move();
  return { web, port: (server.address() as AddressInfo).port, [Symbol.dispose]: () => owned[Symbol.dispose]() };
}

test('WebFront: with a token, lets in only browsers that have shown it, by HTTP and by WebSocket', async () => {
  using front = await openWithToken();
  const { port, web } = front;
  for (const path of ['/', '/page.js', '/?token=secre', '/?token=', '/page.js?token=secret', '/status'])
    expect([path, (await request(port, path)).statusCode]).toEqual([path, 401]);
  expect((await request(port, '/?token=secret', { host: 'evil.example' })).statusCode).toBe(403);
  await expect(webSocket(port, {})).rejects.toThrow('403');

  const shown = await request(port, '/?token=secret');
  const [cookie] = shown.headers['set-cookie']!;
  expect([shown.statusCode, shown.headers.location]).toEqual([303, '/']);
  expect(cookie).toBe(`scanout-${port}=secret; Path=/; HttpOnly; SameSite=Strict`);
  const known = { cookie: `other=1; ${cookie!.split(';')[0]!}` };
  expect((await request(port, '/', known)).statusCode).toBe(200);
  expect((await request(port, '/status', known)).statusCode).toBe(404);
  expect((await request(port, '/', { cookie: `scanout-${port}=secrets` })).statusCode).toBe(401);
  web.onViewer = (stream) => stream.end('RFB');
  const { socket, said } = await webSocket(port, known);
  expect(said).toBe('RFB');
  await closed(socket);
});

test('WebFront: gives its page what there is to show beside the picture', async () => {
  using front = await openWithToken(() => ['one', '<two>']);
  const { port } = front;
  const shown = await request(port, '/?token=secret');
  expect(shown.headers.location).toBe('/?status');
  const response = await request(port, '/status', { cookie: `scanout-${port}=secret` });
  expect(response.headers['content-type']).toBe('application/json');
  expect(JSON.parse(await text(response))).toEqual(['one', '<two>']);
});
