/** Hostile clients of a control socket, and hostile bridges for a ControlClient. Everything follows from one seed. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ControlClient, requestStats } from '../../src/control/client.ts';
import { FrameTrace } from '../../src/control/frame-trace.ts';
import { FrameWatch } from '../../src/control/frame-watch.ts';
import type { Point } from '../../src/control/operator.ts';
import {
  ControlError,
  type InputRequest,
  MAX_REQUEST,
  MAX_SIDE,
  MAX_WAIT_MS,
  type ScreenshotRequest,
  type WaitRequest,
} from '../../src/control/protocol.ts';
import { type ControlHandlers, ControlServer } from '../../src/control/server.ts';
import type { Random } from './random.ts';
import { stillScreen } from './still-screen.ts';

export interface ControlFuzzResult {
  /** Lines that were sent. */
  readonly requests: number;
  /** Calls of handlers. */
  readonly handled: number;
  readonly answered: number;
  readonly refused: number;
  readonly sessions: number;
  /** What must not happen and did. */
  readonly faults: readonly string[];
}

const VALID: readonly object[] = [
  { command: 'hello' },
  { command: 'stats' },
  { command: 'screenshot', scanout: 0, cursor: true, region: { x: 0, y: 0, width: 1, height: 1 } },
  { command: 'screenshot', quietMs: 1, timeoutMs: 2 },
  { command: 'screenshot', format: 'png' },
  { command: 'wait', for: 'stable', quietMs: 1, timeoutMs: 2 },
  { command: 'wait', for: 'change' },
  { command: 'watch', scanout: 0 },
  { command: 'trace', scanout: 0 },
  { command: 'type', text: 'ls\n' },
  { command: 'press', keys: 'ctrl+c' },
  { command: 'move', x: 1, y: 2.5 },
  { command: 'click', x: 1, y: 2, button: 'left', double: true },
  { command: 'drag', from: { x: 1, y: 2 }, to: { x: 3, y: 4 } },
  { command: 'scroll', right: -1, down: 100, at: { x: 0, y: 0 } },
  { command: 'touch', from: { x: 1, y: 2 }, to: { x: 3, y: 4 } },
];

const ODD: readonly unknown[] = [
  ...[null, true, '', 'left', '__proto__', 'x'.repeat(5000), '\u0000\n\u001b[2J', [], {}, [[[]]]],
  ...[0, -0, -1, 0.5, 101, 16384, 16385, 2 ** 31, 2 ** 53, -(2 ** 63), 1e308, { x: 1 }, { x: 1, y: {} }],
];

/** A request of which fields are changed, added or taken away, or bytes of its text. */
function requestFrom(random: Random): Buffer {
  const request = structuredClone(random.pick(VALID)) as Record<string, unknown>;
  // A client is disconnected after the first request that is malformed.
  if (random.chance(0.8)) return Buffer.from(`${JSON.stringify(request)}\n`);
  for (let n = random.below(3); n > 0; n--) {
    const field = random.pick([...Object.keys(request), 'scanout', 'region', '__proto__', 'constructor']);
    if (random.chance(0.2)) Reflect.deleteProperty(request, field);
    else Object.defineProperty(request, field, { value: random.pick(ODD), enumerable: true, configurable: true });
  }
  const line = Buffer.from(`${JSON.stringify(request)}\n`);
  if (random.chance(0.1)) line[random.below(line.length)] = random.below(256);
  if (random.chance(0.02)) return Buffer.concat([line.subarray(0, random.below(line.length)), Buffer.from('\n')]);
  return random.chance(0.01) ? Buffer.alloc(MAX_REQUEST + random.below(3), 0x20) : line;
}

