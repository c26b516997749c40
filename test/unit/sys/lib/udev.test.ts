import { expect, test, vi } from 'vitest';
import { UdevMonitor } from '../../../../src/sys/lib/udev.ts';
import { expectNoLeaks } from '../no-leaks.ts';

expectNoLeaks();

test('UdevMonitor: reports nothing without devices and releases everything on dispose', () => {
  const onEvent = vi.fn();
  const monitor = UdevMonitor.open('scanout-bridge-has-no-such-devices', onEvent)!;
  monitor[Symbol.dispose]();
  monitor[Symbol.dispose]();
  expect(onEvent).not.toHaveBeenCalled();
});

test('UdevMonitor: open returns null without libudev', async () => {
  vi.doMock('koffi', async (original) => {
    const { default: koffi } = await original<{ default: { load(name: string | null): unknown } }>();
    const load = (name: string | null) => {
      if (name === 'libudev.so.1') throw new Error('no such file');
      return koffi.load(name);
    };
    return { default: { ...koffi, load } };
  });
  vi.resetModules();
  const { UdevMonitor: Unlucky } = await import('../../../../src/sys/lib/udev.ts');
  expect(Unlucky.open('drm', vi.fn())).toBeNull();
});
