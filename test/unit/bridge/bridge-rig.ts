import { afterEach, beforeEach } from 'vitest';
import { DRM_FORMAT } from '../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { FakeOutput, FakeSource, GuestPicture } from './fakes.ts';

export const FIRST = 0;

export let source: FakeSource;
export let output: FakeOutput;
export let bridge: Bridge;
export let logged: string[];
let stack: Disposable[];

/** Each test of the file has a bridge of a guest whose pages are copied, and an output that nothing is shown on yet. */
export function useBridge(): void {
  beforeEach(() => {
    logged = [];
    stack = [];
    source = new FakeSource();
    output = new FakeOutput();
    bridge = new Bridge(source, { log: (_level, message) => logged.push(message), zeroCopy: 'off' });
  });
  afterEach(() => {
    bridge[Symbol.dispose]();
    for (const item of stack.reverse()) item[Symbol.dispose]();
  });
}

/** Lasts as long as the test. */
export function picture(width = 64, height = 48, format = DRM_FORMAT.XRGB8888): GuestPicture {
  const made = new GuestPicture(width, height, format);
  stack.push(made);
  return made;
}
