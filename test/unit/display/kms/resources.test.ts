import { describe, expect, test } from 'vitest';
import {
  assignPipes,
  type Connector,
  type Crtc,
  type Mode,
  type Plane,
  planeFormats,
  type Properties,
  rankModes,
  readMode,
  readSizeHints,
  sameConnector,
} from '../../../../display/kms/resources.ts';
import {
  DRM_FORMAT,
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  type Modifier,
} from '../../../../protocols/drm-fourcc.ts';
import {
  drm_format_modifier,
  drm_format_modifier_blob,
  DRM_MODE_FLAG_DBLSCAN,
  DRM_MODE_FLAG_INTERLACE,
  drm_mode_modeinfo,
  DRM_MODE_TYPE_PREFERRED,
  DRM_PLANE_TYPE_CURSOR,
  DRM_PLANE_TYPE_OVERLAY,
  DRM_PLANE_TYPE_PRIMARY,
} from '../../../../protocols/drm-mode.ts';
import { FormatSet } from '../../../../src/core/framebuffer.ts';

function mode(width: number, height: number, refreshMhz: number, isPreferred = false): Mode {
  return { width, height, refreshMhz, isPreferred, info: new Uint8Array(0) };
}

describe('modes', () => {
  const fullHd = { clock: 148_500, hdisplay: 1920, htotal: 2200, vdisplay: 1080, vtotal: 1125 };

  test.each([
    ['from the pixel clock and the totals', fullHd, 60_000],
    ['of 59.94 Hz for a pixel clock divided by 1.001', { ...fullHd, clock: 148_352 }, 59_940],
    ['doubled when it is interlaced', { ...fullHd, clock: 74_250, flags: DRM_MODE_FLAG_INTERLACE }, 60_000],
    ['halved when it scans lines twice', { ...fullHd, flags: DRM_MODE_FLAG_DBLSCAN }, 30_000],
    ['divided by three when vscan is 3', { ...fullHd, vscan: 3 }, 20_000],
  ])('readMode: a mode has a refresh rate %s', (_, info, refreshMhz) => {
    expect(readMode(drm_mode_modeinfo.encode(info)).refreshMhz).toBe(refreshMhz);
  });

  test('readMode: a mode is preferred if its type says so', () => {
    const flags = [0, DRM_MODE_TYPE_PREFERRED].map(
      (type) => readMode(drm_mode_modeinfo.encode({ ...fullHd, type })).isPreferred,
    );
    expect(flags).toEqual([false, true]);
  });

  const small = mode(1024, 768, 60_000, true);
  const large60 = mode(1920, 1080, 60_000);
  const large75 = mode(1920, 1080, 75_000);
  const large5994 = mode(1920, 1080, 59_940);
  const all = [large60, large5994, small, large75];

  test.each([
    [
      'without a wish puts the preferred mode first, then the largest and fastest',
      null,
      [small, large75, large60, large5994],
    ],
    ['for a size puts the fastest mode first', { width: 1920, height: 1080 }, [large75, large60, large5994]],
    [
      'for a size and refresh rate puts the nearest mode first',
      { width: 1920, height: 1080, refreshMhz: 60_000 },
      [large60, large5994],
    ],
    ['finds none if no mode is near', { width: 1920, height: 1080, refreshMhz: 50_000 }, []],
  ])('rankModes: %s', (_, wanted, expected) => {
    expect(rankModes(all, wanted)).toEqual(expected);
  });
});

describe('planeFormats', () => {
  const tiled = 0x0100_0000_0000_0001n as Modifier;

  test('without an IN_FORMATS blob are linear, or without a modifier', () => {
    const formats = planeFormats([DRM_FORMAT.XRGB8888], null);
    expect([...formats.modifiers(DRM_FORMAT.XRGB8888)]).toEqual([DRM_FORMAT_MOD_LINEAR, DRM_FORMAT_MOD_INVALID]);
  });

  test('come from the IN_FORMATS blob, whose masks count from their offset', () => {
    // 70 formats, so that a second mask is needed; XRGB8888 is the last.
    const listed = Array.from({ length: 70 }, (_, i) =>
      i === 69 ? DRM_FORMAT.XRGB8888 : i === 0 ? DRM_FORMAT.RGB565 : 0x1000 + i,
    );
    const entries = [
      { formats: 1n, offset: 0, pad: 0, modifier: DRM_FORMAT_MOD_LINEAR },
      { formats: 1n << 5n, offset: 64, pad: 0, modifier: tiled },
    ];
    const modifiersOffset = drm_format_modifier_blob.size + listed.length * 4;
    const blob = new Uint8Array(modifiersOffset + entries.length * drm_format_modifier.size);
    const view = new DataView(blob.buffer);
    drm_format_modifier_blob.set(view, 0, {
      version: 1,
      flags: 0,
      count_formats: 70,
      formats_offset: drm_format_modifier_blob.size,
      count_modifiers: 2,
      modifiers_offset: modifiersOffset,
    });
    listed.forEach((format, i) => view.setUint32(drm_format_modifier_blob.size + i * 4, format, true));
    entries.forEach((entry, i) => drm_format_modifier.set(view, modifiersOffset + i * drm_format_modifier.size, entry));

    const formats = planeFormats(listed, blob);
    expect([...formats.modifiers(DRM_FORMAT.XRGB8888)]).toEqual([tiled, DRM_FORMAT_MOD_INVALID]);
    expect([...formats.modifiers(DRM_FORMAT.RGB565)]).toEqual([DRM_FORMAT_MOD_LINEAR, DRM_FORMAT_MOD_INVALID]);
  });
});

