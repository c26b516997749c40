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
  showPicture,
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

function show(framebuffer = picture().asDmabuf): Promise<FakeRequest> {
  return showPicture(framebuffer);
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

  test('whose first row is the lowest are mirrored by the compositor, with their damage, until the next that is not', async () => {
    await openDmabuf(5);
    accept(host);
    const turned = { ...picture().asDmabuf, isBottomUp: true };
    await show(turned);
    const transforms = (): unknown[] => host.server.requests.filter(({ name }) => name === SET).map(({ args }) => args);
    const SET = 'wl_surface.set_buffer_transform';
    expect(transforms()).toEqual([{ transform: 6 }]);
    const commit = nextPicture();
    const done = guest.flush(8, 4, 16, 2);
    await commit;
    expect(host.last('wl_surface.damage_buffer')).toEqual({ x: 8, y: HEIGHT - 4 - 2, width: 16, height: 2 });
    host.repaint();
    await done;
    await show();
    expect(transforms()).toEqual([{ transform: 6 }, { transform: 0 }]);
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

  test('whose import fails end the frame that waited, are refused from then on, and others of their format are not', async () => {
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
      presented: ({ flags }) => present(flags),
      released: vi.fn(),
      resized: vi.fn(),
      closed: vi.fn(),
      importsChanged: refuse,
    });
    const failing = picture().asDmabuf;
    using buffer = output.import(failing) as Handle;
    output.present(frameOf(buffer));
    await refused;
    expect(output.import(failing)).toMatchObject({ code: 'size' });
    using other = output.import(picture().asDmabuf) as Handle;
    expect(other).not.toBeInstanceOf(Error);
    expect(log).toContain(
      'wayland:0: the compositor failed to import 64x48 XRGB8888 with rows of 256 bytes: copying instead',
    );
    expect(await presented).toBe(PresentedFlags.HIDDEN);
  });

  const PAGES = WIDTH * 4 * HEIGHT;
  test.each([
    ['has an empty last row', { planes: [{ offset: 4, stride: WIDTH * 4 }] }],
    ['has rows that reach beyond the dma-buf', { planes: [{ offset: 0, stride: PAGES }] }],
    ['has one row of nearly 4 GiB', { height: 1, planes: [{ offset: 0, stride: 2 ** 32 - 4 }] }],
    ['has rows of no bytes', { planes: [{ offset: 0, stride: 0 }] }],
    ['begins before the dma-buf', { planes: [{ offset: -4, stride: WIDTH * 4 }] }],
    [
      'has a second plane beyond the dma-buf',
      {
        planes: [
          { offset: 0, stride: 4 },
          { offset: PAGES, stride: 4 },
        ],
      },
    ],
    ['has no planes', { planes: [] }],
    ['has five planes', { planes: Array.from({ length: 5 }, () => ({ offset: 0, stride: 4 })) }],
    ['has no pixels', { width: 0 }],
    ['is wider than a viewport can name', { width: 2 ** 23, height: 1 }],
  ])('are copied instead of sent if the layout %s, which ends connections', async (_, layout) => {
    await openDmabuf(5);
    expect(output.import({ ...picture().asDmabuf, ...layout })).toMatchObject({
      code: 'size',
      message: expect.stringContaining('linux-dmabuf cannot describe') as string,
    });
  });

  test('that fill the dma-buf to its last byte are shared', async () => {
    await openDmabuf(5);
    accept(host);
    await show({ ...picture().asDmabuf, height: 1, planes: [{ offset: PAGES - WIDTH * 4, stride: WIDTH * 4 }] });
    expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'dmabuf' });
  });

  test('of all windows are 64 at most, the oldest make room, and those on screen stay', async () => {
    await open(dmabufHost({ version: 5 }), { scanouts: 2 });
    await settle();
    accept(host);
    const kept = picture().asDmabuf;
    await show(kept);
    const shown = host.committed.get(host.picture)!.buffer!;
    const made = Array.from({ length: 70 }, () => picture().asDmabuf);
    for (const each of made) {
      guest.show(each, 1);
      const commit = nextPicture();
      const done = guest.flush(0, 0, WIDTH, HEIGHT, 1);
      await commit;
      host.repaint();
      await done;
    }
    await settle();
    const alive = [...host.server.client.objects.values()].filter((object) => object.interface.name === 'wl_buffer');
    // Each window has one more for its backdrop.
    expect(alive.length).toBe(64 + 2);
    expect(shown.isDestroyed).toBe(false);
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(71);

    const asked = host.server.next('zwp_linux_buffer_params_v1.create');
    guest.show(made[0]!, 1);
    void guest.flush(0, 0, WIDTH, HEIGHT, 1);
    await asked;
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

  test('of a framebuffer that is gone are not imported under the next name', async () => {
    await openTranches([[XRGB8888, INVALID]], [[XRGB8888, LINEAR]]);
    guest.show(picture().asDmabuf);
    const asked = host.server.next('zwp_linux_buffer_params_v1.create');
    void guest.flush(0, 0, WIDTH, HEIGHT);
    const { object } = await asked;
    bridge.hide(output);
    object.send('failed');
    await settle();
    expect(host.count('zwp_linux_buffer_params_v1.create')).toBe(1);
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
