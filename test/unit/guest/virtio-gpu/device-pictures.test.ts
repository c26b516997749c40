import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { DRM_FORMAT, formatName } from '../../../../protocols/drm-fourcc.ts';
import { VIRTIO_GPU_FORMAT, VIRTIO_GPU_RESP } from '../../../../protocols/virtio-gpu.ts';
import type { PagesBacking } from '../../../../src/core/framebuffer.ts';
import { ScatteredMemory } from '../../../../src/sys/copy-rect.ts';
import { bytesOf } from '../../../rig/bytes-of.ts';
import * as request from './requests.ts';
import { GpuRig, HEAP, PAGE, RAM, RAM_SIZE, openThings, pixelsOf } from './rig.ts';

const OK = VIRTIO_GPU_RESP.OK_NODATA;
/** 64x64 pixels are four pages. */
const SIDE = 64;
const BYTES = SIDE * SIDE * 4;

function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed) & 0xff);
}

/** Writes `bytes` into a guest's backing, entry after entry. */
function draw(rig: GpuRig, entries: readonly request.Entry[], bytes: Uint8Array): void {
  let done = 0;
  for (const { addr, length } of entries) {
    rig.at(addr, length).set(bytes.subarray(done, done + length));
    done += length;
  }
}

function run(rig: GpuRig, ...requests: Uint8Array[]): void {
  for (const bytes of requests) expect(rig.type(bytes)).toBe(OK);
}

/** A 64x64 resource 1 with these entries. */
function resource(rig: GpuRig, entries: readonly request.Entry[]): void {
  run(rig, request.create2d(1, SIDE, SIDE), request.attach(1, entries));
}

function shownPixels(rig: GpuRig, scanout = 0): Uint8Array {
  return pixelsOf(rig.sink.shown.get(scanout)!);
}

const whole = [0, 0, SIDE, SIDE] as const;

