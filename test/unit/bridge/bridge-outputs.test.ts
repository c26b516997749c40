import { beforeEach, describe, expect, test } from 'vitest';
import { DRM_FORMAT } from '../../../protocols/drm-fourcc.ts';
import { virtualMonitor } from '../../../src/core/monitor.ts';
import { FakeOutput, type GuestPicture } from './fakes.ts';
import { bridge, FIRST, logged, output, picture, source, useBridge } from './bridge-rig.ts';

useBridge();

/** Two framebuffers, each twice; the one shown last. */
function showInTurns(screen: FakeOutput): GuestPicture {
  const [a, b] = [picture(), picture()];
  for (const p of [a, b, a, b]) {
    source.show(p.framebuffer);
    source.flush(0, 0, 64, 48);
    screen.vblank();
  }
  return b;
}

describe('mirrors', () => {
  let second: FakeOutput;

  beforeEach(() => {
    second = new FakeOutput({ name: 'second' });
  });

  test('hand the guest over when the first is unplugged, and back', () => {
    const { monitor: own } = output;
    const other = virtualMonitor('other', 800, 600, 75_000);
    second.plug(other);
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    const told = ([[output, null], [second, null], [second, other], [output, own]] as const).map(([screen, monitor]) => {
      screen.plug(monitor);
      return source.monitors[0];
    });
    expect(told).toEqual([other, null, other, own]);
  });

  test('that are dark when they join are no monitor of the guest until they light', () => {
    const other = virtualMonitor('other', 800, 600, 75_000);
    second.plug(null);
    bridge.show(FIRST, second);
    bridge.show(FIRST, output);
    expect(source.monitors[0]).toBe(output.monitor);
    second.plug(other);
    expect(source.monitors[0]).toBe(other);
  });

  test('that are dark hold up nobody while one is lit', () => {
    second.plug(null);
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    output.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
    expect(second.presents).toHaveLength(1);
    second.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
  });

  test('that are all dark pace the guest by their timers', () => {
    bridge.show(FIRST, output);
    bridge.show(FIRST, second);
    output.plug(null);
    second.plug(null);
    const a = picture();
    source.show(a.framebuffer);
    const flush = source.flush(0, 0, 64, 48);
    output.vblank();
    expect(flush.done).not.toHaveBeenCalled();
    second.vblank();
    expect(flush.done).toHaveBeenCalledOnce();
  });
});

describe('an output', () => {
  test('lost in mid-flight leaves no guest waiting', () => {
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    const flushes = [source.flush(0, 0, 64, 48), source.flush(0, 0, 64, 48)];
    output.lose();
    expect(flushes.map((f) => f.done.mock.calls.length)).toEqual([1, 1]);
  });

  test('without the guest’s format gets it converted', () => {
    bridge.show(FIRST, output);
    const a = picture(8, 8, DRM_FORMAT.XBGR8888);
    a.fill(0, 0, 8, 8, 0x332211);
    source.show(a.framebuffer);
    source.flush(0, 0, 8, 8);
    expect([...output.picture().slice(0, 3)]).toEqual([0x33, 0x22, 0x11]);
  });

  test('that refuses a format for good is asked once', () => {
    const direct = new FakeOutput({ readsPages: true });
    direct.refuse = 'format';
    bridge.show(FIRST, direct);
    const b = showInTurns(direct);
    expect(direct.importCount).toBe(1);
    expect(direct.picture()).toEqual(b.read());
    expect(logged.filter((line) => line.includes('refused'))).toHaveLength(1);
  });

  test('that refuses a size is asked again for the next framebuffer, and once for each', () => {
    const direct = new FakeOutput({ readsPages: true });
    direct.refuse = 'size';
    bridge.show(FIRST, direct);
    showInTurns(direct);
    expect(direct.importCount).toBe(2);
  });

  test('with no memory for shadows leaves the guest running, with one log line', () => {
    output.failShadows = true;
    bridge.show(FIRST, output);
    const a = picture();
    source.show(a.framebuffer);
    for (let i = 0; i < 3; i++) {
      const flush = source.flush(0, 0, 64, 48);
      if (output.presents.length > 0) output.vblank();
      expect(flush.done).toHaveBeenCalledOnce();
    }
    const larger = picture(80, 60);
    source.show(larger.framebuffer);
    source.flush(0, 0, 80, 60);
    expect(logged.filter((line) => line.includes('no memory'))).toHaveLength(1);
  });
});
