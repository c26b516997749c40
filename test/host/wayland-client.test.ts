import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  createMemfd,
  Mapping,
  WaylandDisplay,
  type WlBuffer,
  WlCompositor,
  WlOutput,
  WlShm,
  WlShmFormat,
  type WlSurface,
  XdgWmBase,
} from '../../display/wayland/client/index.ts';
import { openFds } from '../rig/process-resources.ts';
import { pixel } from '../rig/picture.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';

const run = promisify(execFile);
const ENTRY = join(import.meta.dirname, '../../display/wayland/client/index.ts');
const [WIDTH, HEIGHT] = [320, 200];

/** A window that fills the kiosk, painted when the compositor has configured it. */
class Window {
  readonly surface: WlSurface;
  readonly configured: Promise<void>;

  constructor(display: WaylandDisplay) {
    const shell = display.bind(XdgWmBase, 1)!;
    this.surface = display.bind(WlCompositor, 4)!.createSurface();
    const xdg = shell.getXdgSurface(this.surface);
    xdg.getToplevel().setTitle('x'.repeat(4083));
    this.configured = new Promise((resolve) => {
      xdg.listener = {
        configure(serial) {
          xdg.ackConfigure(serial);
          resolve();
        },
      };
    });
    this.surface.commit();
  }

  /** Resolves with the frame callback's time. */
  show(buffer: WlBuffer): Promise<number> {
    this.surface.attach(buffer, 0, 0);
    this.surface.damageBuffer(0, 0, WIDTH, HEIGHT);
    const callback = this.surface.frame();
    this.surface.commit();
    return new Promise((resolve) => (callback.listener = { done: resolve }));
  }
}

describe.skipIf(skipWithoutWeston())('WaylandDisplay on Weston', () => {
  let weston: Weston;
  beforeAll(async () => {
    weston = await startWeston({ size: [WIDTH, HEIGHT] });
  });
  afterAll(() => weston[Symbol.asyncDispose]());

  test('lists the same globals as wayland-info', async () => {
    using display = await WaylandDisplay.connect({ socket: weston.socket });
    const { stdout } = await run('wayland-info', { env: weston.env });
    const theirs = [...stdout.matchAll(/interface: '(\w+)',\s+version:\s+(\d+), name:\s+(\d+)/g)];
    expect([...display.globals.values()]).toEqual(
      theirs.map(([, type, version, name]) => ({ name: Number(name), interface: type, version: Number(version) })),
    );
    expect(theirs.length).toBeGreaterThan(10);
  });

  test('reports the output’s mode and the formats of wl_shm', async () => {
    using display = await WaylandDisplay.connect({ socket: weston.socket });
    const heard: Record<string, unknown> = {};
    display.bind(WlOutput, 4)!.listener = {
      mode: (_flags, width, height) => (heard.mode = [width, height]),
      scale: (factor) => (heard.scale = factor),
      name: (name) => (heard.name = name),
    };
    const formats: number[] = [];
    display.bind(WlShm, 1)!.listener = { format: (format) => formats.push(format) };
    await display.roundtrip();
    expect(heard).toEqual({ mode: [WIDTH, HEIGHT], scale: 1, name: 'headless' });
    expect(formats).toEqual(expect.arrayContaining([WlShmFormat.argb8888, WlShmFormat.xrgb8888]));
  });

  test('shows the pixels of a wl_shm buffer, and is told when another has replaced it', async () => {
    const fds = openFds();
    {
      using display = await WaylandDisplay.connect({ socket: weston.socket });
      const window = new Window(display);
      const size = WIDTH * HEIGHT * 4;
      using memory = createMemfd('two pictures', 2 * size);
      using pixels = Mapping.file(memory, 0, 2 * size, 'read-write');
      const words = new Uint32Array(pixels.bytes.buffer);
      words.subarray(0, size / 4).forEach((_, i, picture) => (picture[i] = (i * 2654435761) & 0xffffff));
      words.fill(0x123456, size / 4);
      using pool = display.bind(WlShm, 1)!.createPool(memory, 2 * size);
      const [noise, plain] = [0, size].map((offset) =>
        pool.createBuffer(offset, WIDTH, HEIGHT, WIDTH * 4, WlShmFormat.xrgb8888),
      ) as [WlBuffer, WlBuffer];
      const released = new Promise<void>((resolve) => (noise.listener = { release: resolve }));
      await window.configured;

      await window.show(noise);
      const picture = await weston.screenshot();
      expect([picture.width, picture.height]).toEqual([WIDTH, HEIGHT]);
      const wrong = Array.from({ length: WIDTH * HEIGHT }, (_, i) => i).filter(
        (i) => pixel(picture, i % WIDTH, Math.floor(i / WIDTH)) !== words[i],
      );
      expect(wrong).toEqual([]);

      await window.show(plain);
      await released;
      expect(pixel(await weston.screenshot(), 7, 9)).toBe(0x123456);
    }
    expect(openFds()).toEqual(fds);
  });

  test('closes with a protocol error that names the interface, the error and the request', async () => {
    using display = await WaylandDisplay.connect({ socket: weston.socket });
    const surface = display.bind(WlCompositor, 4)!.createSurface();
    surface.setBufferScale(-1);
    await expect(display.roundtrip()).rejects.toMatchObject({
      code: 'refused',
      interface: 'wl_surface',
      errorName: 'invalid_scale',
      request: 'set_buffer_scale',
    });
  });

  test('runs the example of the entry module', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'wayland-example-'));
    try {
      const example = /```ts\n(.*?)```/s.exec(readFileSync(ENTRY, 'utf8'))![1]!.replaceAll(/^ \* ?/gm, '');
      writeFileSync(join(directory, 'example.mts'), example.replace("'scanout-bridge/wayland-client'", `'${ENTRY}'`));
      const { stdout } = await run(process.execPath, ['--import', import.meta.resolve('tsx'), 'example.mts'], {
        cwd: directory,
        env: weston.env,
      });
      expect(stdout).toMatch(/^1 wl_compositor \d+\n/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('connects again after Weston was killed and restarted', async () => {
    using display = await WaylandDisplay.connect({ socket: weston.socket });
    const closed = new Promise((resolve) => display.onClosed(resolve));
    await weston.kill();
    expect(await closed).toMatchObject({ code: 'gone' });
    await weston.start();
    using again = await WaylandDisplay.connect({ socket: weston.socket });
    expect(again.globals.size).toBeGreaterThan(10);
  });
});