describe('VirtioGpu: a 2D resource in guest pages', () => {
  it('shows scattered pages as one picture without a copy', () => {
    using rig = new GpuRig();
    const entries = request.scattered(4);
    const picture = pattern(BYTES);
    draw(rig, entries, picture);
    resource(rig, entries);
    run(rig, request.setScanout(0, 1, ...whole), request.transfer(1, ...whole, 0));
    rig.send(request.flush(1, ...whole));
    expect(rig.sink.takeCalls()).toEqual(['scanout 0 64x64 64x64+0+0', 'flush 0 64x64+0+0']);
    expect(shownPixels(rig)).toEqual(picture);
    expect((rig.sink.shown.get(0)!.backing as PagesBacking).ranges.count).toBe(4);
    expect(rig.gpu.stats.storeBytes).toBe(0);
  });

  it('merges neighbouring entries, and leaves out what lies beyond the picture', () => {
    using rig = new GpuRig();
    resource(
      rig,
      Array.from({ length: 8 }, (_, i) => ({ addr: HEAP + i * PAGE, length: PAGE })),
    );
    run(rig, request.setScanout(0, 1, ...whole));
    const { ranges } = rig.sink.shown.get(0)!.backing as PagesBacking;
    expect(Array.from(ranges, ({ length }) => length)).toEqual([BYTES]);
  });

  it.each(Object.entries(VIRTIO_GPU_FORMAT))('describes %s', (name, format) => {
    using rig = new GpuRig();
    run(
      rig,
      request.create2d(1, 32, 32, format),
      request.attach(1, request.contiguous(PAGE)),
      request.setScanout(0, 1, 0, 0, 32, 32),
    );
    // virtio names bytes from the lowest address on, DRM components from the highest bit on.
    const components = name.replace('_UNORM', '').match(/[A-Z]/g)!.reverse().join('');
    expect(formatName(rig.sink.shown.get(0)!.format)).toBe(`${components}8888`);
    expect(rig.sink.shown.get(0)).toMatchObject({ width: 32, height: 32, planes: [{ offset: 0, stride: 128 }] });
  });

  it('has the same framebuffer as long as it exists', () => {
    using rig = new GpuRig();
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole));
    const first = rig.sink.shown.get(0);
    run(rig, request.setScanout(0, 0, 0, 0, 0, 0), request.setScanout(0, 1, ...whole));
    expect(rig.sink.shown.get(0)).toBe(first);
    run(rig, request.unref(1));
    expect(rig.sink.destroyedIds).toEqual([first!.id]);
  });

  it('damages the whole picture after a flip, then what was transferred and flushed', () => {
    using rig = new GpuRig();
    rig.sink.isDoneAtOnce = true;
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole), request.flush(1, 0, 0, 1, 1));
    run(rig, request.transfer(1, 8, 8, 4, 4, 8 * 256 + 32), request.flush(1, 30, 30, 2, 2));
    expect(rig.sink.takeCalls()).toEqual([
      'scanout 0 64x64 64x64+0+0',
      'flush 0 64x64+0+0',
      'flush 0 4x4+8+8 2x2+30+30',
    ]);
  });

  it('flushes its part of every scanout that shows it', () => {
    using rig = new GpuRig({ scanouts: 3 });
    rig.sink.isDoneAtOnce = true;
    resource(rig, request.contiguous(BYTES));
    run(
      rig,
      request.setScanout(0, 1, 0, 0, 32, 64),
      request.setScanout(2, 1, 32, 0, 32, 64),
      request.flush(1, ...whole),
    );
    rig.sink.takeCalls();
    run(rig, request.flush(1, 30, 10, 4, 4));
    expect(rig.sink.takeCalls()).toEqual(['flush 0 2x4+30+10', 'flush 2 2x4+32+10']);
    run(rig, request.flush(1, 0, 0, 8, 8));
    expect(rig.sink.takeCalls()).toEqual(['flush 0 8x8+0+0']);
  });

  it('answers a flush at once while it is on no scanout', () => {
    using rig = new GpuRig();
    resource(rig, request.contiguous(BYTES));
    run(rig, request.flush(1, ...whole));
    expect(rig.sink.calls).toEqual([]);
  });

  it('is blank until it has a backing', () => {
    using rig = new GpuRig();
    run(rig, request.create2d(1, SIDE, SIDE), request.setScanout(0, 1, ...whole), request.flush(1, ...whole));
    run(rig, request.attach(1, request.contiguous(BYTES)));
    expect(rig.sink.takeCalls()).toEqual(['scanout 0 off', 'scanout 0 64x64 64x64+0+0']);
  });

  it('turns its scanout off when it is unreferenced', () => {
    using rig = new GpuRig();
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole));
    rig.sink.takeCalls();
    run(rig, request.unref(1));
    expect(rig.sink.takeCalls()).toEqual(['scanout 0 off', 'destroyed']);
    expect(rig.gpu.budget.used).toBe(0);
  });
});

