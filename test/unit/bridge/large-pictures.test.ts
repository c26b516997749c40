import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { FakeOutput, GuestPicture } from './fakes.ts';
import { bridge, FIRST, logged, output, picture, source, useBridge } from './bridge-rig.ts';

useBridge();

/** 64 MiB, far more than can be copied in one turn. */
const SIDE = 4096;

/** A picture with `value` in its four corners and its middle. */
function large(value: number): GuestPicture {
  const made = picture(SIDE, SIDE);
  mark(made, value);
  return made;
}

function mark(made: GuestPicture, value: number): void {
  for (const x of [0, SIDE / 2, SIDE - 1]) for (const y of [0, SIDE / 2, SIDE - 1]) made.fill(x, y, 1, 1, value);
}

/** The different marks of the frame presented last. */
function marks(of: FakeOutput): number[] {
  const view = new DataView(of.picture().buffer);
  const found = new Set<number>();
  for (const x of [0, SIDE / 2, SIDE - 1])
    for (const y of [0, SIDE / 2, SIDE - 1]) found.add(view.getUint32((y * SIDE + x) * 4, true));
  return [...found];
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await turn();
}

/** Shows a picture and returns when it is on screen. */
async function shown(value: number): Promise<GuestPicture> {
  bridge.show(FIRST, output);
  const made = large(value);
  source.show(made.framebuffer);
  source.flush(0, 0, SIDE, SIDE);
  await until(() => output.presents.length === 1);
  output.vblank();
  return made;
}

test('a large picture is copied over several turns and shown when it is whole', async () => {
  bridge.show(FIRST, output);
  source.show(large(7).framebuffer);
  const flush = source.flush(0, 0, SIDE, SIDE);
  expect(output.presents).toEqual([]);
  await until(() => output.presents.length > 0);
  expect(marks(output)).toEqual([7]);
  expect(flush.done).not.toHaveBeenCalled();
  output.vblank();
  expect(flush.done).toHaveBeenCalledOnce();
});

test('a fenced redraw of a large picture is done when it is copied, though the frame before it is in flight', async () => {
  const made = await shown(1);
  mark(made, 2);
  source.flush(0, 0, SIDE, SIDE);
  await until(() => output.presents.length === 2);
  mark(made, 3);
  const flush = source.flush(0, 0, SIDE, SIDE);
  expect(flush.done).not.toHaveBeenCalled();
  await until(() => flush.done.mock.calls.length > 0);
  expect(output.presents).toHaveLength(2);
  output.vblank();
  expect(marks(output)).toEqual([3]);
});

test('an unfenced redraw of a large picture is done at once', async () => {
  await shown(1);
  expect(source.flush(0, 0, SIDE, SIDE, false).done).toHaveBeenCalledOnce();
});

test('redraws without end do not keep a large picture from the screen', async () => {
  await shown(1);
  while (output.presents.length < 3) {
    const before = output.presents.length;
    source.flush(0, 0, SIDE, SIDE, false);
    await turn();
    if (output.presents.length > before) output.vblank();
  }
});

test('what is drawn while a large picture is copied is shown by a later frame, with its damage', async () => {
  const made = await shown(1);
  mark(made, 2);
  source.flush(0, 0, SIDE, SIDE, false);
  mark(made, 3);
  source.flush(0, SIDE / 2, SIDE, SIDE / 2, false);
  source.flush(0, 0, SIDE, 1, false);
  await until(() => output.presents.length === 2);
  output.vblank();
  await until(() => output.presents.length === 3);
  expect(marks(output)).toEqual([3]);
  expect(output.presents.at(-1)!.damage).toEqual([[0, 0, SIDE, SIDE]]);
});

test('a flip while a large picture is copied shows nothing of it', async () => {
  bridge.show(FIRST, output);
  source.show(large(1).framebuffer);
  source.flush(0, 0, SIDE, SIDE);
  source.show(large(2).framebuffer);
  source.flush(0, 0, SIDE, SIDE);
  await until(() => output.presents.length > 0);
  expect(marks(output)).toEqual([2]);
});

test('a screen that goes while a large picture is copied ends its flushes', async () => {
  bridge.show(FIRST, output);
  source.show(large(1).framebuffer);
  const flush = source.flush(0, 0, SIDE, SIDE);
  bridge.hide(output);
  await turn();
  expect(flush.done).toHaveBeenCalledOnce();
  expect(output.presents).toEqual([]);
});

test('a guest that stops while a large picture is copied keeps that picture', () => {
  bridge.show(FIRST, output);
  source.show(large(1).framebuffer);
  source.flush(0, 0, SIDE, SIDE);
  source.sink.halted();
  expect(marks(output)).toEqual([1]);
});

test('an output that fails when a large picture is copied is lost, and its flushes end', async () => {
  bridge.show(FIRST, output);
  source.show(large(1).framebuffer);
  const flush = source.flush(0, 0, SIDE, SIDE);
  output.present = () => {
    throw new Error('thrown on purpose');
  };
  await until(() => flush.done.mock.calls.length > 0);
  expect(output.isAttached).toBe(false);
  expect(logged.at(-1)).toBe('fake is gone: Error: thrown on purpose');
});

test('a bridge has settled when the newest of what was flushed is on screen', async () => {
  await bridge.settled();
  const made = await shown(1);
  await bridge.settled();
  mark(made, 2);
  source.flush(0, 0, SIDE, SIDE);
  let isSettled = false;
  const settled = bridge.settled().then(() => (isSettled = true));
  await until(() => output.presents.length === 2);
  mark(made, 3);
  source.flush(0, 0, SIDE, SIDE);
  output.vblank();
  await until(() => output.presents.length === 3);
  expect(isSettled).toBe(false);
  expect(marks(output)).toEqual([3]);
  output.vblank();
  await settled;
});

test('a bridge has settled when the screen that it waited for has gone', async () => {
  bridge.show(FIRST, output);
  source.show(large(1).framebuffer);
  source.flush(0, 0, SIDE, SIDE);
  const settled = bridge.settled();
  bridge.hide(output);
  await settled;
});
