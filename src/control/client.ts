import { connect } from 'node:net';
import { dirname } from 'node:path';
import type { CompareOptions } from '../../display/picture/compare.ts';
import type { Rect } from '../core/geometry.ts';
import { DEFAULT_QUIET_MS, DEFAULT_TIMEOUT_MS } from '../core/patience.ts';
import type { Picture } from '../core/picture.ts';
import type { MouseButton, Point } from './operator.ts';
import {
  checkDirectory,
  ControlError,
  defaultControlPath,
  type FrameEvent,
  type Hello,
  type InputRequest,
  isControlErrorCode,
  isRegion,
  isSide,
  MAX_REQUEST,
  MAX_SIDE,
  MAX_WAIT_MS,
  type PngFile,
  type ScreenshotRequest,
  type TraceEvent,
} from './protocol.ts';
import type { BridgeStats } from './stats.ts';

export interface RequestOptions {
  /** Ends the request, which rejects with the signal's reason. The bridge stops working on it. */
  readonly signal?: AbortSignal;
}

export interface OnScanoutOptions extends RequestOptions {
  /** Which of the guest's monitors, counted from 0. Default 0. */
  readonly scanout?: number;
}

export interface ViewOptions extends OnScanoutOptions {
  /** Include the hardware cursor. Default true. */
  readonly cursor?: boolean;
}

export interface ScreenshotOptions extends ViewOptions {
  /** The part of the picture to take. Default: all of it. */
  readonly region?: Rect;
  /** What the monitor really shows, in its pixels, instead of the guest's picture. Not without the cursor. Default false. */
  readonly output?: boolean;
}

export interface WaitOptions extends Omit<ScreenshotOptions, 'output'> {
  /** Default 30000, at most an hour. */
  readonly timeoutMs?: number;
}

export interface MatchOptions extends ViewOptions, CompareOptions {
  /** The expected picture is a part of the screen, at this place. `region` and `masks` are then in pixels of the expected picture. */
  readonly at?: Point;
  /** Default 30000, at most an hour. */
  readonly timeoutMs?: number;
}

export interface ClickOptions extends OnScanoutOptions {
  /** Default `left`. */
  readonly button?: MouseButton;
  /** Click twice. Default false. */
  readonly double?: boolean;
}

export interface ScrollOptions extends OnScanoutOptions {
  /** Notches of the wheel, at most 100; negative is up. */
  readonly down?: number;
  /** Notches of the wheel, at most 100; negative is to the left. */
  readonly right?: number;
  /** Where the pointer goes first. Default: it stays. */
  readonly at?: Point;
}

/**
 * Drives a running `scanout run` through its control socket: looks at its guest, types, clicks, waits.
 *
 *     const bridge = new ControlClient();
 *     await bridge.type('root\n');
 *     await bridge.waitForStable();
 *     await writePng('screen.png', await bridge.screenshot());
 *
 * Each call has a connection of its own, so a client holds nothing and outlives the bridge. A bridge serves 8 at a
 * time. What people do with input devices is done in the order in which it is asked for, also by several clients, and
 * resolves when the guest's driver has taken it.
 *
 * All reject with ControlError: `unreachable`, `busy`, `unsafe-directory`, or `protocol` if it is not a bridge of this
 * version that answers; `no-scanout`; `no-picture` while the scanout is off; those of docs/control.md.
 */
export class ControlClient {
  readonly path: string;

  /** Nothing is connected yet. `path` is that of the bridge's `--control`; default: as there. */
  constructor(path: string = defaultControlPath()) {
    this.path = path;
  }

  /** What the bridge speaks and has. */
  async hello(options: RequestOptions = {}): Promise<Hello> {
    const { head } = await request(this.path, { command: 'hello' }, options);
    const { protocol, scanouts, keyboard, touch } = head;
    if (typeof protocol === 'number' && typeof scanouts === 'number') {
      if (typeof keyboard === 'boolean' && typeof touch === 'boolean') return { protocol, scanouts, keyboard, touch };
    }
    throw new ControlError('protocol', `${this.path}: the answer is not that of a bridge`);
  }

  /** What the bridge counts. Their shape is that of a bridge of this version. */
  async stats(options: RequestOptions = {}): Promise<BridgeStats> {
    const { head } = await request(this.path, { command: 'stats' }, options);
    return head['stats'] as BridgeStats;
  }

  /** The guest's picture now. ControlError `no-region`; `no-output-picture` if no monitor can be asked what it shows. */
  screenshot({ scanout = 0, cursor = true, output = false, region, signal }: ScreenshotOptions = {}): Promise<Picture> {
    return requestScreenshot(
      this.path,
      { scanout, cursor, ...(output && { output }), ...(region && { region }) },
      signal,
    );
  }

