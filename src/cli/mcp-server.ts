import { type CallToolResult, fromJsonSchema, McpServer } from '@modelcontextprotocol/server';
import { DisplayError } from '../../display/picture/errors.ts';
import { type FindOptions, readNeedle } from '../../display/picture/needle.ts';
import { readPng } from '../../display/picture/png.ts';
import { ScreenReader } from '../../display/picture/screen-text.ts';
import { ControlClient, type ScreenshotOptions } from '../control/client.ts';
import type { MouseButton, Point } from '../control/operator.ts';
import { type FrameEvent, MAX_WAIT_MS } from '../control/protocol.ts';
import type { Rect } from '../core/geometry.ts';

type Schema = Parameters<typeof fromJsonSchema>[0];
/** The schemas of the fields of T. */
type Properties<T> = Readonly<Record<keyof T & string, Schema>>;

const pixel = { type: 'number', minimum: 0 } as const;
const side = { type: 'integer', minimum: 1 } as const;
const point: Schema = { type: 'object', properties: { x: pixel, y: pixel }, required: ['x', 'y'] };
const offset = { type: 'integer', minimum: 0 } as const;
const region: Schema = {
  type: 'object',
  description: 'A part of the picture, in its pixels. Default: all of it.',
  properties: { x: offset, y: offset, width: side, height: side },
  required: ['x', 'y', 'width', 'height'],
};
const scanout: Schema = { type: 'integer', minimum: 0, default: 0, description: "Which of the guest's monitors." };
const button: Schema = { type: 'string', enum: ['left', 'right', 'middle'], default: 'left' };
const notches = { type: 'integer', minimum: -100, maximum: 100, default: 0 } as const;
const milliseconds = { type: 'integer', minimum: 0, maximum: MAX_WAIT_MS } as const;
const timeoutMs: Schema = { ...milliseconds, default: 30_000, description: 'How long to wait before failing.' };

const events = { type: 'integer', minimum: 1, maximum: 1000 } as const;
const WATCH_MS = 1000;
const WATCH_EVENTS = 100;

const DONE: CallToolResult = { content: [{ type: 'text', text: 'done' }] };

interface OnScanout {
  readonly scanout?: number;
}
interface Button extends OnScanout {
  readonly button?: MouseButton;
}
type Match = OnScanout & { golden: string; region?: Rect; at?: Point; allowed?: number; timeoutMs?: number };

/**
 * An MCP server whose tools drive the bridge at the control socket `path`, which need not run yet. A tool that fails
 * answers with the message of the ControlError. A request that its client cancels ends the bridge's work on it.
 */
