import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { DRM_FORMAT, DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR, modifierCode } from '../../protocols/drm-fourcc.ts';
import { GemHandles } from '../../display/kms/gem-handles.ts';
import { withCpuAccess } from '../../src/sys/dma-buf.ts';
import { DMA_BUF_SYNC_READ } from '../../protocols/dma-buf.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import {
  GBM_BO_USE_LINEAR,
  GBM_BO_USE_RENDERING,
  GBM_BO_USE_SCANOUT,
  GBM_BO_USE_WRITE,
  GbmDevice,
  GbmError,
  type GbmBuffer,
  type GbmImportOptions,
} from '../../src/sys/lib/gbm.ts';
import { type GbmLibrary, loadGbm } from '../../src/sys/lib/gbm-library.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { openUdmabuf, ScatteredPicture } from '../rig/scattered-picture.ts';
import { skipWithoutVkms, vkmsCard } from './kms-rig.ts';
import { expectNothingLeft } from './machine.ts';

const ROOT = join(import.meta.dirname, '../..');
const isSkipped = skipWithoutVkms();
const card = vkmsCard() ?? '';
/** vkms has none. */
const X_TILED = modifierCode('INTEL', 1n);
const plain = { width: 64, height: 48, format: DRM_FORMAT.XRGB8888, usage: GBM_BO_USE_RENDERING | GBM_BO_USE_LINEAR };
const whole = { x: 0, y: 0, width: 64, height: 48 };

/** The card and libgbm's device of it. */
class Opened implements Disposable {
  readonly fd = OwnedFd.adopt(openSync(card, 'r+'));
  readonly device: GbmDevice;

  constructor(library?: GbmLibrary) {
    const device = GbmDevice.open(this.fd, library);
    if (device instanceof GbmError) throw device;
    this.device = device;
  }

  /** The kernel gives out the lowest number that is free: the same as before if no handle was left open. */
  get nextHandle(): number {
    const handles = new GemHandles(this.fd);
    const { handle } = handles.createDumb(16, 16, 32);
    handles.release(handle);
    return handle;
  }

  [Symbol.dispose](): void {
    this.device[Symbol.dispose]();
    this.fd[Symbol.dispose]();
  }
}

function code(expected: string): Error {
  return expect.objectContaining({ name: 'GbmError', code: expected }) as Error;
}

/** Fills a rectangle with one 32-bit value. */
function paint(buffer: GbmBuffer, rect: typeof whole, value: number): void {
  using mapping = buffer.map(rect, 'write');
  for (let y = 0; y < rect.height; y++)
    for (let x = 0; x < rect.width; x++) mapping.view.setUint32(y * mapping.stride + x * 4, value, true);
}

/** The pixels as the kernel has them, read without libgbm. */
function pixelsOf(buffer: GbmBuffer): number[] {
  using dmabuf = buffer.exportPlane(0);
  const { offset, stride } = buffer.planes[0]!;
  using mapping = Mapping.file(dmabuf, 0, offset + stride * buffer.height, 'read');
  return withCpuAccess(dmabuf, DMA_BUF_SYNC_READ, () =>
    Array.from({ length: buffer.width * buffer.height }, (_, i) =>
      mapping.view.getUint32(offset + Math.floor(i / buffer.width) * stride + (i % buffer.width) * 4, true),
    ),
  );
}