  /** The same as a PNG, which the bridge encodes beside its work. */
  screenshotPng({
    scanout = 0,
    cursor = true,
    output = false,
    region,
    signal,
  }: ScreenshotOptions = {}): Promise<PngFile> {
    return requestPng(this.path, { scanout, cursor, ...(output && { output }), ...(region && { region }) }, signal);
  }

  /** Waits until no pixel has changed for `quietMs`, by default 500. ControlError `timeout` says what kept changing. */
  waitForStable({
    quietMs = DEFAULT_QUIET_MS,
    ...options
  }: WaitOptions & { readonly quietMs?: number } = {}): Promise<void> {
    return this.#wait('stable', quietMs, options);
  }

  /**
   * Waits until a pixel changes from what it is when the bridge hears of it. ControlError `timeout`. What is done before may
   * have had its effect by then: call it first, and await it afterwards.
   */
  waitForChange(options: WaitOptions = {}): Promise<void> {
    return this.#wait('change', 0, options);
  }

  /**
   * Resolves with the first picture, now or later, that matches `expected`. The pictures are compared in this process:
   * of those that follow each other faster than that takes, some are left out. ControlError `timeout` says how the last
   * one differed.
   */
  async waitForMatch(expected: Picture, options: MatchOptions = {}): Promise<Picture> {
    const { at, scanout = 0, cursor = true, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const place = at && { x: at.x, y: at.y, width: expected.width, height: expected.height };
    const deadline = AbortSignal.timeout(Math.min(timeoutMs, MAX_WAIT_MS));
    const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
    const look = { scanout, cursor, signal, ...(place && { region: place }) };
    let last = 'showed nothing';
    // What asks for figures or a picture needs nothing of it.
    const { comparePictures } = await import('../../display/picture/compare.ts');
    try {
      for await (const event of this.watch({ scanout, signal })) {
        if (event.width === 0 || (place && !touches(event, place))) continue;
        const picture = await this.screenshot(look).catch(ifGone);
        if (!picture) continue;
        const comparison = comparePictures(expected, picture, options);
        if (comparison.matches) return picture;
        last = `did not show the expected picture (last: ${comparison.explanation})`;
      }
    } catch (error) {
      if (!deadline.aborted || error !== deadline.reason) throw error;
      throw new ControlError('timeout', `scanout ${scanout} ${last} within ${timeoutMs} ms`, { cause: error });
    }
    throw new ControlError('protocol', `${this.path}: the bridge has ended`);
  }

  /**
   * What comes on screen, beginning with what is there, until the loop is left. Frames that come faster than the loop
   * goes are combined.
   *
   *     for await (const { damage } of bridge.watch()) console.log(damage);
   */
  async *watch({ scanout = 0, signal }: OnScanoutOptions = {}): AsyncGenerator<FrameEvent, void, undefined> {
    for await (const { head } of replies(
      this.path,
      { command: 'watch', scanout },
      signal ? { signal } : {},
      Infinity,
    )) {
      const { frame } = head;
      if (!isFrameEvent(frame)) throw new ControlError('protocol', `${this.path}: the answer is no frame`);
      yield frame;
    }
  }

  /** When frames came to each stage, until the loop is left. Every frame is measured meanwhile. */
  async *trace({ scanout = 0, signal }: OnScanoutOptions = {}): AsyncGenerator<TraceEvent, void, undefined> {
    const options = signal ? { signal } : {};
    for await (const { head } of replies(this.path, { command: 'trace', scanout }, options, Infinity)) {
      const { trace } = head;
      if (!isTraceEvent(trace)) throw new ControlError('protocol', `${this.path}: the answer is no trace`);
      yield trace;
    }
  }

  /** Types text on a US keyboard: ASCII, `\n`, `\t`, `\b` and `\x1b`. ControlError `key` for any other character, `input`. */
  async type(text: string, options: RequestOptions = {}): Promise<void> {
    await this.#operate({ command: 'type', text }, options);
  }

  /** Presses keys together: `enter`, `ctrl+alt+F2`, `ctrl+c`. ControlError `key`, with similar names; `input`. */
  async press(keys: string, options: RequestOptions = {}): Promise<void> {
    await this.#operate({ command: 'press', keys }, options);
  }

  /** Moves the pointer to a pixel of the picture. ControlError `off-screen`, `input`. */
  async move(x: number, y: number, { scanout = 0, ...options }: OnScanoutOptions = {}): Promise<void> {
    await this.#operate({ command: 'move', scanout, x, y }, options);
  }

  /** Moves the pointer to a pixel of the picture and clicks. ControlError `off-screen`, `input`. */
  async click(x: number, y: number, options: ClickOptions = {}): Promise<void> {
    const { scanout = 0, button = 'left', double = false } = options;
    await this.#operate({ command: 'click', scanout, x, y, button, double }, options);
  }

  /** Moves the pointer from one pixel to another with a button held. ControlError `off-screen`, `input`. */
  async drag(from: Point, to: Point, options: Omit<ClickOptions, 'double'> = {}): Promise<void> {
    const { scanout = 0, button = 'left' } = options;
    await this.#operate({ command: 'drag', scanout, from, to, button }, options);
  }

  /** Turns the wheel. ControlError `off-screen`, `input`. */
  async scroll({ scanout = 0, down = 0, right = 0, at, ...options }: ScrollOptions): Promise<void> {
    await this.#operate({ command: 'scroll', scanout, down, right, ...(at && { at }) }, options);
  }

  /** Touches a pixel with one finger, which moves `to` another one before it is lifted. ControlError `off-screen`, `input`. */
  async touch(
    from: Point,
    { to = from, scanout = 0, ...options }: OnScanoutOptions & { readonly to?: Point } = {},
  ): Promise<void> {
    await this.#operate({ command: 'touch', scanout, from, to }, options);
  }

  /** The bridge ends what the guest does not take, so there is no other limit. */
  async #operate(what: InputRequest, { signal }: RequestOptions): Promise<void> {
    await request(this.path, what, signal ? { signal } : {}, Infinity);
  }

