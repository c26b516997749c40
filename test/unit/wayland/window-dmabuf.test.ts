import { describe, expect, test, vi } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR } from '../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../src/core/damage.ts';
import { type Frame, type Handle, PresentedFlags } from '../../../src/core/output.ts';
import { scanoutId } from '../../../src/core/source.ts';
import { createMemfd } from '../../../src/sys/memfd.ts';
import { Mapping } from '../../../src/sys/mapping.ts';
import { expectNoLeaks } from '../sys/no-leaks.ts';
import type { FakeObject, FakeRequest } from './fake-server.ts';
import { bridge, guest, HEIGHT, host, log, nextPicture, open, output, picture, settle, useWindows, WIDTH } from './window-rig.ts';

expectNoLeaks();
useWindows();

const TILED = 0x0100_0000_0000_0001n;

/** Sends a feedback with one tranche of these. */
function sendFeedback(feedback: FakeObject, pairs: readonly (readonly [number, bigint])[]): void {
  using table = createMemfd('table', pairs.length * 16);
  using mapping = Mapping.file(table, 0, pairs.length * 16, 'read-write');
  pairs.forEach(([format, modifier], i) => {
    mapping.view.setUint32(i * 16, format, true);
    mapping.view.setBigUint64(i * 16 + 8, modifier, true);
  });
  feedback.send('format_table', table, pairs.length * 16);
  feedback.send('main_device', new Uint8Array(8));
  feedback.send('tranche_target_device', new Uint8Array(8));
  feedback.send('tranche_flags', 0);
  feedback.send('tranche_formats', new Uint8Array(Uint16Array.from(pairs, (_, i) => i).buffer));
  feedback.send('tranche_done');
  feedback.send('done');
}

/** A compositor that imports XRGB8888 and ARGB8888, by what its version of linux-dmabuf says it with. */
async function openDmabuf(version: number, modifiers: readonly bigint[] = [DRM_FORMAT_MOD_LINEAR]): Promise<void> {
  const formats = [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888];
  const pairs = formats.flatMap((format) => modifiers.map((modifier) => [format, modifier] as const));
  await open({
    globals: { zwp_linux_dmabuf_v1: version },
    onBind: (dmabuf) => {
      if (dmabuf.interface.name !== 'zwp_linux_dmabuf_v1') return;
      if (version < 4) for (const format of formats) dmabuf.send('format', format);
      if (version === 3) for (const [format, modifier] of pairs) dmabuf.send('modifier', format, Number(modifier >> 32n), Number(modifier & 0xffff_ffffn));
    },
    prepare: (server) => {
      server.on('zwp_linux_dmabuf_v1.get_default_feedback', ({ args }) => sendFeedback(args.id as FakeObject, pairs));
      server.on('zwp_linux_dmabuf_v1.get_surface_feedback', ({ args }) => sendFeedback(args.id as FakeObject, pairs));
    },
  });
  await settle();
}

/** The compositor takes what it is given. */
function accept(): void {
  host.server.on('zwp_linux_buffer_params_v1.create', ({ client, object }) => object.send('created', client.newObject('wl_buffer', 1)));
}

async function show(framebuffer = picture().asDmabuf): Promise<FakeRequest> {
  guest.show(framebuffer);
  const commit = nextPicture();
  const done = guest.flush(0, 0, WIDTH, HEIGHT);
  const committed = await commit;
  host.repaint();
  await done;
  return committed;
}

function frameOf(handle: Handle): Frame {
  const rect = { x: 0, y: 0, width: WIDTH, height: HEIGHT };
  return { canvas: rect, primary: { handle, src: rect, dst: rect }, cursor: { handle: null, src: rect, dst: rect }, hotspotX: 0, hotspotY: 0, isCursorNew: false, damage: new Damage(), acquire: null, release: null };
}