describe('VirtioGpu: a store', () => {
  it('copies from unaligned pages when they are transferred', () => {
    using rig = new GpuRig();
    const entries = [
      { addr: HEAP + 100, length: 5000 },
      { addr: HEAP + 100_000, length: BYTES - 5000 },
    ];
    const picture = pattern(BYTES);
    draw(rig, entries, picture);
    resource(rig, entries);
    expect(rig.gpu.stats.storeBytes).toBe(BYTES);
    run(rig, request.setScanout(0, 1, ...whole), request.transfer(1, 0, 0, SIDE, 32, 0));
    expect(shownPixels(rig)).toEqual(new Uint8Array([...picture.subarray(0, BYTES / 2), ...new Uint8Array(BYTES / 2)]));
    draw(rig, entries, pattern(BYTES, 99));
    expect(shownPixels(rig).subarray(0, BYTES / 2)).toEqual(picture.subarray(0, BYTES / 2));
  });

  it('replaces the guest pages when a transfer comes from another offset', () => {
    using rig = new GpuRig();
    rig.sink.isDoneAtOnce = true;
    const picture = pattern(2 * BYTES);
    rig.at(HEAP, 2 * BYTES).set(picture);
    resource(rig, request.contiguous(2 * BYTES));
    run(rig, request.setScanout(0, 1, ...whole), request.transfer(1, ...whole, 0), request.flush(1, ...whole));
    const before = rig.sink.shown.get(0)!;
    rig.sink.takeCalls();
    run(rig, request.transfer(1, 0, 16, SIDE, 16, BYTES));
    expect(rig.sink.takeCalls()).toEqual(['scanout 0 64x64 64x64+0+0', 'flush 0 64x64+0+0 (no answer)', 'destroyed']);
    expect(rig.sink.destroyedIds).toEqual([before.id]);
    const expected = picture.slice(0, BYTES);
    expected.set(picture.subarray(BYTES, BYTES + 16 * 256), 16 * 256);
    expect(shownPixels(rig)).toEqual(expected);
  });

  it('does not take a staging area for the picture', () => {
    using rig = new GpuRig();
    rig.at(HEAP, BYTES).set(pattern(BYTES));
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole), request.transfer(1, 0, 32, SIDE, 8, 0));
    const expected = new Uint8Array(BYTES);
    expected.set(pattern(BYTES).subarray(0, 8 * 256), 32 * 256);
    expect(shownPixels(rig)).toEqual(expected);
  });

  it('takes from a backing that is too short what there is', () => {
    using rig = new GpuRig();
    const picture = pattern(BYTES);
    rig.at(HEAP, BYTES).set(picture);
    resource(rig, request.contiguous(BYTES / 2 + 100));
    run(rig, request.setScanout(0, 1, ...whole), request.transfer(1, ...whole, 0));
    expect(shownPixels(rig)).toEqual(
      new Uint8Array([...picture.subarray(0, BYTES / 2 + 100), ...new Uint8Array(BYTES / 2 - 100)]),
    );
  });

  it.each([4, 2 * BYTES, 2 ** 32, 2 ** 63, 2 ** 64 - 2 ** 12])(
    'ignores what a transfer from %d wants beyond its backing',
    (offset) => {
      using rig = new GpuRig();
      resource(rig, request.contiguous(BYTES));
      run(rig, request.transfer(1, ...whole, 0), request.transfer(1, ...whole, offset));
      expect(rig.gpu.stats).toMatchObject({ transfers: 2, errors: 0 });
    },
  );

  it('keeps a shown picture whose backing is detached, whatever happens to the pages', () => {
    using rig = new GpuRig();
    const picture = pattern(BYTES);
    rig.at(HEAP, BYTES).set(picture);
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole), request.detach(1));
    rig.at(HEAP, BYTES).fill(0);
    expect(shownPixels(rig)).toEqual(picture);
    expect(rig.gpu.stats.storeBytes).toBe(BYTES);
    run(rig, request.attach(1, request.contiguous(BYTES)), request.transfer(1, 0, 0, SIDE, 1, 0));
    expect(shownPixels(rig)).toEqual(new Uint8Array([...new Uint8Array(256), ...picture.subarray(256)]));
  });

  it('keeps a transferred picture that is on no scanout yet', () => {
    using rig = new GpuRig();
    const picture = pattern(BYTES);
    rig.at(HEAP, BYTES).set(picture);
    resource(rig, request.contiguous(BYTES));
    run(rig, request.transfer(1, ...whole, 0), request.detach(1));
    rig.at(HEAP, BYTES).fill(0);
    run(rig, request.setScanout(0, 1, ...whole));
    expect(shownPixels(rig)).toEqual(picture);
  });

  it('is not made for a resource that was never shown or transferred', () => {
    using rig = new GpuRig();
    resource(rig, request.contiguous(BYTES));
    run(rig, request.detach(1));
    expect(rig.gpu.stats.storeBytes).toBe(0);
    run(rig, request.create2d(2, SIDE, SIDE), request.attach(2, request.contiguous(BYTES, HEAP + 12)));
    expect(rig.gpu.stats.storeBytes).toBe(BYTES);
    run(rig, request.detach(2));
    expect(rig.gpu.stats.storeBytes).toBe(0);
  });

  it('does not lose the answer to a flush that waits for the old framebuffer', () => {
    using rig = new GpuRig();
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole));
    const token = rig.send(request.flush(1, ...whole));
    run(rig, request.detach(1));
    expect(rig.answer(token)).toBeUndefined();
    rig.sink.flushes[0]!.done();
    expect(rig.answer(token)?.written).toBe(24);
  });
});