  async #wait(what: 'stable' | 'change', quietMs: number, options: WaitOptions): Promise<void> {
    const { scanout = 0, cursor = true, region, timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
    const view = { scanout, cursor, ...(region && { region }) };
    await request(
      this.path,
      { command: 'wait', for: what, quietMs, timeoutMs, ...view },
      signal ? { signal } : {},
      timeoutMs,
    );
  }
}

/** Null for a screen that has turned off or become smaller since. */
function ifGone(error: unknown): null {
  if (error instanceof ControlError && (error.code === 'no-picture' || error.code === 'no-region')) return null;
  throw error;
}

function touches({ damage, cursor }: FrameEvent, place: Rect): boolean {
  return [...damage, ...cursor].some(
    ({ x, y, width, height }) =>
      Math.max(x, place.x) < Math.min(x + width, place.x + place.width) &&
      Math.max(y, place.y) < Math.min(y + height, place.y + place.height),
  );
}

function isFrameEvent(value: unknown): value is FrameEvent {
  const { timeMs, frames, width, height, damage, cursor } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return (
    [timeMs, frames].every(Number.isFinite) &&
    [width, height].every((side) => side === 0 || isSide(side)) &&
    [damage, cursor].every((rects) => Array.isArray(rects) && rects.every(isPlace))
  );
}

function isTraceEvent(value: unknown): value is TraceEvent {
  const { frames, lost } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return Number.isInteger(lost) && Array.isArray(frames) && frames.every(isTracedFrame);
}

function isTracedFrame(value: unknown): boolean {
  const { output, flushed, staged, presented, onScreen, released } = (value ?? {}) as Readonly<Record<string, unknown>>;
  const times = [flushed, staged, presented, onScreen];
  return typeof output === 'string' && times.every(Number.isFinite) && (released === null || Number.isFinite(released));
}

/** As `isRegion`, but it may begin above or to the left of the picture. */
function isPlace(value: unknown): boolean {
  const { x, y } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return Number.isInteger(x) && Number.isInteger(y) && isRegion({ ...(value as Rect), x: 0, y: 0 });
}

const TIMEOUT_MS = 30_000;
const MAX_HEAD = 2 ** 20;
const MAX_BODY = MAX_SIDE ** 2 * 4;

interface Reply {
  readonly head: Readonly<Record<string, unknown>>;
  readonly body: Uint8Array;
}

/** Requests the stats of the bridge. Rejects with ControlError. */
export async function requestStats(path: string): Promise<unknown> {
  const { head } = await request(path, { command: 'stats' });
  return head['stats'];
}

type PictureRequest = Omit<ScreenshotRequest, 'format'>;

/** Requests the picture of a scanout, now or once it stands still. Rejects with ControlError. */
export async function requestScreenshot(path: string, what: PictureRequest, signal?: AbortSignal): Promise<Picture> {
  const { width, height, bytes } = await requestPicture(path, what, signal);
  if (width * height * 4 === bytes.length) return { width, height, data: bytes };
  throw new ControlError('protocol', `${path}: the answer has ${bytes.length} bytes for ${width}x${height} pixels`);
}

/** As `requestScreenshot`, with a PNG. What is in that is not checked. */
export function requestPng(path: string, what: PictureRequest, signal?: AbortSignal): Promise<PngFile> {
  return requestPicture(path, { ...what, format: 'png' }, signal);
}