export async function fuzzControl(random: Random, requests: number): Promise<ControlFuzzResult> {
  const directory = mkdtempSync(join(tmpdir(), 'fuzz-control-'));
  const path = join(directory, 'control.sock');
  const total = { requests: 0, handled: 0, answered: 0, refused: 0, sessions: 0, faults: new Array<string>() };
  using server = ControlServer.open(path, handlersOf(random, total));
  try {
    while (total.requests < requests && total.faults.length === 0) {
      const clients = Array.from({ length: 1 + random.below(10) }, () => session(path, random, total));
      await Promise.all(clients);
      total.sessions += clients.length;
      // The server learns of the clients' ends one by one.
      for (let served = false; !served;)
        served = await requestStats(path).then(
          () => true,
          (error: unknown) => {
            if ((error as ControlError).code !== 'busy') total.faults.push(`no more stats: ${String(error)}`);
            return total.faults.length > 0;
          },
        );
    }
  } finally {
    server[Symbol.dispose]();
    rmSync(directory, { recursive: true });
  }
  return total;
}

/** Handlers that check what they are given, and answer soon, late, never, or with an error. */
function handlersOf(random: Random, total: { handled: number; faults: string[] }): ControlHandlers {
  const check = (what: string, isRight: boolean, request: unknown): void => {
    if (!isRight) total.faults.push(`${what}: ${JSON.stringify(request)}`);
  };
  const isPoint = ({ x, y }: Point): boolean =>
    [x, y].every((value) => Number.isFinite(value) && value >= 0 && value <= MAX_SIDE);
  const answer = async <T>(value: T, signal: AbortSignal): Promise<T> => {
    total.handled++;
    if (random.chance(0.1)) throw random.chance(0.5) ? new ControlError('input', 'no') : new Error('internal');
    if (random.chance(0.02))
      await new Promise((_, reject) => {
        if (signal.aborted) reject(signal.reason as Error);
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      });
    if (random.chance(0.5)) await new Promise(setImmediate);
    return value;
  };
  const isView = ({ scanout, cursor, region }: ScreenshotRequest | WaitRequest): boolean =>
    isScanout(scanout) &&
    typeof cursor === 'boolean' &&
    (!region || (isPoint(region) && [region.width, region.height].every((s) => s >= 1 && s <= MAX_SIDE)));
  const isMs = (ms: number): boolean => Number.isInteger(ms) && ms >= 0 && ms <= MAX_WAIT_MS;
  return {
    hello: () => ({ protocol: 1, scanouts: 1, keyboard: true, touch: true }),
    stats: () => ({ handled: total.handled }),
    screenshot: (request, signal) => {
      const { still } = request;
      check('screenshot', isView(request) && (!still || (isMs(still.quietMs) && isMs(still.timeoutMs))), request);
      return answer({ width: 4, height: 4, data: new Uint8Array(64) }, signal);
    },
    screenshotPng: (request, signal) => {
      check('screenshotPng', isView(request) && request.format === 'png', request);
      return answer({ width: 4, height: 4, bytes: new Uint8Array(20) }, signal);
    },
    wait: (request, signal) => {
      check('wait', isView(request) && isMs(request.quietMs) && isMs(request.timeoutMs), request);
      return answer(undefined, signal);
    },
    watch: (scanout, signal) => {
      check('watch', isScanout(scanout), scanout);
      return answer(new FrameWatch(stillScreen, { width: 4, height: 4 }, () => undefined), signal);
    },
    trace: (scanout) => {
      check('trace', isScanout(scanout), scanout);
      return new FrameTrace((tracer) => {
        tracer('output', { flushed: 1, staged: 2, presented: 3, onScreen: 4, released: null });
        return () => undefined;
      });
    },
    operate: (request, signal) => {
      check('operate', isRight(request, isPoint), request);
      return answer(undefined, signal);
    },
  };
}

function isScanout(scanout: number): boolean {
  return Number.isInteger(scanout) && scanout >= 0 && scanout <= 2 ** 16;
}

function isRight(request: InputRequest, isPoint: (point: Point) => boolean): boolean {
  if ('scanout' in request && !isScanout(request.scanout)) return false;
  if ('button' in request && !['left', 'right', 'middle'].includes(request.button)) return false;
  switch (request.command) {
    case 'type':
      return typeof request.text === 'string';
    case 'press':
      return typeof request.keys === 'string';
    case 'move':
      return isPoint(request);
    case 'click':
      return isPoint(request) && typeof request.double === 'boolean';
    case 'drag':
    case 'touch':
      return isPoint(request.from) && isPoint(request.to);
    case 'scroll': {
      const areNotches = [request.right, request.down].every((n) => Number.isInteger(n) && Math.abs(n) <= 100);
      return areNotches && (!request.at || isPoint(request.at));
    }
  }
}