describe.skipIf(isSkipped)('GbmBuffer', () => {
  expectNothingLeft();

  test('is as large as asked for, whatever the format', () => {
    using opened = new Opened();
    for (const [format, bytesPerPixel] of [
      [DRM_FORMAT.XRGB8888, 4],
      [DRM_FORMAT.ARGB8888, 4],
      [DRM_FORMAT.RGB565, 2],
    ] as const) {
      using buffer = opened.device.createBuffer({ ...plain, format });
      expect(buffer).toMatchObject({ width: 64, height: 48, format });
      expect(buffer.planes).toEqual([
        { offset: 0, stride: expect.toSatisfy((stride: number) => stride >= 64 * bytesPerPixel) as number },
      ]);
      expect(buffer.gemHandle(0)).toBeGreaterThan(0);
    }
  });

  test('has in its dma-buf what was written through a mapping, and leaves the rest unchanged', () => {
    using opened = new Opened();
    using buffer = opened.device.createBuffer(plain);
    paint(buffer, whole, 0x111111);
    paint(buffer, { x: 3, y: 5, width: 7, height: 4 }, 0xabcdef);
    const expected = Array.from({ length: 64 * 48 }, (_, i) => {
      const [x, y] = [i % 64, Math.floor(i / 64)];
      return x >= 3 && x < 10 && y >= 5 && y < 9 ? 0xabcdef : 0x111111;
    });
    expect(pixelsOf(buffer)).toEqual(expected);
    using read = buffer.map({ x: 9, y: 8, width: 2, height: 1 }, 'read');
    expect([read.bytes.length, read.view.getUint32(0, true), read.view.getUint32(4, true)]).toEqual([
      8, 0xabcdef, 0x111111,
    ]);
  });

  test('made for the CPU to write can be mapped twice at a time', () => {
    using opened = new Opened();
    using buffer = opened.device.createBuffer({ ...plain, usage: GBM_BO_USE_SCANOUT | GBM_BO_USE_WRITE });
    paint(buffer, whole, 0x222222);
    using first = buffer.map(whole, 'read-write');
    using second = buffer.map({ x: 1, y: 0, width: 1, height: 1 }, 'read');
    first.view.setUint32(4, 0x333333, true);
    expect(second.view.getUint32(0, true)).toBe(0x333333);
  });

  test('keeps its device alive, and a mapping keeps its buffer, so that they may be disposed in any order', () => {
    using fd = OwnedFd.adopt(openSync(card, 'r+'));
    const device = GbmDevice.open(fd) as GbmDevice;
    fd[Symbol.dispose]();
    const buffer = device.createBuffer(plain);
    device[Symbol.dispose]();
    const mapping = buffer.map(whole, 'read-write');
    const { bytes } = mapping;
    buffer[Symbol.dispose]();
    bytes.fill(7);
    expect(bytes[1000]).toBe(7);
    mapping[Symbol.dispose]();
    expect(bytes).toHaveLength(0);
    for (const each of [mapping, buffer, device]) each[Symbol.dispose]();
  });

  test('throws after dispose, as its device does, but still has its size and format', () => {
    using opened = new Opened();
    const buffer = opened.device.createBuffer(plain);
    const mapping = buffer.map(whole, 'read');
    for (const each of [mapping, buffer, opened.device]) each[Symbol.dispose]();
    for (const use of [
      () => mapping.bytes,
      () => mapping.view,
      () => buffer.map(whole, 'read'),
      () => buffer.exportPlane(0),
      () => buffer.gemHandle(0),
      () => opened.device.backendName,
      () => opened.device.createBuffer(plain),
    ]) {
      expect(use).toThrow(/after dispose/);
    }
    expect(buffer).toMatchObject({ width: 64, height: 48, format: DRM_FORMAT.XRGB8888 });
  });

  test('leaves no GEM handle open', () => {
    using opened = new Opened();
    const before = opened.nextHandle;
    for (const usage of [plain.usage, GBM_BO_USE_SCANOUT | GBM_BO_USE_WRITE]) {
      using buffer = opened.device.createBuffer({ ...plain, usage });
      expect(buffer.gemHandle(0)).toBe(before);
      using mapping = buffer.map(whole, 'read');
      expect(opened.nextHandle).toBeGreaterThan(before);
      expect(mapping.stride).toBeGreaterThanOrEqual(256);
    }
    expect(opened.nextHandle).toBe(before);
  });
});

describe.skipIf(isSkipped)('GbmDevice: modifiers', () => {
  expectNothingLeft();
  const loaded = loadGbm() as GbmLibrary;
  const libraries: [string, GbmLibrary][] = [
    ['the installed libgbm', loaded],
    ['a libgbm of 2020', { ...loaded, createWithModifiers2: null, fdForPlane: null, modifierPlaneCount: null }],
  ];

  test.each(isSkipped ? [] : libraries)('of %s make a buffer with one of them, or with none', (_, library) => {
    using opened = new Opened(library);
    const options = { ...plain, usage: GBM_BO_USE_SCANOUT };
    for (const modifiers of [[DRM_FORMAT_MOD_LINEAR], [DRM_FORMAT_MOD_INVALID], [X_TILED, DRM_FORMAT_MOD_LINEAR]]) {
      using buffer = opened.device.createBuffer({ ...options, modifiers });
      // llvmpipe names none, and has no other than LINEAR.
      expect([DRM_FORMAT_MOD_LINEAR, DRM_FORMAT_MOD_INVALID]).toContain(buffer.modifier);
      paint(buffer, whole, 0x444444);
      expect(pixelsOf(buffer)).toEqual(Array.from({ length: 64 * 48 }, () => 0x444444));
    }
    expect(() => opened.device.createBuffer({ ...options, modifiers: [X_TILED] })).toThrow(code('buffer-refused'));
  });

  test('report their number of planes if the library does', () => {
    using opened = new Opened();
    using old = new Opened(libraries[1]![1]);
    const counts = [opened, old].map(({ device }) => device.planeCount(DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR));
    expect(counts).toEqual([1, null]);
    expect(
      [DRM_FORMAT.XRGB8888, DRM_FORMAT.NV12].map((format) => opened.device.supports(format, GBM_BO_USE_SCANOUT)),
    ).toEqual([true, false]);
  });
});