describe('VirtioGpu: scattered pictures', () => {
  /** Another picture for each id; all of them lie in the same pages. */
  const PAGES = 4000;
  const add = (rig: GpuRig, id: number, entries = request.scattered(PAGES)) =>
    run(
      rig,
      request.create2d(id, 1000, 4096),
      request.attach(id, entries),
      request.setScanout(0, id, 0, 0, 1000, 4096),
    );
  const shown = (rig: GpuRig): PagesBacking => rig.sink.shown.get(0)!.backing as PagesBacking;

  it('stay in the pages of their guest, however many they are, while its budget allows', () => {
    using rig = new GpuRig({ maxGuestMemory: 8 * 2 ** 20 });
    const { budget } = rig.gpu;
    for (let id = 1; id <= 20; id++) add(rig, id);
    expect(rig.gpu.stats.storeBytes).toBe(0);
    expect(openThings().mappings).toBe(0);
    const oneOfThem = budget.used / 20;
    expect(oneOfThem).toBeGreaterThanOrEqual(36 * PAGES);
    let refused = 0;
    for (let id = 21; id <= 100; id++) {
      run(rig, request.create2d(id, 1000, 4096));
      if (rig.type(request.attach(id, request.scattered(PAGES))) !== OK) refused++;
    }
    expect(refused).toBeGreaterThan(0);
    expect(budget.used).toBeLessThanOrEqual(budget.limit);
  });

  it('are mapped side by side once they are read again, in time for later copies', async () => {
    using rig = new GpuRig();
    const entries = request.scattered(PAGES);
    const picture = pattern(PAGES * PAGE);
    draw(rig, entries, picture);
    add(rig, 1);
    const backing = shown(rig);
    expect(Buffer.compare(bytesOf(backing.pixels()), picture)).toBe(0);
    await turn();
    expect(openThings().mappings).toBe(0);
    while (backing.pixels() instanceof ScatteredMemory) {
      expect(Buffer.compare(bytesOf(backing.pixels()), picture)).toBe(0);
      await turn();
    }
    expect(openThings().mappings).toBe(PAGES);
    expect(Buffer.compare(bytesOf(backing.pixels()), picture)).toBe(0);
    run(rig, request.unref(1));
    expect(openThings().mappings).toBe(0);
    expect(() => backing.pixels()).toThrow('gone');
  });

  it('are not mapped side by side beyond a number of mappings for each guest', async () => {
    using rig = new GpuRig();
    const backings = Array.from({ length: 6 }, (_, i) => {
      add(rig, i + 1);
      return shown(rig);
    });
    for (let round = 0; round < 100; round++) {
      for (const backing of backings) backing.pixels();
      await turn();
    }
    expect(openThings().mappings).toBe(4 * PAGES);
    expect(backings.map((backing) => backing.pixels() instanceof ScatteredMemory)).toEqual([
      ...Array<boolean>(4).fill(false),
      ...Array<boolean>(2).fill(true),
    ]);
  });

  it('whose view is not finished go with their memory table', async () => {
    using rig = new GpuRig();
    const before = { ...openThings() };
    const entries = request.scattered(PAGES);
    add(rig, 1);
    const old = shown(rig);
    old.pixels();
    old.pixels();
    rig.changeMemory(rig.mapMemory());
    expect(() => old.pixels()).toThrow('gone');
    draw(rig, entries, pattern(PAGES * PAGE, 3));
    expect(Buffer.compare(bytesOf(shown(rig).pixels()), pattern(PAGES * PAGE, 3))).toBe(0);
    await turn();
    expect(openThings()).toEqual(before);
  });
});

describe('VirtioGpu: stores', () => {
  it('take a bounded number of descriptors, and those without one show the same pixels', () => {
    using rig = new GpuRig();
    const before = openThings().fds;
    rig.at(HEAP + 4, PAGE).fill(6);
    for (let id = 1; id <= 200; id++)
      run(
        rig,
        request.create2d(id, 32, 32),
        request.attach(id, request.contiguous(PAGE, HEAP + 4)),
        request.transfer(id, 0, 0, 32, 32, 0),
      );
    expect(openThings().fds - before).toBe(64);
    run(rig, request.setScanout(0, 200, 0, 0, 32, 32));
    expect(shownPixels(rig)).toEqual(new Uint8Array(PAGE).fill(6));
    expect((rig.sink.shown.get(0)!.backing as PagesBacking).ranges.count).toBe(0);
    for (let id = 1; id <= 100; id++) run(rig, request.unref(id));
    expect(openThings().fds).toBe(before);
    expect(rig.gpu.stats.storeBytes).toBe(100 * PAGE);
  });
});