export function createMcpServer(path: string, version: string): McpServer {
  const bridge = new ControlClient(path);
  const server = new McpServer(
    { name: 'scanout-bridge', version },
    {
      capabilities: { tools: {} },
      instructions:
        'Tools to operate a virtual machine by its screen. Positions are pixels of its picture. After an action, wait until the screen is stable, then take a screenshot.',
    },
  );
  /** The SDK checks the arguments with the schema. */
  const tool = <T>(
    name: string,
    description: string,
    properties: Properties<T>,
    required: readonly (keyof T & string)[],
    run: (args: T, signal: AbortSignal) => Promise<CallToolResult>,
  ): void => {
    const schema: Schema = { type: 'object', properties, required: [...required], additionalProperties: false };
    server.registerTool(name, { description, inputSchema: fromJsonSchema<T>(schema) }, (args, { mcpReq }) =>
      run(args, mcpReq.signal),
    );
  };
  /** A tool without an answer. */
  const action = <T>(
    name: string,
    description: string,
    properties: Properties<T>,
    required: readonly (keyof T & string)[],
    run: (args: T, signal: AbortSignal) => Promise<void>,
  ): void => {
    tool<T>(name, description, properties, required, async (args, signal) => {
      await run(args, signal);
      return DONE;
    });
  };

  tool<Omit<ScreenshotOptions, 'output' | 'signal'>>(
    'screenshot',
    "Takes a picture of the guest's screen, or of a part of it.",
    { region, scanout, cursor: { type: 'boolean', default: true, description: 'Include the mouse pointer.' } },
    [],
    async (args, signal) => {
      const { width, height, bytes } = await bridge.screenshotPng({ ...args, signal });
      const data = Buffer.from(bytes).toString('base64');
      const size = { type: 'text', text: `${width}x${height} pixels` } as const;
      return { content: [{ type: 'image', data, mimeType: 'image/png' }, size] };
    },
  );
  tool<OnScanout & FindOptions & { needle: string }>(
    'find',
    'Finds a picture on the screen: where it is, and the pixel to click, as JSON.',
    {
      needle: { type: 'string', description: 'The path of a PNG, or of a needle of os-autoinst.' },
      near: { ...(point as object), description: 'Where its left upper corner should be.' },
      margin: { ...offset, description: 'How many pixels it may be away from there. Default: 50.' },
      anywhere: { type: 'boolean', description: 'Look on the whole screen. Default for a PNG alone.' },
      threshold: { type: 'number', minimum: 0, maximum: 1, description: 'How much it may differ, such as 0.04.' },
      scanout,
    },
    ['needle'],
    async ({ needle, scanout = 0, ...options }, signal) => {
      const sought = await readNeedle(needle);
      const picture = await bridge.screenshot({ scanout, cursor: false, signal });
      const found = sought.findOrDescribe(picture, options);
      if (typeof found === 'string') throw new DisplayError('not-found', found, { picture });
      return { content: [{ type: 'text', text: JSON.stringify(found) }] };
    },
  );
  tool<OnScanout & { region?: Rect }>(
    'text',
    'Reads the text on the screen: a Linux console exactly, anything else by OCR if tesseract is installed.',
    { region, scanout },
    [],
    async ({ scanout = 0, region }, signal) => {
      const reader = await ScreenReader.open(region && { region });
      const picture = await bridge.screenshot({ scanout, cursor: false, signal });
      const { text, readBy, font } = await reader.read(picture, signal);
      const how =
        readBy === 'tesseract' ? 'read by tesseract, perhaps with mistakes' : `read by the font ${font ?? '(blank)'}`;
      return {
        content: [
          { type: 'text', text },
          { type: 'text', text: how },
        ],
      };
    },
  );
  action<{ text: string }>(
    'type',
    'Types ASCII text on a US keyboard. A line break presses Enter.',
    { text: { type: 'string' } },
    ['text'],
    ({ text }, signal) => bridge.type(text, { signal }),
  );
  action<{ keys: string }>(
    'press',
    'Presses keys together, such as enter, ctrl+alt+F2 or ctrl+c.',
    { keys: { type: 'string' } },
    ['keys'],
    ({ keys }, signal) => bridge.press(keys, { signal }),
  );
  action<Point & OnScanout>('move', 'Moves the pointer.', { x: pixel, y: pixel, scanout }, ['x', 'y'], (args, signal) =>
    bridge.move(args.x, args.y, { ...args, signal }),
  );
  action<Point & Button & { double?: boolean }>(
    'click',
    'Moves the pointer and clicks.',
    { x: pixel, y: pixel, button, double: { type: 'boolean', default: false }, scanout },
    ['x', 'y'],
    (args, signal) => bridge.click(args.x, args.y, { ...args, signal }),
  );
  action<Button & { from: Point; to: Point }>(
    'drag',
    'Moves the pointer from one place to another with a button held.',
    { from: point, to: point, button, scanout },
    ['from', 'to'],
    ({ from, to, ...args }, signal) => bridge.drag(from, to, { ...args, signal }),
  );
  action<OnScanout & { down?: number; right?: number; at?: Point }>(
    'scroll',
    'Turns the mouse wheel by notches; negative ones are up, and to the left.',
    { down: notches, right: notches, at: point, scanout },
    [],
    (args, signal) => bridge.scroll({ ...args, signal }),
  );
  action<OnScanout & { from: Point; to?: Point }>(
    'touch',
    'Touches the screen with a finger, which moves to another place before it is lifted.',
    { from: point, to: point, scanout },
    ['from'],
    ({ from, ...args }, signal) => bridge.touch(from, { ...args, signal }),
  );
  action<OnScanout & { region?: Rect; quietMs?: number; timeoutMs?: number }>(
    'wait_stable',
    'Waits until nothing has changed on the screen for a while.',
    { quietMs: { ...milliseconds, default: 500 }, timeoutMs, region, scanout },
    [],
    (args, signal) => bridge.waitForStable({ ...args, signal }),
  );
  action<OnScanout & { region?: Rect; timeoutMs?: number }>(
    'wait_change',
    'Waits until something changes on the screen from what it is now.',
    { timeoutMs, region, scanout },
    [],
    (args, signal) => bridge.waitForChange({ ...args, signal }),
  );
  action<Match>(
    'wait_match',
    'Waits until the screen shows the picture of a PNG file.',
    {
      golden: { type: 'string', description: 'The path of the file.' },
      at: { ...(point as object), description: 'The picture is a part of the screen, at this place.' },
      region: { ...(region as object), description: 'Compare only this part of the picture.' },
      allowed: { type: 'number', minimum: 0, default: 0, description: 'How many pixels may differ.' },
      timeoutMs,
      scanout,
    },
    ['golden'],
    async ({ golden, ...args }, signal) => {
      await bridge.waitForMatch(await readPng(golden), { ...args, signal });
    },
  );
  tool<OnScanout & { durationMs?: number; events?: number }>(
    'watch',
    'Watches the screen for a while. Answers with a JSON list of what came on it: each time how many frames, and where they changed the picture. The first item is what was there before.',
    {
      durationMs: { ...milliseconds, default: WATCH_MS, description: 'How long to watch.' },
      events: { ...events, default: WATCH_EVENTS, description: 'Ends earlier, when so many items have come.' },
      scanout,
    },
    [],
    async ({ durationMs = WATCH_MS, events: most = WATCH_EVENTS, scanout = 0 }, signal) => {
      const over = new AbortController();
      const seen: FrameEvent[] = [];
      let timer: NodeJS.Timeout | undefined;
      try {
        for await (const event of bridge.watch({ scanout, signal: AbortSignal.any([signal, over.signal]) })) {
          timer ??= setTimeout(() => over.abort(), durationMs);
          seen.push(event);
          if (seen.length === most) break;
        }
      } catch (error) {
        if (!over.signal.aborted || error !== over.signal.reason) throw error;
      } finally {
        clearTimeout(timer);
      }
      return { content: [{ type: 'text', text: JSON.stringify(seen) }] };
    },
  );
  tool<object>('stats', 'What the bridge counts, as JSON.', {}, [], async (_, signal) => ({
    content: [{ type: 'text', text: JSON.stringify(await bridge.stats({ signal })) }],
  }));
  return server;
}