describe.skipIf(isSkipped)('GbmDevice: an import', () => {
  expectNothingLeft();

  function describePlane(buffer: GbmBuffer, fd: OwnedFd): GbmImportOptions {
    const { width, height, format } = buffer;
    return { width, height, format, modifier: DRM_FORMAT_MOD_LINEAR, planes: [{ fd, ...buffer.planes[0]! }] };
  }

  test("of another device's buffer shares its memory, and outlives it", () => {
    using theirs = new Opened();
    using own = new Opened();
    const original = theirs.device.createBuffer(plain);
    paint(original, whole, 0x555555);
    const dmabuf = original.exportPlane(0);
    using buffer = own.device.import(describePlane(original, dmabuf), 0);
    for (const each of [dmabuf, original]) each[Symbol.dispose]();
    expect(buffer).toMatchObject({ width: 64, height: 48, format: DRM_FORMAT.XRGB8888, planes: original.planes });
    using mapping = buffer.map({ x: 5, y: 6, width: 1, height: 1 }, 'read');
    expect(mapping.view.getUint32(0, true)).toBe(0x555555);
  });

  test('of guest pages succeeds, although the card cannot map them', () => {
    using opened = new Opened();
    using udmabuf = openUdmabuf();
    using picture = new ScatteredPicture(udmabuf, 64, 48).fillNoise(1);
    const { width, height, format, modifier, planes, backing } = picture.framebuffer;
    if (backing.kind !== 'dmabuf') throw new Error('not a dma-buf');
    const options = { width, height, format, modifier, planes: [{ fd: backing.dmabuf, ...planes[0]! }] };
    const before = opened.nextHandle;
    opened.device.import(options, GBM_BO_USE_SCANOUT)[Symbol.dispose]();
    expect(opened.nextHandle).toBe(before);
    using buffer = opened.device.import(options, GBM_BO_USE_SCANOUT);
    expect(buffer).toMatchObject({ width, height, format, planes });
    expect(() => buffer.map(whole, 'read')).toThrow(code('map-refused'));
  });

  test('of a file that is not a dma-buf, or beyond its end, is refused', () => {
    using opened = new Opened();
    using buffer = opened.device.createBuffer(plain);
    using dmabuf = buffer.exportPlane(0);
    const options = describePlane(buffer, dmabuf);
    expect(() => opened.device.import({ ...options, planes: [{ fd: opened.fd, offset: 0, stride: 256 }] }, 0)).toThrow(
      code('import-refused'),
    );
    expect(() => opened.device.import({ ...options, height: 4800 }, 0)).toThrow(code('import-refused'));
    expect(() => opened.device.import({ ...options, planes: [] }, 0)).toThrow(RangeError);
  });
});

describe.skipIf(isSkipped)('GbmDevice: wrong use', () => {
  expectNothingLeft();

  test('with impossible arguments throws a RangeError', () => {
    using opened = new Opened();
    using buffer = opened.device.createBuffer(plain);
    const wrong = {
      'no pixels': () => opened.device.createBuffer({ ...plain, width: 0 }),
      'half a pixel': () => opened.device.createBuffer({ ...plain, height: 1.5 }),
      'a plane too many': () => buffer.exportPlane(1),
      'a plane before the first': () => buffer.gemHandle(-1),
      'a rectangle that leaves the buffer': () => buffer.map({ x: 1, y: 0, width: 64, height: 48 }, 'read'),
      'a rectangle of nothing': () => buffer.map({ x: 1, y: 0, width: 0, height: 1 }, 'read'),
    };
    for (const [name, use] of Object.entries(wrong)) expect(use, name).toThrow(RangeError);
  });

  test('beyond what the driver can do throws a GbmError', () => {
    using opened = new Opened();
    expect(() => opened.device.createBuffer({ ...plain, format: DRM_FORMAT.NV12 })).toThrow(code('buffer-refused'));
    using written = opened.device.createBuffer({ ...plain, usage: GBM_BO_USE_SCANOUT | GBM_BO_USE_WRITE });
    expect(() => written.exportPlane(0)).toThrow(code('export-refused'));
  });

  test('opening a file that is not a device, or without libgbm, returns the reason', () => {
    // Mesa tries its luck with any device; a file is none.
    using file = OwnedFd.adopt(openSync('/etc/passwd', 'r'));
    expect(GbmDevice.open(file)).toEqual(code('device-refused'));
    expect(GbmDevice.open(file, new Error('not found'))).toEqual(code('library-missing'));
  });
});

test.skipIf(isSkipped)('GbmDevice: the example in the documentation runs', { timeout: 180_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'gbm-'));
  try {
    const source = readFileSync(join(ROOT, 'src/sys/lib/gbm.ts'), 'utf8');
    const example = [...source.matchAll(/^ \* {5}(.*)$/gm)].map(([, line]) => line!).join('\n');
    const program = example
      .replace('scanout-bridge/drm-fourcc', join(ROOT, 'dist/protocols/drm-fourcc.js'))
      .replace('scanout-bridge/gbm', join(ROOT, 'dist/src/sys/lib/gbm.js'));
    writeFileSync(join(directory, 'example.mts'), program);
    const printed = execFileSync(process.execPath, ['--import', import.meta.resolve('tsx'), 'example.mts', card], {
      cwd: directory,
      encoding: 'utf8',
    });
    expect(printed).toMatch(/^XRGB8888 \[ \{ offset: 0, stride: \d+ \} \]\n$/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