test('readSizeHints: come from the blob, in its order; without one there are none', () => {
  expect(readSizeHints(new Uint8Array([64, 0, 64, 0, 0, 1, 128, 0]))).toEqual([
    { width: 64, height: 64 },
    { width: 256, height: 128 },
  ]);
  expect(readSizeHints(null)).toEqual([]);
});

function properties(values: Readonly<Record<string, number>>): Properties {
  return {
    id: (name: string) => (name in values ? 1 : 0),
    value: (name: string) => values[name] ?? 0,
  } as unknown as Properties;
}

const crtcs = [10, 11].map((id, index) => ({ id, mask: 1 << index, properties: properties({}) }) as unknown as Crtc);

function connector(name: string, possibleCrtcs: number, crtc = 0): Connector {
  return { name, possibleCrtcs, properties: properties({ CRTC_ID: crtc }) } as unknown as Connector;
}

function plane(id: number, type: number, possibleCrtcs: number, values: Readonly<Record<string, number>> = {}): Plane {
  return { id, type, possibleCrtcs, formats: new FormatSet(), properties: properties(values) } as unknown as Plane;
}

const primaries = [plane(1, DRM_PLANE_TYPE_PRIMARY, 1), plane(2, DRM_PLANE_TYPE_PRIMARY, 2)];

function assigned(
  connectors: readonly Connector[],
  planes: readonly Plane[] = primaries,
): (string | number | undefined)[][] {
  return assignPipes({ crtcs, connectors, writebacks: [], planes }, connectors).map((pipe) => [
    pipe.connector.name,
    pipe.crtc.id,
    pipe.primary.id,
    pipe.cursor?.id,
    pipe.overlay?.id,
  ]);
}

describe('assignPipes: a connector', () => {
  test('keeps the CRTC that drives it already', () => {
    expect(assigned([connector('A', 3, 11), connector('B', 3, 10)])).toEqual([
      ['A', 11, 2, undefined, undefined],
      ['B', 10, 1, undefined, undefined],
    ]);
  });

  test('gets another CRTC if a later connector has no choice', () => {
    expect(assigned([connector('A', 3), connector('B', 1)])).toEqual([
      ['A', 11, 2, undefined, undefined],
      ['B', 10, 1, undefined, undefined],
    ]);
  });

  test('is left out if there are too few CRTCs', () => {
    expect(assigned([connector('A', 1), connector('B', 1)]).map(([name]) => name)).toEqual(['A']);
  });

  test('gets a CRTC and planes that no other pipe has taken', () => {
    const [taken] = assignPipes(
      { crtcs, connectors: [], writebacks: [], planes: [...primaries, plane(3, DRM_PLANE_TYPE_CURSOR, 3)] },
      [connector('A', 3)],
    );
    const resources = {
      crtcs,
      connectors: [],
      writebacks: [],
      planes: [...primaries, plane(3, DRM_PLANE_TYPE_CURSOR, 3), plane(4, DRM_PLANE_TYPE_CURSOR, 3)],
    };
    const given = assignPipes(resources, [connector('B', 3), connector('C', 3)], [taken!]);
    expect([taken!.crtc.id, taken!.cursor?.id]).toEqual([10, 3]);
    expect(given.map((pipe) => [pipe.connector.name, pipe.crtc.id, pipe.primary.id, pipe.cursor?.id])).toEqual([
      ['B', 11, 2, 4],
    ]);
  });

  test('keeps the planes on its CRTC, and gets an overlay only if that is above the primary plane', () => {
    const planes = [
      plane(1, DRM_PLANE_TYPE_PRIMARY, 1, { zpos: 1 }),
      plane(2, DRM_PLANE_TYPE_CURSOR, 3),
      plane(3, DRM_PLANE_TYPE_CURSOR, 3, { CRTC_ID: 10 }),
      plane(4, DRM_PLANE_TYPE_OVERLAY, 3, { zpos: 0 }),
      plane(5, DRM_PLANE_TYPE_OVERLAY, 3, { zpos: 2 }),
    ];
    expect(assigned([connector('A', 1)], planes)).toEqual([['A', 10, 1, 3, 5]]);
  });
});

describe('sameConnector', () => {
  const plugged = {
    isConnected: true,
    edid: Uint8Array.of(1, 2),
    modes: [{ info: Uint8Array.of(3, 4) }],
  } as unknown as Connector;

  test.each([
    ['is true if nothing changed', {}, true],
    ['is false after it was unplugged', { isConnected: false }, false],
    ['is false for another EDID', { edid: Uint8Array.of(1, 3) }, false],
    ['is false for another mode', { modes: [{ info: Uint8Array.of(3, 5) }] }, false],
    ['is false for one more mode', { modes: [{ info: Uint8Array.of(3, 4) }, { info: Uint8Array.of() }] }, false],
  ])('%s', (_, change, isSame) => {
    expect(sameConnector(plugged, { ...plugged, ...change } as Connector)).toBe(isSame);
  });
});
