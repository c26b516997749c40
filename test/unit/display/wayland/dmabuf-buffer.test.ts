import { describe, expect, test, vi } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import { type Frame, type Handle, PresentedFlags } from '../../../../src/core/output.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { accept, dmabufHost, type Pairs, sendFeedback } from './dmabuf-host.ts';
import type { FakeObject, FakeRequest } from './fake-server.ts';
import {
  bridge,
  guest,
  HEIGHT,
  host,
  log,
  nextPicture,
  open,
  output,
  picture,
  settle,
  useWindows,
  WIDTH,
} from './window-rig.ts';

expectNoLeaks();
useWindows();

const { XRGB8888, ARGB8888 } = DRM_FORMAT;
const [LINEAR, INVALID] = [DRM_FORMAT_MOD_LINEAR, DRM_FORMAT_MOD_INVALID];
const TILED = 0x0100_0000_0000_0001n;

async function openDmabuf(version: number, modifiers?: readonly bigint[]): Promise<void> {
  await open(dmabufHost({ version, ...(modifiers && { modifiers }) }));
  await settle();
}

async function openTranches(...tranches: Pairs[]): Promise<void> {
  await open(dmabufHost({ version: 5, tranches }));
  await settle();
}

/** The feedback object of the newest window. */
function surfaceFeedback(): FakeObject {
  return host.server.requests.findLast(({ name }) => name === 'zwp_linux_dmabuf_v1.get_surface_feedback')!.args
    .id as FakeObject;
}

/** Format and modifier of the newest import. */
function lastName(): [unknown, bigint] {
  const { modifier_hi, modifier_lo } = host.last('zwp_linux_buffer_params_v1.add') as Record<string, number>;
  return [
    host.last('zwp_linux_buffer_params_v1.create')!['format'],
    (BigInt(modifier_hi!) << 32n) | BigInt(modifier_lo!),
  ];
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
  return {
    canvas: rect,
    primary: { handle, src: rect, dst: rect },
    cursor: { handle: null, src: rect, dst: rect },
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage: new Damage(),
    acquire: null,
    release: null,
  };
}

