/** Weston with its GL renderer says what a compositor makes of dma-bufs. Their memory is a memfd's, which Mesa imports. */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WaylandDisplay, ZwpLinuxDmabufV1 } from '../../display/wayland/client/index.ts';
import type { WaylandOutput } from '../../display/wayland/output.ts';
import { WaylandWindows } from '../../display/wayland/windows.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../protocols/drm-fourcc.ts';
import { Damage } from '../../src/core/damage.ts';
import { type Framebuffer, type MemoryPlane, newFramebufferId } from '../../src/core/framebuffer.ts';
import type { Handle } from '../../src/core/output.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';

const [WIDTH, HEIGHT] = [64, 48];
const SIZE = WIDTH * 4 * HEIGHT;
const rect = { x: 0, y: 0, width: WIDTH, height: HEIGHT };

describe.skipIf(skipWithoutWeston())('WaylandOutput: on Weston', () => {
  let weston: Weston;
  let windows: WaylandWindows;
  let outputs: readonly WaylandOutput[];
  const stack = new DisposableStack();

  beforeAll(async () => {
    weston = await startWeston({ renderer: 'gl', shell: 'desktop' });
    windows = await WaylandWindows.open({ socket: weston.socket });
    outputs = windows.openOutputs(4);
    await windows.roundtrip();
  });
  afterAll(async () => {
    windows[Symbol.dispose]();
    stack[Symbol.dispose]();
    await weston[Symbol.asyncDispose]();
  });

  /** A framebuffer with memory of its own. */
  function framebuffer(layout: Partial<Framebuffer> = {}): Framebuffer {
    const dmabuf = stack.use(createMemfd('picture', SIZE));
    return {
      id: newFramebufferId(),
      width: WIDTH,
      height: HEIGHT,
      format: DRM_FORMAT.XRGB8888,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes: [{ offset: 0, stride: WIDTH * 4 }],
      backing: { kind: 'dmabuf', dmabuf },
      ...layout,
    };
  }

  /** Whether Weston ends the connection of a client that asks for this import. */
  async function isFatal({ width, height, format, planes, backing }: Framebuffer): Promise<boolean> {
    if (backing.kind !== 'dmabuf') throw new Error('no dma-buf');
    const display = await WaylandDisplay.connect({ socket: weston.socket });
    const params = display.bind(ZwpLinuxDmabufV1, 3)!.createParams();
    planes.forEach(({ offset, stride }, index) => params.add(backing.dmabuf, index, offset, stride, 0, 0));
    params.create(width, height, format, 0);
    const ended = await display.roundtrip().then(
      () => false,
      () => true,
    );
    display[Symbol.dispose]();
    return ended;
  }

  const plane = (offset: number, stride: number): { planes: MemoryPlane[] } => ({ planes: [{ offset, stride }] });
  test.each<[string, Partial<Framebuffer>, boolean]>([
    ['that fills the dma-buf', {}, false],
    ['in the last row of the dma-buf', { height: 1, ...plane(SIZE - WIDTH * 4, WIDTH * 4) }, false],
    ['of one pixel', { width: 1, height: 1, ...plane(0, 4) }, false],
    ['whose last row is short', plane(4, WIDTH * 4), true],
    ['of two rows, the second of which is short', { height: 2, ...plane(0, SIZE - 4) }, true],
    ['with a row of nearly 4 GiB', { height: 1, ...plane(0, 2 ** 32 - 4) }, true],
    ['behind the dma-buf', { height: 1, ...plane(SIZE, WIDTH * 4) }, true],
    ['without columns', { width: 0 }, true],
    ['without rows', { height: 0 }, true],
  ])('shares a picture %s only if that does not end the connection', async (_, layout, isRefused) => {
    const picture = framebuffer(layout);
    const handle = outputs[0]!.import(picture);
    expect([handle instanceof Error, await isFatal(picture)]).toEqual([isRefused, isRefused]);
    if (!(handle instanceof Error)) handle[Symbol.dispose]();
  });

  test('leaves it most of its descriptors, however many framebuffers the windows show', async () => {
    const descriptors = (): number => readdirSync(`/proc/${weston.pid}/fd`).length;
    const before = descriptors();
    await Promise.all(outputs.map((output, scanout) => flip(output, scanout, 40)));
    // Two of each import: 64 in all, beside those on screen and those of the windows themselves.
    expect(descriptors() - before).toBeLessThan(2 * 64 + 50);
  });

  /** Shows `count` framebuffers in turn, each as soon as the one before was shown, and keeps them all. */
  async function flip(output: WaylandOutput, scanout: number, count: number): Promise<void> {
    let shown = (): void => undefined;
    const ignore = (): void => undefined;
    stack.use(
      output.attach({
        ...{ scanout, input: null, released: ignore, resized: ignore, importsChanged: ignore, closed: ignore },
        presented: () => shown(),
      }),
    );
    const damage = new Damage();
    damage.addRect(rect);
    for (let i = 0; i < count; i++) {
      const handle = output.import(framebuffer());
      if (handle instanceof Error) throw handle;
      const presented = new Promise<void>((resolve) => (shown = resolve));
      output.present({
        canvas: rect,
        primary: { handle: stack.use<Handle>(handle), src: rect, dst: rect },
        cursor: { handle: null, src: rect, dst: rect },
        ...{ hotspotX: 0, hotspotY: 0, isCursorNew: false, damage, acquire: null, release: null },
      });
      await presented;
    }
  }
});
