import { describe, test, vi } from 'vitest';
import { GemHandles } from '../../../../display/kms/gem-handles.ts';
import { KmsOutput } from '../../../../display/kms/output.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR, type Fourcc } from '../../../../protocols/drm-fourcc.ts';
import { type Framebuffer, newFramebufferId } from '../../../../src/core/framebuffer.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { outputSuite } from '../../../../src/testing/output-suite.ts';
import { FakeCard } from './fake-card.ts';

vi.mock('../../../../src/sys/ioctl.ts', async () => (await import('./fake-card.ts')).fakeIoctls);

const SIZE = { width: 64, height: 48 };

// test/kernel/kms-contract.test.ts runs the same suite on a real driver, which cannot be lost.
outputSuite(
  'KmsOutput on a fake card',
  { describe, test },
  () => {
    const card = new FakeCard((fd) => new GemHandles(fd));
    const planes = [card.pipe.primary, card.pipe.cursor!, card.pipe.overlay!];
    const output = new KmsOutput(card.device, {
      connector: card.pipe.connector,
      planes,
      background: 0,
      log: () => undefined,
    });
    const memory = createMemfd('guest', SIZE.width * SIZE.height * 4);
    const [fence, signalled] = socketPair();
    let isHeldUp = false;
    const framebuffer = (format: Fourcc): Framebuffer => ({
      id: newFramebufferId(),
      ...SIZE,
      format,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes: [{ offset: 0, stride: SIZE.width * 4 }],
      backing: { kind: 'dmabuf', dmabuf: memory },
    });
    const plug = (): void => {
      output.enable(card.pipe.connector, card.pipe, [card.mode]);
      output.announce();
    };
    plug();
    return {
      output,
      size: SIZE,
      step: () => {
        if (card.isFlipping && !isHeldUp) card.flip();
      },
      // The background is as large as the screen.
      isDark: () => card.shown.get(card.pipe.primary.id)?.['CRTC_W'] !== SIZE.width,
      framebuffer: () => framebuffer(DRM_FORMAT.XRGB8888),
      refused: () => framebuffer(DRM_FORMAT.RGB565),
      unplug: () => {
        output.disable();
        output.announce();
      },
      plug,
      lose: () => card.lose(),
      fence: () => {
        isHeldUp = true;
        return { fd: fence, signal: () => void (isHeldUp = false) };
      },
      close: () => {
        for (const each of [fence, signalled, memory, card]) each[Symbol.dispose]();
      },
    };
  },
  ['import', 'refuse', 'unplug', 'lose', 'fence'],
);