describe('VirtioGpu: a guest blob', () => {
  it('shows the part that SET_SCANOUT_BLOB describes, at its offset and stride', () => {
    using rig = new GpuRig();
    const entries = request.scattered(8);
    const bytes = pattern(8 * PAGE);
    draw(rig, entries, bytes);
    run(
      rig,
      request.createBlob(1, 8 * PAGE, entries),
      request.setScanoutBlob(0, 1, { width: 32, height: 16, stride: 512, offset: 1024 }),
    );
    const rows = Array.from({ length: 16 }, (_, y) => bytes.subarray(1024 + y * 512, 1024 + y * 512 + 128));
    expect(shownPixels(rig)).toEqual(Uint8Array.from(rows.flatMap((row) => [...row])));
    expect((rig.sink.shown.get(0)!.backing as PagesBacking).isBlob).toBe(true);
  });

  it('has one framebuffer for each layout, and keeps only the last few', () => {
    using rig = new GpuRig();
    run(rig, request.createBlob(1, 64 * PAGE, request.contiguous(64 * PAGE)));
    const show = (offset: number) => {
      run(rig, request.setScanoutBlob(0, 1, { width: 32, height: 32, stride: 128, offset }));
      return rig.sink.shown.get(0)!.id;
    };
    const [a, b] = [show(0), show(PAGE)];
    expect([show(0), show(PAGE)]).toEqual([a, b]);
    for (let i = 2; i < 20; i++) show(i * PAGE);
    expect(rig.sink.destroyedIds).toHaveLength(16);
    expect(rig.sink.destroyedIds).toContain(a);
    expect(show(0)).not.toBe(a);
  });

  it('ignores transfers of any rectangle', () => {
    using rig = new GpuRig();
    run(rig, request.createBlob(1, PAGE, request.contiguous(PAGE)), request.transfer(1, 0, 0, 9999, 9999, 2 ** 40));
    expect(rig.gpu.stats.transfers).toBe(1);
  });

  it('clips a flush to its picture', () => {
    using rig = new GpuRig();
    rig.sink.isDoneAtOnce = true;
    run(
      rig,
      request.createBlob(1, PAGE, request.contiguous(PAGE)),
      request.setScanoutBlob(0, 1, { width: 32, height: 32, stride: 128, offset: 0 }),
    );
    run(rig, request.flush(1, 0, 0, 1, 1));
    rig.sink.takeCalls();
    run(rig, request.flush(1, 30, 31, 2 ** 32 - 1, 2 ** 32 - 1));
    expect(rig.sink.takeCalls()).toEqual(['flush 0 2x1+30+31']);
  });

  it('is copied at each flush if its pages are not aligned', () => {
    using rig = new GpuRig();
    rig.sink.isDoneAtOnce = true;
    rig.sink.readsPixels = true;
    run(
      rig,
      request.createBlob(1, PAGE, request.contiguous(PAGE, HEAP + 8)),
      request.setScanoutBlob(0, 1, { width: 32, height: 32, stride: 128, offset: 0 }),
    );
    for (const value of [1, 2]) {
      rig.at(HEAP + 8, PAGE).fill(value);
      run(rig, request.flush(1, 0, 0, 32, 32));
    }
    expect(rig.sink.pictures).toEqual([new Uint8Array(PAGE).fill(1), new Uint8Array(PAGE).fill(2)]);
  });
});

