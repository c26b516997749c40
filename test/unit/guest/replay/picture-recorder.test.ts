/** Sources without virtio commands: what is replayed is what they showed. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import { newFramebufferId } from '../../../../src/core/framebuffer.ts';
import type { Picture } from '../../../../src/core/picture.ts';
import { PictureRecorder } from '../../../../src/guest/replay/picture-recorder.ts';
import { RecordingReader } from '../../../../src/guest/replay/recording-reader.ts';
import { Replay } from '../../../../src/guest/replay/replay.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { outputSuite } from '../../../../src/testing/output-suite.ts';
import { eventually } from '../../../rig/eventually.ts';
import { FakeSource, GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';

expectNoLeaks();

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'pictures-'));
  file = join(directory, 'session.scanout');
});

afterEach(() => rmSync(directory, { recursive: true }));

/** Records what `draw` has the source show, with a way to wait until a picture has been taken. */
async function record(
  draw: (source: FakeSource, taken: () => Promise<void>) => Promise<void> | void,
  scanouts = 1,
): Promise<void> {
  using source = new FakeSource();
  using recorder = PictureRecorder.open({ file, scanouts, budget: source.budget });
  using bridge = new Bridge(source);
  recorder.outputs.forEach((output, index) => bridge.observe(index, output, { log: () => undefined }));
  const taken = async (): Promise<void> => {
    const flush = source.flush(0, 0, 0, 0, true, 0, true);
    await eventually(() => expect(flush.done).toHaveBeenCalled());
  };
  await draw(source, taken);
}

/** The last picture of a replay. */
async function replay(scanout = 0): Promise<Picture | null> {
  using played = Replay.open({ file, speed: 'fast' });
  using output = HeadlessOutput.open({ width: 64, height: 48, refreshMhz: 1_000_000 });
  using bridge = new Bridge(played);
  bridge.show(scanout, output);
  expect(await played.finished).toMatchObject({ errors: 0 });
  await output.settled();
  return output.capture();
}

function expectEqual(shown: Picture | null, { rgb }: GuestPicture): void {
  expect([shown?.width, shown?.height]).toEqual([rgb.width, rgb.height]);
  expect(Buffer.compare(shown!.data, rgb.data)).toBe(0);
}