/** One client, from its connection to its end. What it gets must be answers, line by line. */
async function session(
  path: string,
  random: Random,
  total: { requests: number; answered: number; refused: number; faults: string[] },
): Promise<void> {
  const socket = connect(path).on('error', () => undefined);
  const closed = new Promise((resolve) => socket.on('close', resolve));
  const chunks: Buffer[] = [];
  if (random.chance(0.9)) socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  else socket.pause();
  for (let n = random.below(30); n > 0 && !socket.destroyed; n--) {
    const bytes = requestFrom(random);
    total.requests++;
    const cut = random.below(bytes.length);
    socket.write(bytes.subarray(0, cut));
    if (random.chance(0.1)) await new Promise(setImmediate);
    socket.write(bytes.subarray(cut));
    if (random.chance(0.3)) await new Promise(setImmediate);
    if (random.chance(0.02)) socket.destroy();
  }
  leave(socket, random);
  await closed;
  readAnswers(Buffer.concat(chunks), total);
}

function leave(socket: Socket, random: Random): void {
  socket.end();
  if (random.chance(0.3) || socket.isPaused()) socket.destroy();
}

function readAnswers(bytes: Buffer, total: { answered: number; refused: number; faults: string[] }): void {
  for (let at = 0; ;) {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0) return;
    const line = bytes.toString('utf8', at, end);
    try {
      const { ok, bytes: body = 0 } = JSON.parse(line) as { ok: unknown; bytes?: number };
      if (ok === true) total.answered++;
      else if (ok === false) total.refused++;
      else total.faults.push(`an answer without ok: ${line}`);
      at = end + 1 + body;
    } catch {
      total.faults.push(`no answer: ${line}`);
      return;
    }
  }
}

const REPLIES: readonly object[] = [
  { ok: true },
  { ok: true, protocol: 1, scanouts: 1, keyboard: true, touch: false },
  { ok: true, stats: {} },
  { ok: true, width: 1, height: 1, bytes: 4 },
  { ok: true, frame: { timeMs: 1, frames: 0, width: 4, height: 4, damage: [], cursor: [] } },
  { ok: false, code: 'busy', message: 'later' },
];

/** Calls of a ControlClient that bridges answer with nonsense. Each must resolve, or reject with a ControlError. */
export async function fuzzBridge(random: Random, calls: number): Promise<{ resolved: number; faults: string[] }> {
  const directory = mkdtempSync(join(tmpdir(), 'fuzz-bridge-'));
  const path = join(directory, 'control.sock');
  const result = { resolved: 0, faults: new Array<string>() };
  const server = createServer((socket) => {
    socket.resume().on('error', () => undefined);
    for (let n = random.below(3); n >= 0; n--) {
      const reply = structuredClone(random.pick(REPLIES)) as Record<string, unknown>;
      if (random.chance(0.5)) reply[random.pick(Object.keys(reply))] = random.pick(ODD);
      socket.write(`${JSON.stringify(reply)}\n`);
      if ('bytes' in reply && random.chance(0.8)) socket.write(random.bytes(4));
    }
    if (random.chance(0.1)) socket.write(random.bytes(random.below(100)));
    socket.end();
  }).listen(path);
  await once(server, 'listening');
  const client = new ControlClient(path);
  let seen = 0;
  const ways: readonly (() => Promise<unknown>)[] = [
    () => client.hello(),
    () => client.stats(),
    () => client.screenshot(),
    () => client.type('x'),
    () => client.waitForChange(),
    async () => {
      for await (const { damage } of client.watch()) damage.forEach(({ width }) => (seen += width));
    },
  ];
  for (let n = 0; n < calls && result.faults.length === 0; n++) {
    await random
      .pick(ways)()
      .then(
        () => result.resolved++,
        (error: unknown) => {
          if (!(error instanceof ControlError)) result.faults.push(String(error));
        },
      );
  }
  server.close();
  await once(server, 'close');
  rmSync(directory, { recursive: true });
  return result;
}
