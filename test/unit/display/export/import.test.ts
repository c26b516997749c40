import { writeFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { ExportedDisplay, type ExportedFrame, ExportError } from '../../../../display/export/import.ts';
import { HeadlessOutput } from '../../../../display/headless/output.ts';
import {
  EXPORT_ERROR,
  EXPORT_EVENT,
  EXPORT_KIND,
  EXPORT_REQUEST,
  EXPORT_VERSION,
  export_error,
  export_exported,
  export_frame,
  export_hello,
  export_imported,
} from '../../../../protocols/export.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import type { Shadow } from '../../../../src/core/output.ts';
import type { OwnedFd } from '../../../../src/sys/fd.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { acceptUnix, listenUnix, UnixConnection } from '../../../../src/sys/socket.ts';
import * as request from '../../guest/virtio-gpu/requests.ts';
import { GpuRig, HEAP, PAGE } from '../../guest/virtio-gpu/rig.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { encode } from './raw-consumer.ts';
import { ExportRig, Listener } from './rig.ts';
import { eventually } from '../../../rig/eventually.ts';

expectNoLeaks();

const rig = new ExportRig();

/** The next frame, which the caller disposes. */
async function next(display: ExportedDisplay): Promise<ExportedFrame> {
  const { value } = await display[Symbol.asyncIterator]().next();
  return value!;
}

describe('ExportedDisplay', () => {
  test('yields frames, and disposing one releases it', async () => {
    const display = rig.open();
    const output = display.outputs[0]!;
    const listener = new Listener();
    rig.use(output.attach(listener));
    using client = await ExportedDisplay.connect(rig.path);
    const shadows = [1, 2, 3].map((fill) => {
      const shadow = rig.use(output.createShadow(64, 48, DRM_FORMAT.XRGB8888));
      shadow.pixels.bytes.fill(fill);
      return shadow;
    });
    const seen: number[] = [];
    const showing = (async () => {
      for (const shadow of shadows) await listener.show(output, shadow);
    })();

    for await (const frame of client) {
      using held = frame;
      seen.push(held.picture()!.data[0]!);
      if (seen.length === 3) break;
    }
    await showing;
    expect(seen).toEqual([1, 2, 3]);
    await eventually(() => expect(shadows.map(({ isHeld }) => isHeld)).toEqual([false, false, true]));
    expect([client.scanouts, client.buffers.size]).toEqual([1, 0]);
  });

  test('hands out the buffer itself, which stays importable by its UUID', async () => {
    const display = rig.open();
    const output = display.outputs[0]!;
    const listener = new Listener();
    rig.use(output.attach(listener));
    using client = await ExportedDisplay.connect(rig.path);
    const shadow = rig.use(output.createShadow(64, 48, DRM_FORMAT.XRGB8888));
    await listener.show(output, shadow);
    using frame = await next(client);

    const { buffer } = frame.primary!;
    expect(buffer).toMatchObject({ kind: 'memfd', byteLength: 64 * 48 * 4 });
    expect(await client.import(buffer.uuid)).toBe(buffer);
    shadow.pixels.bytes[5] = 77;
    expect(buffer.read((bytes) => bytes[5])).toBe(77);
    await expect(client.import('00000000-0000-0000-0000-000000000000')).rejects.toMatchObject({
      code: 'no-such-buffer',
    });
    expect(() => client.import('nonsense')).toThrow("'nonsense' is no UUID");
  });

  test('marks a frame that the bridge has taken back', async () => {
    const display = rig.open();
    const output = display.outputs[0]!;
    const listener = new Listener();
    rig.use(output.attach(listener));
    using client = await ExportedDisplay.connect(rig.path);
    const [first, second] = [1, 2].map(() => rig.use(output.createShadow(64, 48, DRM_FORMAT.XRGB8888)));
    await listener.show(output, first!);
    using frame = await next(client);
    expect(frame.isRevoked).toBe(false);
    await listener.show(output, second!);

    await eventually(() => expect(frame.isRevoked).toBe(true));
  });

  test('ends its loop when the bridge ends, and keeps nothing of it', async () => {
    const display = rig.open();
    const output = display.outputs[0]!;
    const listener = new Listener();
    const attachment = output.attach(listener);
    using client = await ExportedDisplay.connect(rig.path);
    using shadow = output.createShadow(64, 48, DRM_FORMAT.XRGB8888);
    await listener.show(output, shadow);
    let frames = 0;
    for await (const frame of client) {
      frame[Symbol.dispose]();
      frames++;
      attachment[Symbol.dispose]();
      display[Symbol.dispose]();
    }
    expect(frames).toBeGreaterThan(0);
    await expect(client.import(new Uint8Array(16))).rejects.toMatchObject({ code: 'closed' });
  });

  test('tells layers of one buffer apart by where they are shown', async () => {
    const display = rig.open();
    const output = display.outputs[0]!;
    const listener = new Listener();
    rig.use(output.attach(listener));
    using client = await ExportedDisplay.connect(rig.path);
    const place = (x: number) => ({ x, y: 0, width: 64, height: 48 });
    const shown = async (shadow: Shadow, x: number): Promise<readonly [number, number]> => {
      const primary = { handle: shadow, src: place(0), dst: place(x) };
      await listener.show(output, shadow, { primary });
      using frame = await next(client);
      return [frame.primary!.dst.x, frame.primary!.buffer.read((bytes) => bytes[0]!)];
    };
    const [first, second] = [1, 2].map((fill) => {
      const shadow = rig.use(output.createShadow(64, 48, DRM_FORMAT.XRGB8888));
      shadow.pixels.bytes.fill(fill);
      return shadow;
    }) as [Shadow, Shadow];
    const seen = [];
    for (const x of [0, 0, 5, 0, 5]) for (const shadow of [first, second]) seen.push(await shown(shadow, x));
    first[Symbol.dispose]();
    const third = rig.use(output.createShadow(64, 48, DRM_FORMAT.XRGB8888));
    third.pixels.bytes.fill(3);
    seen.push(await shown(third, 5));
    expect(seen).toEqual([...[0, 0, 5, 0, 5].flatMap((x) => [1, 2].map((fill) => [x, fill])), [5, 3]]);
  });

  test('has no picture while the scanout is off', async () => {
    const display = rig.open();
    const output = display.outputs[0]!;
    const listener = new Listener();
    rig.use(output.attach(listener));
    await listener.show(output, null);
    using client = await ExportedDisplay.connect(rig.path);
    using frame = await next(client);
    expect([frame.width, frame.height, frame.primary, frame.picture()]).toEqual([0, 0, null, null]);
  });
});

/** The eight formats of virtio-gpu, and where red, green and blue are in a pixel. */
const FORMATS: readonly (readonly [keyof typeof DRM_FORMAT, number, number, number])[] = [
  ['XRGB8888', 2, 1, 0],
  ['ARGB8888', 2, 1, 0],
  ['XBGR8888', 0, 1, 2],
  ['ABGR8888', 0, 1, 2],
  ['RGBX8888', 3, 2, 1],
  ['RGBA8888', 3, 2, 1],
  ['BGRX8888', 1, 2, 3],
  ['BGRA8888', 1, 2, 3],
];

describe('ExportedFrame.picture', () => {
  test.each(FORMATS)('reads %s', async (name, red, green, blue) => {
    const display = rig.open();
    const output = display.outputs[0]!;
    const listener = new Listener();
    rig.use(output.attach(listener));
    const shadow: Shadow = rig.use(output.createShadow(64, 48, DRM_FORMAT[name]));
    shadow.pixels.bytes.fill(255);
    shadow.pixels.bytes[4 + red] = 10;
    shadow.pixels.bytes[4 + green] = 20;
    shadow.pixels.bytes[4 + blue] = 30;
    await listener.show(output, shadow);
    using client = await ExportedDisplay.connect(rig.path);
    using frame = await next(client);
    expect([...frame.picture()!.data.subarray(0, 12)]).toEqual([
      255, 255, 255, 255, 10, 20, 30, 255, 255, 255, 255, 255,
    ]);
  });

  test('is what a headless screen of the same guest shows, cursor included', async () => {
    using gpu = new GpuRig({}, false);
    const display = rig.open();
    using screen = HeadlessOutput.open({ width: 64, height: 48, refreshMhz: 500_000 });
    using bridge = new Bridge(gpu.gpu);
    bridge.show(0, display.outputs[0]!);
    bridge.show(0, screen);
    using client = await ExportedDisplay.connect(rig.path);
    const bytes = Uint8Array.from({ length: 64 * 48 * 4 }, (_, i) => (i * 7) ^ (i >> 5));
    const arrow = Uint8Array.from({ length: 16 * 16 * 4 }, (_, i) => (i % 4 === 3 ? 200 : (i * 3) % 200));
    gpu.at(HEAP, bytes.length).set(bytes);
    gpu.at(HEAP + 16 * PAGE, arrow.length).set(arrow);
    gpu.ask(request.create2d(1, 64, 48));
    gpu.ask(request.attach(1, request.contiguous(64 * 48 * 4, HEAP)));
    gpu.ask(request.setScanout(0, 1, 0, 0, 64, 48));
    gpu.ask(request.transfer(1, 0, 0, 64, 48, 0));
    gpu.ask(request.create2d(2, 16, 16));
    gpu.ask(request.attach(2, request.contiguous(16 * 16 * 4, HEAP + 16 * PAGE)));
    gpu.ask(request.transfer(2, 0, 0, 16, 16, 0));
    gpu.send(request.updateCursor(0, 2, 1, 1, 30, 40), 0, 1);
    gpu.send(request.flush(1, 0, 0, 64, 48));
    let picture = null;
    for await (const frame of client) {
      using held = frame;
      if (held.primary && held.cursor) picture = held.picture();
      if (picture) break;
    }
    await screen.settled();
    expect(picture).toEqual(screen.capture());
    expect(picture).not.toEqual(screen.capture({ cursor: false }));
  });
});

/** A bridge that sends what a test says. */
class FakeBridge implements Disposable {
  readonly #listener: OwnedFd;
  #connection: UnixConnection | null = null;

  constructor() {
    this.#listener = listenUnix(rig.path);
    rig.use(this);
  }

  async accept(): Promise<void> {
    for (let fd = acceptUnix(this.#listener); ; fd = acceptUnix(this.#listener)) {
      if (fd) {
        this.#connection = UnixConnection.adopt(fd);
        return;
      }
      await setImmediate();
    }
  }

  send(bytes: Uint8Array, ...fds: OwnedFd[]): void {
    this.#connection!.send(bytes, fds);
  }

  [Symbol.dispose](): void {
    this.#connection?.[Symbol.dispose]();
    this.#listener[Symbol.dispose]();
  }
}

const hello = (version: number = EXPORT_VERSION): Uint8Array =>
  encode(EXPORT_EVENT.HELLO, export_hello, { version, scanouts: 1 });

describe('ExportedDisplay.connect', () => {
  test('says that no bridge exports there', async () => {
    await expect(ExportedDisplay.connect(rig.path)).rejects.toThrow(
      `${rig.path}: no bridge exports there; start one with scanout run --output export:${rig.path}`,
    );
  });

  test('says that a file is no socket', async () => {
    writeFileSync(rig.path, '');
    await expect(ExportedDisplay.connect(rig.path)).rejects.toMatchObject({ code: 'unreachable' });
  });

  test('refuses another version', async () => {
    const bridge = new FakeBridge();
    const connecting = ExportedDisplay.connect(rig.path);
    await bridge.accept();
    bridge.send(hello(2));
    await expect(connecting).rejects.toMatchObject({ code: 'version' });
  });

  test('is ended by its signal', async () => {
    new FakeBridge();
    const abort = new AbortController();
    const connecting = ExportedDisplay.connect(rig.path, { signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(connecting).rejects.toThrow('enough');
  });
});

describe('ExportedDisplay ends with an error, and keeps no descriptor, when a bridge', () => {
  test.each<[string, (bridge: FakeBridge) => void]>([
    ['sends half a message', (bridge) => bridge.send(Uint8Array.of(2, 0, 0, 0, 2, 0, 0, 0))],
    [
      'sends a buffer that was not asked for',
      (bridge) => {
        using memfd = createMemfd('buffer', 4096);
        bridge.send(encode(EXPORT_EVENT.IMPORTED, export_imported, { kind: EXPORT_KIND.MEMFD, length: 4096 }), memfd);
      },
    ],
    [
      'refuses a buffer that was not asked for',
      (bridge) =>
        bridge.send(
          encode(EXPORT_EVENT.ERROR, export_error, {
            code: EXPORT_ERROR.NO_SUCH_BUFFER,
            request: EXPORT_REQUEST.IMPORT,
          }),
        ),
    ],
    [
      'sends a buffer without a descriptor',
      (bridge) => bridge.send(encode(EXPORT_EVENT.IMPORTED, export_imported, { kind: EXPORT_KIND.MEMFD })),
    ],
    [
      'sends a frame of an impossible size',
      (bridge) => bridge.send(encode(EXPORT_EVENT.FRAME, export_frame, { width: 2 ** 31, height: 1 })),
    ],
    [
      'sends frames without end',
      (bridge) => {
        for (let serial = 1; serial < 100; serial++) bridge.send(encode(EXPORT_EVENT.FRAME, export_frame, { serial }));
      },
    ],
    [
      'sends a frame twice',
      (bridge) => {
        bridge.send(encode(EXPORT_EVENT.FRAME, export_frame, { serial: 7 }));
        bridge.send(encode(EXPORT_EVENT.FRAME, export_frame, { serial: 7 }));
      },
    ],
    [
      'exports buffers without end',
      (bridge) => {
        for (let i = 0; i < 5000; i++) {
          const id = new Uint8Array(16);
          new DataView(id.buffer).setUint32(0, i);
          bridge.send(encode(EXPORT_EVENT.EXPORTED, export_exported, { id, length: 4096 }));
        }
      },
    ],
    ['sends too much damage', (bridge) => bridge.send(encode(EXPORT_EVENT.FRAME, export_frame, { damage_count: 17 }))],
  ])('%s', async (_, misbehave) => {
    const bridge = new FakeBridge();
    const connecting = ExportedDisplay.connect(rig.path);
    await bridge.accept();
    bridge.send(hello());
    using display = await connecting;
    misbehave(bridge);
    const reading = (async () => {
      // Frames that are fine come first.
      for (;;) await next(display);
    })();
    await expect(reading).rejects.toBeInstanceOf(ExportError);
  });

  test('sends memory that can be truncated', async () => {
    const bridge = new FakeBridge();
    const connecting = ExportedDisplay.connect(rig.path);
    await bridge.accept();
    bridge.send(hello());
    using display = await connecting;
    const id = new Uint8Array(16).fill(3);
    const importing = display.import(id);
    using memfd = createMemfd('unsealed', 4096, 0);
    bridge.send(encode(EXPORT_EVENT.IMPORTED, export_imported, { id, kind: EXPORT_KIND.MEMFD, length: 4096 }), memfd);
    await expect(importing).rejects.toMatchObject({ code: 'protocol' });
  });
});
