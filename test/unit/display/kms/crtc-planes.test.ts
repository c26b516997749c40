import { beforeEach, afterEach, describe, expect, test, vi } from 'vitest';
import { KmsBuffer, ShadowMemory } from '../../../../display/kms/buffer.ts';
import { CrtcPlanes } from '../../../../display/kms/crtc-planes.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { Damage } from '../../../../src/core/damage.ts';
import type { Frame } from '../../../../src/core/output.ts';
import { GbmError } from '../../../../src/sys/lib/gbm.ts';
import { type Commit, FakeCard } from './fake-card.ts';

vi.mock('../../../../src/sys/ioctl.ts', async () => (await import('./fake-card.ts')).fakeIoctls);

const EINVAL = 22;

let card: FakeCard;
let shadows: ShadowMemory;
let planes: CrtcPlanes;
let picture: KmsBuffer;
let cursor: KmsBuffer;

beforeEach(() => {
  card = new FakeCard();
  shadows = new ShadowMemory(card.device, () => new GbmError('device-refused', 'none here'));
  planes = CrtcPlanes.open(card.device, {
    pipe: card.pipe,
    mode: card.mode,
    shadows,
    background: 0,
    log: () => undefined,
  });
  picture = KmsBuffer.dumb(card.device, 640, 480, DRM_FORMAT.XRGB8888);
  cursor = KmsBuffer.dumb(card.device, 64, 64, DRM_FORMAT.ARGB8888);
});
afterEach(() => {
  for (const each of [picture, cursor, planes, shadows, card]) each[Symbol.dispose]();
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

/** A cursor plane that cannot reach the left edge of the screen. */
function refuseCursorPlaneAtLeft({ states }: Omit<Commit, 'result'>): number {
  const state = states.get(card.pipe.cursor!.id);
  return state !== undefined && state['FB_ID'] !== 0 && state['CRTC_X']! < 100 ? -EINVAL : 0;
}

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