describe('VirtioGpu: a cursor', () => {
  it('has its corner where the driver puts it, with a hotspot and negative positions', () => {
    using rig = new GpuRig();
    run(
      rig,
      request.create2d(5, SIDE, SIDE, VIRTIO_GPU_FORMAT.B8G8R8A8_UNORM),
      request.attach(5, request.contiguous(BYTES)),
      request.transfer(5, ...whole, 0),
    );
    rig.send(request.updateCursor(0, 5, 100, 50, 3, 4), 0, 1);
    rig.send(request.moveCursor(0, -10, 7), 0, 1);
    rig.send(request.updateCursor(0, 0, 1, 2), 0, 1);
    expect(rig.sink.takeCalls()).toEqual(['cursor 0 64x64 hot 3,4 at 100,50', 'cursor 0 moved -10,7', 'cursor 0 off']);
  });

  it('is hidden by a move without a resource, and shown again by one with any', () => {
    using rig = new GpuRig();
    run(rig, request.create2d(5, SIDE, SIDE), request.attach(5, request.contiguous(BYTES)));
    const cursor = (bytes: Uint8Array) => rig.send(bytes, 0, 1);
    cursor(request.updateCursor(0, 5, 100, 50, 3, 4));
    cursor(request.moveCursor(0, 0, 0, 0));
    cursor(request.moveCursor(0, 1, 1, 0));
    cursor(request.moveCursor(0, 30, 20, 5));
    cursor(request.updateCursor(0, 0, 7, 7));
    cursor(request.moveCursor(0, 40, 20, 77));
    expect(rig.sink.takeCalls()).toEqual([
      'cursor 0 64x64 hot 3,4 at 100,50',
      'cursor 0 off',
      'cursor 0 moved 1,1',
      'cursor 0 64x64 hot 3,4 at 30,20',
      'cursor 0 off',
      'cursor 0 64x64 hot 3,4 at 40,20',
    ]);
  });

  it('that is hidden keeps its image when its backing is detached, and not when it is unreferenced', () => {
    using rig = new GpuRig();
    rig.at(HEAP, BYTES).fill(9);
    run(rig, request.create2d(5, SIDE, SIDE), request.attach(5, request.contiguous(BYTES)));
    const cursor = (bytes: Uint8Array) => rig.send(bytes, 0, 1);
    cursor(request.updateCursor(0, 5, 0, 0));
    cursor(request.moveCursor(0, 0, 0, 0));
    run(rig, request.detach(5));
    rig.at(HEAP, BYTES).fill(0);
    cursor(request.moveCursor(0, 0, 0, 5));
    expect(pixelsOf(rig.sink.cursors.get(0)!)).toEqual(new Uint8Array(BYTES).fill(9));
    cursor(request.moveCursor(0, 0, 0, 0));
    run(rig, request.unref(5));
    rig.sink.takeCalls();
    cursor(request.moveCursor(0, 3, 4, 5));
    expect(rig.sink.takeCalls()).toEqual(['cursor 0 moved 3,4']);
  });

  it('in a blob is 64x64 with alpha', () => {
    using rig = new GpuRig();
    run(rig, request.createBlob(5, BYTES, request.contiguous(BYTES)));
    rig.send(request.updateCursor(0, 5, 0, 0), 0, 1);
    expect(rig.sink.cursors.get(0)).toMatchObject({
      width: 64,
      height: 64,
      format: DRM_FORMAT.ARGB8888,
      planes: [{ offset: 0, stride: 256 }],
    });
  });

  it('in a format without alpha has alpha, as Linux means it', () => {
    using rig = new GpuRig();
    run(
      rig,
      request.create2d(5, SIDE, SIDE, VIRTIO_GPU_FORMAT.B8G8R8X8_UNORM),
      request.attach(5, request.contiguous(BYTES)),
    );
    rig.send(request.updateCursor(0, 5, 0, 0), 0, 1);
    expect(rig.sink.cursors.get(0)).toMatchObject({ format: DRM_FORMAT.ARGB8888 });
  });

  it('hides when its resource is unreferenced', () => {
    using rig = new GpuRig();
    resource(rig, request.contiguous(BYTES));
    rig.send(request.updateCursor(0, 1, 0, 0), 0, 1);
    rig.sink.takeCalls();
    run(rig, request.unref(1));
    expect(rig.sink.takeCalls()).toEqual(['cursor 0 off', 'destroyed']);
  });
});

