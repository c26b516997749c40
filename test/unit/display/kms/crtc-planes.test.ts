import { beforeEach, afterEach, describe, expect, test, vi } from 'vitest';
import { KmsBuffer } from '../../../../display/kms/buffer.ts';
import { CrtcPlanes } from '../../../../display/kms/crtc-planes.ts';
import { GemHandles } from '../../../../display/kms/gem-handles.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Frame } from '../../../../src/core/output.ts';
import { type Commit, FakeCard } from './fake-card.ts';

vi.mock('../../../../src/sys/ioctl.ts', async () => (await import('./fake-card.ts')).fakeIoctls);

const EINVAL = 22;

let card: FakeCard;
let planes: CrtcPlanes;
let picture: KmsBuffer;
let cursor: KmsBuffer;

beforeEach(() => {
  card = new FakeCard((fd) => new GemHandles(fd));
  planes = CrtcPlanes.open(card.device, {
    pipe: card.pipe,
    mode: card.mode,
    background: 0,
    log: () => undefined,
  });
  picture = KmsBuffer.dumb(card.device, 640, 480, DRM_FORMAT.XRGB8888);
  cursor = KmsBuffer.dumb(card.device, 64, 64, DRM_FORMAT.ARGB8888);
});
afterEach(() => {
  for (const each of [picture, cursor, planes, card]) each[Symbol.dispose]();
});

function frameAt(x: number, y: number): Frame {
  const whole = { x: 0, y: 0, width: 640, height: 480 };
  const image = { x: 0, y: 0, width: 64, height: 64 };
  return {
    canvas: whole,
    primary: { handle: picture, src: whole, dst: whole },
    cursor: { handle: cursor, src: image, dst: { ...image, x, y } },
    hotspotX: 0,
    hotspotY: 0,
    isCursorNew: false,
    damage: new Damage(),
    acquire: null,
    release: null,
  };
}

/** Commits a frame with the cursor at a place; the atomic ioctls it took, and then flips. */
function show(x: number, y: number): string[] {
  const before = card.commits.length;
  expect(planes.commit(frameAt(x, y), picture, cursor)).toBe(0);
  card.flip();
  return card.commits.slice(before).map(describeCommit);
}

/** For example `test cursor EINVAL`: where the cursor is in it. */
function describeCommit({ isTest, states, result }: Commit): string {
  const shows = (id: number | undefined): boolean => id !== undefined && (states.get(id)?.['FB_ID'] ?? 0) !== 0;
  const where = shows(card.pipe.cursor?.id) ? 'cursor' : shows(card.pipe.overlay?.id) ? 'overlay' : 'none';
  return `${isTest ? 'test' : 'commit'} ${where}${result === 0 ? '' : ' refused'}`;
}

test('CrtcPlanes: tells a virtual card where the hotspot of the cursor is', () => {
  planes.commit({ ...frameAt(10, 20), hotspotX: 3, hotspotY: 60 }, picture, cursor);
  card.flip();
  expect(card.shown.get(card.pipe.cursor!.id)).toMatchObject({ CRTC_X: 10, CRTC_Y: 20, HOTSPOT_X: 3, HOTSPOT_Y: 60 });
});

/** A cursor plane that cannot reach the left edge of the screen. */
function refuseCursorPlaneAtLeft({ states }: Omit<Commit, 'result'>): number {
  const state = states.get(card.pipe.cursor!.id);
  return state !== undefined && state['FB_ID'] !== 0 && state['CRTC_X']! < 100 ? -EINVAL : 0;
}

test('CrtcPlanes: keeps no buffer for the CPU to draw into if there is memory for one of two only', () => {
  // No plane takes the picture as it is.
  card.check = () => -EINVAL;
  const before = card.device.gem.count;
  card.memoryLeft = 640 * 480 * 4;
  expect(planes.commit(frameAt(200, 10), picture, cursor)).toBe(-EINVAL);
  expect(card.device.gem.count).toBe(before);
});

test('CrtcPlanes: draws a kind of picture once there is memory for it, although there was none at first', () => {
  const shown = picture.opaqueFb(card.pipe.primary.formats);
  card.check = ({ states }) => ([...states.values()].some(({ FB_ID }) => FB_ID === shown) ? -EINVAL : 0);
  card.memoryLeft = 0;
  expect(planes.commit(frameAt(200, 10), picture, null)).toBe(-EINVAL);
  card.memoryLeft = Infinity;
  expect(planes.commit(frameAt(200, 10), picture, null)).toBe(0);
});

describe('CrtcPlanes', () => {
  beforeEach(() => {
    expect(planes.enable(frameAt(200, 10), picture, cursor)).toBe(0);
    card.flip();
  });

  test('takes one ioctl for a kind of frame that it has shown before', () => {
    expect(show(200, 20)).toEqual(['commit cursor']);
  });

  test('does not commit a known layout again after the driver refused it for that place of the cursor', () => {
    card.check = refuseCursorPlaneAtLeft;
    expect(show(10, 10)).toEqual(['commit cursor refused', 'test overlay', 'commit overlay']);
    expect(show(10, 10)).toEqual(['commit overlay']);
  });

  test('goes on using a layout where it works, although it was refused at another place of the cursor', () => {
    card.check = refuseCursorPlaneAtLeft;
    show(10, 10);
    expect(show(300, 10)).toEqual(['test cursor', 'commit cursor']);
    expect(show(300, 10)).toEqual(['commit cursor']);
    expect(show(20, 10)).toEqual(['test cursor refused', 'test overlay', 'commit overlay']);
  });
});