describe('dma-bufs', () => {
  test.each([
    { version: 1, offers: 'formats', modifiers: [], named: DRM_FORMAT_MOD_INVALID },
    { version: 2, offers: 'formats', modifiers: [], named: DRM_FORMAT_MOD_INVALID },
    { version: 3, offers: 'LINEAR and INVALID', modifiers: [DRM_FORMAT_MOD_LINEAR, DRM_FORMAT_MOD_INVALID], named: DRM_FORMAT_MOD_LINEAR },
    { version: 3, offers: 'INVALID', modifiers: [DRM_FORMAT_MOD_INVALID], named: DRM_FORMAT_MOD_INVALID },
    { version: 4, offers: 'a tiling and LINEAR', modifiers: [TILED, DRM_FORMAT_MOD_LINEAR], named: DRM_FORMAT_MOD_LINEAR },
    { version: 5, offers: 'LINEAR', modifiers: [DRM_FORMAT_MOD_LINEAR], named: DRM_FORMAT_MOD_LINEAR },
  ])('are shown by version $version that offers $offers', async ({ version, modifiers, named }) => {
    await openDmabuf(version, modifiers);
    accept();
    await show();
    expect(host.last('zwp_linux_buffer_params_v1.add')).toMatchObject({ plane_idx: 0, offset: 0, stride: WIDTH * 4, modifier_hi: Number(named >> 32n), modifier_lo: Number(named & 0xffff_ffffn) });
    expect(host.last('zwp_linux_buffer_params_v1.create')).toEqual({ width: WIDTH, height: HEIGHT, format: DRM_FORMAT.XRGB8888, flags: 0 });
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'dmabuf', copiedBytes: 0 });
  });

  test('with alpha are shown without it', async () => {
    await openDmabuf(5);
    accept();
    await show(picture(WIDTH, HEIGHT, DRM_FORMAT.ARGB8888).asDmabuf);
    expect(host.last('zwp_linux_buffer_params_v1.create')).toMatchObject({ format: DRM_FORMAT.XRGB8888 });
  });

  test('of cursors keep their alpha, and are shown anew when guests draw into them', async () => {
    await openDmabuf(5);
    accept();
    await show();
    const cursor = picture(16, 16, DRM_FORMAT.ARGB8888).asDmabuf;
    const attached = host.server.next('wl_surface.attach');
    guest.sink.cursor(scanoutId(0), cursor, 0, 0, 0, 0);
    const first = await attached;
    const attachedAgain = host.server.next('wl_surface.attach');
    guest.sink.cursor(scanoutId(0), cursor, 0, 0, 0, 0);
    const second = await attachedAgain;
    expect(host.last('zwp_linux_buffer_params_v1.create')).toEqual({ width: 16, height: 16, format: DRM_FORMAT.ARGB8888, flags: 0 });
    expect([second.object, second.args.buffer]).toEqual([first.object, first.args.buffer]);
    expect(first.object).not.toBe(host.picture);
  });

  test('that are flipped between are imported once each', async () => {
    await openDmabuf(5);
    accept();
    const [a, b] = [picture().asDmabuf, picture().asDmabuf];
    for (const each of [a, b, a, b, a]) await show(each);
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(2);
  });

  test('of a destroyed framebuffer go when the compositor has let go of them', async () => {
    await openDmabuf(5);
    accept();
    const gone = picture().asDmabuf;
    await show(gone);
    guest.sink.destroyed(gone);
    await show();
    await settle();
    expect(host.count('wl_buffer.destroy')).toBe(1);
  });

  test('a refusal is remembered for its format and modifier, and ends the frame that waited for the buffer', async () => {
    await openDmabuf(5);
    host.server.on('zwp_linux_buffer_params_v1.create', ({ object }) => object.send('failed'));
    bridge.hide(output);
    const refused = new Promise<void>((importsChanged) => {
      output.listen({ scanout: scanoutId(0), input: null, presented: vi.fn(), released: vi.fn(), resized: vi.fn(), closed: vi.fn(), importsChanged });
    });
    using buffer = output.import(picture().asDmabuf) as Disposable;
    output.present(frameOf(buffer));
    await refused;
    expect(output.import(picture().asDmabuf)).toMatchObject({ code: 'modifier' });
    expect(output.imports.has(DRM_FORMAT.ARGB8888, DRM_FORMAT_MOD_LINEAR)).toBe(true);
    expect(log).toContain('wayland:0: the compositor cannot import XRGB8888 after all');
    const presented = new Promise<number>((resolve) => {
      output.listen({ scanout: scanoutId(0), input: null, presented: (_time, _refresh, _sequence, flags) => resolve(flags), released: vi.fn(), resized: vi.fn(), closed: vi.fn(), importsChanged: vi.fn() });
    });
    expect(await presented).toBe(PresentedFlags.HIDDEN);
  });

  test('new feedback makes everything anew', async () => {
    await openDmabuf(5);
    accept();
    const shown = picture().asDmabuf;
    await show(shown);
    const feedback = host.server.requests.findLast(({ name }) => name === 'zwp_linux_dmabuf_v1.get_surface_feedback')!.args.id as FakeObject;
    sendFeedback(feedback, [[DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR], [DRM_FORMAT.XRGB8888, TILED]]);
    const commit = nextPicture();
    await settle();
    await commit;
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(2);
    sendFeedback(feedback, [[DRM_FORMAT.XRGB8888, TILED], [DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR]]);
    await settle();
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(2);
  });
});