describe('VirtioGpu', () => {
  it('reports what is on to a sink that connects late', () => {
    using rig = new GpuRig({}, false);
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, 8, 0, 56, 64), request.flush(1, ...whole));
    rig.send(request.updateCursor(0, 1, 5, 6), 0, 1);
    rig.gpu.connect(rig.sink);
    expect(rig.sink.takeCalls()).toEqual([
      'scanout 0 64x64 56x64+8+0',
      'flush 0 56x64+8+0 (no answer)',
      'cursor 0 64x64 hot 0,0 at 5,6',
    ]);
  });

  it('finds guest pages again in a new memory table', () => {
    using rig = new GpuRig();
    const picture = pattern(BYTES);
    rig.at(HEAP, BYTES).set(picture);
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole));
    const old = rig.sink.shown.get(0)!;
    rig.sink.takeCalls();
    rig.changeMemory(rig.mapMemory());
    expect(rig.sink.takeCalls()).toEqual(['scanout 0 64x64 64x64+0+0', 'flush 0 64x64+0+0 (no answer)', 'destroyed']);
    expect(rig.sink.shown.get(0)!.id).not.toBe(old.id);
    expect(shownPixels(rig)).toEqual(picture);
  });

  it('reports a halt once, and shows nothing of a new memory table before the guest draws again', () => {
    using rig = new GpuRig();
    rig.sink.isDoneAtOnce = true;
    resource(rig, request.contiguous(BYTES));
    run(rig, request.setScanout(0, 1, ...whole), request.flush(1, ...whole));
    rig.sink.takeCalls();
    rig.gpu.halted();
    rig.gpu.halted();
    rig.changeMemory(rig.mapMemory());
    expect(rig.sink.takeCalls()).toEqual(['halted', 'scanout 0 64x64 64x64+0+0', 'destroyed']);
    run(rig, request.flush(1, 0, 0, 1, 1));
    expect(rig.sink.takeCalls()).toEqual(['flush 0 64x64+0+0']);
  });

  it('turns off what a new memory table does not have', () => {
    using rig = new GpuRig();
    const high = RAM + RAM_SIZE - BYTES;
    resource(rig, request.contiguous(BYTES, high));
    run(rig, request.setScanout(0, 1, ...whole));
    rig.sink.takeCalls();
    rig.changeMemory(rig.mapMemory(RAM_SIZE / 2));
    expect(rig.sink.takeCalls()).toEqual(['scanout 0 off', 'destroyed']);
    expect(rig.type(request.transfer(1, ...whole, 0))).toBe(VIRTIO_GPU_RESP.ERR_INVALID_RESOURCE_ID);
    run(rig, request.attach(1, request.contiguous(BYTES)));
    expect(rig.sink.takeCalls()).toEqual(['scanout 0 64x64 64x64+0+0']);
  });

  it('keeps a saved picture through a memory table without its pages', () => {
    using rig = new GpuRig();
    const high = RAM + RAM_SIZE - BYTES;
    rig.at(high, BYTES).fill(7);
    resource(rig, request.contiguous(BYTES, high));
    run(rig, request.transfer(1, ...whole, 0), request.detach(1), request.setScanout(0, 1, ...whole));
    rig.changeMemory(rig.mapMemory(RAM_SIZE / 2));
    expect(shownPixels(rig)).toEqual(new Uint8Array(BYTES).fill(7));
  });

  it('releases everything on reset', () => {
    using rig = new GpuRig({ scanouts: 2 });
    const before = openThings();
    for (let round = 0; round < 3; round++) {
      resource(rig, request.scattered(4));
      run(rig, request.setScanout(0, 1, ...whole), request.createBlob(2, PAGE, request.contiguous(PAGE, HEAP + 1)));
      run(rig, request.setScanoutBlob(1, 2, { width: 32, height: 32, stride: 128, offset: 0 }));
      rig.send(request.updateCursor(0, 1, 0, 0), 0, 1);
      shownPixels(rig);
      rig.send(request.flush(1, ...whole));
      rig.sink.takeCalls();
      rig.reset();
      expect(rig.sink.takeCalls()).toEqual([
        'scanout 0 off',
        'cursor 0 off',
        'destroyed',
        'destroyed',
        'scanout 1 off',
        'destroyed',
      ]);
      expect(rig.gpu.budget.used).toBe(0);
      expect(rig.gpu.stats).toMatchObject({ resources: 0, storeBytes: 0 });
      expect(openThings()).toEqual(before);
    }
  });
});