async function requestPicture(
  path: string,
  { still, ...what }: ScreenshotRequest,
  signal?: AbortSignal,
): Promise<PngFile> {
  const asked = { command: 'screenshot', ...what, ...still };
  const { head, body } = await request(path, asked, signal ? { signal } : {}, still?.timeoutMs);
  const { width, height } = head;
  if (!isSide(width) || !isSide(height))
    throw new ControlError('protocol', `${path}: the answer is not for a picture of a possible size`);
  const { region, output, format } = what;
  const sentInstead =
    (output && head['output'] !== true && "guests' pictures") ||
    (format && head['format'] !== format && 'pixels') ||
    (region && (region.width !== width || region.height !== height) && 'whole pictures');
  if (sentInstead)
    throw new ControlError('protocol', `${path}: the bridge is of an older version, which sends ${sentInstead} only`);
  return { width, height, bytes: body };
}

/** The answer to a request. `answerMs` is how long the bridge may take for it, in addition to the transfer. */
async function request(path: string, what: object, options: RequestOptions = {}, answerMs = 0): Promise<Reply> {
  for await (const reply of replies(path, what, options, answerMs)) return reply;
  throw new ControlError('protocol', `${path}: the connection closed before the answer was complete`);
}

/** The answers to a request, until the caller has enough or the bridge closes the connection. */
async function* replies(
  path: string,
  what: object,
  { signal }: RequestOptions,
  answerMs: number,
): AsyncGenerator<Reply, void, undefined> {
  const line = `${JSON.stringify(what)}\n`;
  if (Buffer.byteLength(line) > MAX_REQUEST)
    throw new ControlError('malformed', `a request may have at most ${MAX_REQUEST} bytes: send it in parts`);
  signal?.throwIfAborted();
  checkDirectory(dirname(path));
  const socket = connect(path);
  const abort = (): void => void socket.destroy(signal?.reason as Error);
  signal?.addEventListener('abort', abort);
  const timeoutMs = TIMEOUT_MS + answerMs;
  if (timeoutMs < Infinity)
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs / 1000} seconds`)));
  socket.write(line);
  try {
    yield* readReplies(socket as AsyncIterable<Buffer>, path);
  } catch (cause) {
    if (cause instanceof ControlError || cause === signal?.reason) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    // The reason that it sent is lost: Node gives up a socket that cannot be written to.
    if (code === 'EPIPE')
      throw new ControlError('busy', `${path}: the bridge took no request, it serves others or ends: try again later`, {
        cause,
      });
    const isAbsent = code === 'ENOENT' || code === 'ECONNREFUSED';
    throw new ControlError(
      'unreachable',
      isAbsent
        ? `no bridge answers at ${path}: start \`scanout run\`, or give the path of its control socket with --control`
        : `${path}: ${message}`,
      { cause },
    );
  } finally {
    signal?.removeEventListener('abort', abort);
    socket.destroy();
  }
}

async function* readReplies(stream: AsyncIterable<Buffer>, path: string): AsyncGenerator<Reply, void, undefined> {
  let line: Buffer[] = [];
  let lineLength = 0;
  let head: Readonly<Record<string, unknown>> | null = null;
  let body = new Uint8Array(0);
  let filled = 0;
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.length;) {
      if (!head) {
        const newline = chunk.indexOf(0x0a, at);
        const end = newline < 0 ? chunk.length : newline;
        line.push(chunk.subarray(at, end));
        lineLength += end - at;
        if (lineLength > MAX_HEAD) throw new ControlError('protocol', `${path}: the answer has no first line`);
        if (newline < 0) break;
        at = newline + 1;
        head = parseHead(Buffer.concat(line).toString('utf8'), path);
        body = new Uint8Array(bodyLength(head, path));
        line = [];
        lineLength = filled = 0;
      }
      const part = chunk.subarray(at, at + body.length - filled);
      body.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < body.length) break;
      yield { head, body };
      head = null;
    }
  }
  if (head || lineLength > 0)
    throw new ControlError('protocol', `${path}: the connection closed before the answer was complete`);
}

function parseHead(line: string, path: string): Readonly<Record<string, unknown>> {
  let head: unknown;
  try {
    head = JSON.parse(line);
  } catch (cause) {
    throw new ControlError('protocol', `${path}: the answer is not that of a bridge`, { cause });
  }
  const { ok, code, message } = (head ?? {}) as Record<string, unknown>;
  if (ok === true) return head as Record<string, unknown>;
  if (ok !== false || typeof code !== 'string' || typeof message !== 'string')
    throw new ControlError('protocol', `${path}: the answer is not that of a bridge`);
  throw new ControlError(isControlErrorCode(code) ? code : 'protocol', message);
}

function bodyLength(head: Readonly<Record<string, unknown>>, path: string): number {
  const { bytes = 0 } = head;
  if (typeof bytes !== 'number' || !Number.isInteger(bytes) || bytes < 0 || bytes > MAX_BODY) {
    throw new ControlError('protocol', `${path}: the answer announces no possible number of bytes`);
  }
  return bytes;
}