describe('PictureRecorder', () => {
  test('replays the last picture, pixel by pixel, of any size and format', async () => {
    for (const [width, height] of [
      [64, 48],
      [1, 1],
      [333, 77],
      [640, 420],
    ] as const) {
      using picture = new GuestPicture(width, height);
      picture.noise(width);
      await record(async (source, taken) => {
        source.show(picture.framebuffer);
        source.flush(0, 0, width, height);
        await taken();
      });
      expectEqual(await replay(), picture);
    }
  });

  test('records what changed, and little else', async () => {
    using picture = new GuestPicture(320, 240);
    picture.noise();
    await record(async (source, taken) => {
      source.show(picture.framebuffer);
      source.flush(0, 0, 320, 240);
      await taken();
    });
    const first = statSync(file).size;
    await record(async (source, taken) => {
      source.show(picture.framebuffer);
      source.flush(0, 0, 320, 240);
      await taken();
      for (let i = 0; i < 10; i++) {
        picture.fill(100 + i, 50 + i, 9, 3, 0x112233 * i);
        source.flush(100 + i, 50 + i, 9, 3);
        await taken();
      }
    });
    expectEqual(await replay(), picture);
    // The first picture compresses better or worse, as it is cut into blocks. Ten more would be ten times as much.
    expect(statSync(file).size).toBeLessThan(first * 2);
    using reader = RecordingReader.open({ file });
    const flushes: number[][] = [];
    for (let event = reader.next(); event; event = reader.next()) {
      if (event.kind !== 'command' || event.bytes[0] !== 0x04 || event.bytes[1] !== 0x01) continue;
      const view = new DataView(event.bytes.buffer, event.bytes.byteOffset);
      flushes.push([24, 28, 32, 36].map((at) => view.getUint32(at, true)));
    }
    expect(flushes.slice(1)).toEqual(Array.from({ length: 10 }, (_, i) => [100 + i, 50 + i, 9, 3]));
  });

  test('replays other sizes, and a screen that is off in between', async () => {
    using small = new GuestPicture(64, 48);
    using large = new GuestPicture(200, 100);
    small.fill(0, 0, 64, 48, 0x0000ff);
    large.fill(0, 0, 200, 100, 0x00ff00);
    await record(async (source, taken) => {
      source.show(small.framebuffer);
      source.flush(0, 0, 64, 48);
      await taken();
      source.sink.scanout(0, null, { x: 0, y: 0, width: 0, height: 0 });
      await taken();
      source.show(large.framebuffer);
      source.flush(0, 0, 200, 100);
      await taken();
    });
    using reader = RecordingReader.open({ file });
    const monitors: unknown[] = [];
    const scanouts: number[] = [];
    for (let event = reader.next(); event; event = reader.next()) {
      if (event.kind === 'monitor') monitors.push([event.monitor?.width, event.monitor?.height]);
      if (event.kind === 'command' && event.bytes[0] === 0x03 && event.bytes[1] === 0x01)
        scanouts.push(new DataView(event.bytes.buffer, event.bytes.byteOffset).getUint32(44, true));
    }
    expect(monitors).toEqual([
      [64, 48],
      [200, 100],
    ]);
    expect(scanouts).toEqual([1, 0, 2]);
    expectEqual(await replay(), large);
  });

  test('replays the cursor: its image, where it was, and that it was hidden', async () => {
    using picture = new GuestPicture(64, 48);
    using arrow = new GuestPicture(8, 8, DRM_FORMAT.ARGB8888);
    picture.fill(0, 0, 64, 48, 0x222222);
    arrow.fill(0, 0, 8, 8, 0xffff0000);
    const red = (seen: Picture | null): string => {
      const at = Array.from({ length: 64 * 48 }, (_, i) => i).filter((i) => seen?.data[i * 4] === 0xff);
      return at.length === 0 ? 'none' : `${at.length} at ${at[0]! % 64},${Math.floor(at[0]! / 64)}`;
    };
    const show = async (source: FakeSource, taken: () => Promise<void>): Promise<void> => {
      source.show(picture.framebuffer);
      source.flush(0, 0, 64, 48);
      source.sink.cursor(0, arrow.framebuffer, 1, 2, 10, 20);
      await taken();
      source.sink.cursorMoved(0, 30, 5);
      await taken();
    };
    await record(show);
    expect(red(await replay())).toBe('64 at 30,5');
    await record(async (source, taken) => {
      await show(source, taken);
      source.sink.cursorMoved(0, -4, -4);
      await taken();
    });
    expect(red(await replay())).toBe('16 at 0,0');
    await record(async (source, taken) => {
      await show(source, taken);
      source.sink.cursor(0, null, 0, 0, 0, 0);
      await taken();
    });
    expect(red(await replay())).toBe('none');
  });

  test('keeps scanouts apart', async () => {
    using one = new GuestPicture(64, 48);
    using two = new GuestPicture(32, 32);
    one.noise(1);
    two.noise(2);
    await record((source) => {
      source.show(one.framebuffer);
      source.flush(0, 0, 64, 48);
      source.sink.scanout(1, two.framebuffer, { x: 0, y: 0, width: 32, height: 32 });
      source.flush(0, 0, 32, 32, true, 1);
    }, 2);
    expectEqual(await replay(), one);
    expectEqual(await replay(1), two);
  });
});

describe('each output of a PictureRecorder', () => {
  outputSuite(
    'RecordedScreen',
    { describe, test },
    () => {
      using source = new FakeSource();
      const folder = mkdtempSync(join(tmpdir(), 'suite-'));
      const recorder = PictureRecorder.open({ file: join(folder, 'a'), scanouts: 1, budget: source.budget });
      const memory = createMemfd('refused', 64 * 48 * 2);
      return {
        output: recorder.outputs[0]!,
        refused: () => ({
          id: newFramebufferId(),
          width: 64,
          height: 48,
          format: DRM_FORMAT.RGB565,
          modifier: DRM_FORMAT_MOD_LINEAR,
          planes: [{ offset: 0, stride: 128 }],
          backing: { kind: 'dmabuf', dmabuf: memory },
        }),
        close: () => {
          recorder[Symbol.dispose]();
          memory[Symbol.dispose]();
          rmSync(folder, { recursive: true });
        },
      };
    },
    ['refuse'],
  );
});