describe('WaylandOutput: dma-bufs', () => {
  test.each([
    { version: 1, offers: 'formats', modifiers: [], named: INVALID },
    { version: 2, offers: 'formats', modifiers: [], named: INVALID },
    { version: 3, offers: 'LINEAR and INVALID', modifiers: [LINEAR, INVALID], named: LINEAR },
    { version: 3, offers: 'INVALID', modifiers: [INVALID], named: INVALID },
    { version: 4, offers: 'a tiling and LINEAR', modifiers: [TILED, LINEAR], named: LINEAR },
    { version: 5, offers: 'LINEAR', modifiers: [LINEAR], named: LINEAR },
  ])('are shown by linux-dmabuf version $version that offers $offers', async ({ version, modifiers, named }) => {
    await openDmabuf(version, modifiers);
    accept(host);
    await show();
    expect(host.last('zwp_linux_buffer_params_v1.add')).toMatchObject({
      plane_idx: 0,
      offset: 0,
      stride: WIDTH * 4,
      modifier_hi: Number(named >> 32n),
      modifier_lo: Number(named & 0xffff_ffffn),
    });
    expect(host.last('zwp_linux_buffer_params_v1.create')).toEqual({
      width: WIDTH,
      height: HEIGHT,
      format: XRGB8888,
      flags: 0,
    });
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'dmabuf', copiedBytes: 0 });
  });

  test('with alpha are imported in the opaque format', async () => {
    await openDmabuf(5);
    accept(host);
    await show(picture(WIDTH, HEIGHT, ARGB8888).asDmabuf);
    expect(host.last('zwp_linux_buffer_params_v1.create')).toMatchObject({ format: XRGB8888 });
  });

  test('of cursors keep their alpha, and are committed again when the guest has drawn into them', async () => {
    await openDmabuf(5);
    accept(host);
    await show();
    const cursor = picture(16, 16, ARGB8888).asDmabuf;
    const attached = host.server.next('wl_surface.attach');
    guest.sink.cursor(0, cursor, 0, 0, 0, 0);
    const first = await attached;
    const attachedAgain = host.server.next('wl_surface.attach');
    guest.sink.cursor(0, cursor, 0, 0, 0, 0);
    const second = await attachedAgain;
    expect(host.last('zwp_linux_buffer_params_v1.create')).toEqual({
      width: 16,
      height: 16,
      format: ARGB8888,
      flags: 0,
    });
    expect([second.object, second.args.buffer]).toEqual([first.object, first.args.buffer]);
    expect(first.object).not.toBe(host.picture);
  });

  test('are imported once each when the guest flips between them', async () => {
    await openDmabuf(5);
    accept(host);
    const [a, b] = [picture().asDmabuf, picture().asDmabuf];
    for (const each of [a, b, a, b, a]) await show(each);
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(2);
  });

  test('of a destroyed framebuffer are destroyed when the compositor has released them', async () => {
    await openDmabuf(5);
    accept(host);
    const gone = picture().asDmabuf;
    await show(gone);
    guest.sink.destroyed(gone);
    await show();
    await settle();
    expect(host.count('wl_buffer.destroy')).toBe(1);
  });

  test('whose import fails end the frame that waited, and their format and modifier are not offered any more', async () => {
    await openDmabuf(5);
    host.server.on('zwp_linux_buffer_params_v1.create', ({ object }) => object.send('failed'));
    bridge.hide(output);
    let refuse!: () => void;
    const refused = new Promise<void>((resolve) => (refuse = resolve));
    let present!: (flags: number) => void;
    const presented = new Promise<number>((resolve) => (present = resolve));
    output.attach({
      scanout: 0,
      input: null,
      presented: (_time, _refresh, _sequence, flags) => present(flags),
      released: vi.fn(),
      resized: vi.fn(),
      closed: vi.fn(),
      importsChanged: refuse,
    });
    using buffer = output.import(picture().asDmabuf) as Handle;
    output.present(frameOf(buffer));
    await refused;
    expect(output.import(picture().asDmabuf)).toMatchObject({ code: 'modifier' });
    expect(output.imports.has(ARGB8888, LINEAR)).toBe(true);
    expect(log).toContain('wayland:0: the compositor offers XRGB8888 but failed to import it: copying instead');
    expect(await presented).toBe(PresentedFlags.HIDDEN);
  });

  test.each([
    {
      what: 'the best tranche',
      format: XRGB8888,
      tranches: [[[XRGB8888, INVALID]], [[XRGB8888, LINEAR]]],
      named: [XRGB8888, INVALID],
    },
    {
      what: 'their own modifier in a tranche',
      format: XRGB8888,
      tranches: [
        [
          [XRGB8888, INVALID],
          [XRGB8888, LINEAR],
        ],
      ],
      named: [XRGB8888, LINEAR],
    },
    {
      what: 'the opaque format, even of a later tranche',
      format: ARGB8888,
      tranches: [[[ARGB8888, LINEAR]], [[XRGB8888, LINEAR]]],
      named: [XRGB8888, LINEAR],
    },
    {
      what: 'their own format if there is no opaque one',
      format: ARGB8888,
      tranches: [[[XRGB8888, TILED]], [[ARGB8888, LINEAR]]],
      named: [ARGB8888, LINEAR],
    },
  ] as const)('are imported under $what', async ({ format, tranches, named }) => {
    await openTranches(...tranches);
    accept(host);
    await show(picture(WIDTH, HEIGHT, format).asDmabuf);
    expect(lastName()).toEqual(named);
  });

  test('are imported under the next name if one fails', async () => {
    await openTranches([[XRGB8888, INVALID]], [[XRGB8888, LINEAR]]);
    host.server.on('zwp_linux_buffer_params_v1.create', ({ client, object }) => {
      if (lastName()[1] === INVALID) object.send('failed');
      else object.send('created', client.newObject('wl_buffer', 1));
    });
    await show();
    expect(lastName()).toEqual([XRGB8888, LINEAR]);
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'dmabuf', copiedBytes: 0 });
  });

  test('are imported again when new feedback has a better name for them', async () => {
    await openTranches([[XRGB8888, INVALID]]);
    accept(host);
    await show();
    const commit = nextPicture();
    sendFeedback(surfaceFeedback(), [[[XRGB8888, LINEAR]], [[XRGB8888, INVALID]]]);
    await settle();
    await commit;
    expect([host.count('zwp_linux_buffer_params_v1.create'), lastName()]).toEqual([2, [XRGB8888, LINEAR]]);
  });

  test('are not imported again when new feedback changes no name', async () => {
    await openTranches([
      [XRGB8888, LINEAR],
      [XRGB8888, TILED],
    ]);
    accept(host);
    await show();
    sendFeedback(surfaceFeedback(), [[[XRGB8888, TILED]], [[XRGB8888, LINEAR]]]);
    await settle();
    await show();
    expect([host.count('zwp_linux_buffer_params_v1.create'), lastName()]).toEqual([2, [XRGB8888, LINEAR]]);
  });

  test('are copied on a compositor whose format table cannot be read', async () => {
    await openDmabuf(5);
    const feedback = surfaceFeedback();
    using pipe = EventFd.create();
    feedback.send('format_table', pipe, 32);
    feedback.send('tranche_formats', new Uint8Array(2));
    feedback.send('tranche_done');
    feedback.send('done');
    await settle();
    expect(output.imports.isEmpty).toBe(true);
  });

  test('are synchronised implicitly, with one line in the log, if the compositor’s device cannot be opened', async () => {
    const options = dmabufHost({ version: 5 });
    await open({ ...options, globals: { ...options.globals, wp_linux_drm_syncobj_manager_v1: 1 } });
    accept(host);
    await show();
    await show();
    expect(host.server.requestNames.filter((name) => name.startsWith('wp_linux_drm_syncobj'))).toEqual([
      'wp_linux_drm_syncobj_manager_v1.destroy',
    ]);
    expect(log.filter((line) => line.includes('synchronise explicitly'))).toEqual([
      expect.stringMatching(/^cannot synchronise explicitly with the compositor: scandir: ENOENT/),
    ]);
    expect(output.takesFences).toBe(false);
  });
});
