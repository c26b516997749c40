import { describe, test } from 'vitest';
import { VmmDisplay } from '../../../../display/vmm/display.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { socketPair } from '../../../../src/sys/socket.ts';
import { type OutputRig, outputSuite } from '../../../../src/testing/output-suite.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { displayInfoReply, FakeVmm, featuresReply, words } from './fake-vmm.ts';

const MODE = { width: 1280, height: 800 };
/** Larger than a cursor, which is not sent as a dma-buf. */
const SIZE = { width: 100, height: 80 };
const HEADER_SIZE = 12;
const SCANOUT = 7;
const DMABUF_SCANOUT = 9;
const DMABUF_UPDATE = 10;
const UPDATED = words(DMABUF_UPDATE, 4, 0);

/** A VMM with one console: reads whatever comes and answers updates of dma-bufs. */
class Console {
  readonly vmm: FakeVmm;
  /** Of its picture; 0: it is off. */
  width = 0;
  #isGone = false;

  constructor(vmm: FakeVmm) {
    this.vmm = vmm;
  }

  /** Ends. */
  close(): void {
    this.#isGone = true;
    this.vmm[Symbol.dispose]();
  }

  step(): void {
    if (this.#isGone) return;
    const bytes = this.vmm.takeNow();
    for (let at = 0; at < bytes.length;) {
      const request = bytes.readUInt32LE(at);
      const payload = at + HEADER_SIZE;
      if (request === SCANOUT) this.width = bytes.readUInt32LE(payload + 4);
      if (request === DMABUF_SCANOUT) this.width = bytes.readUInt32LE(payload + 12);
      if (request === DMABUF_UPDATE) this.vmm.reply(UPDATED);
      at = payload + bytes.readUInt32LE(at + 8);
    }
    for (let fd = this.vmm.takeFd(); fd; fd = this.vmm.takeFd()) fd[Symbol.dispose]();
  }
}

async function open(dmabuf: boolean): Promise<OutputRig> {
  const [near, far] = socketPair();
  const vmm = new FakeVmm(far);
  const opening = VmmDisplay.open({ socket: near, scanouts: 1, refreshMhz: 500_000, dmabuf });
  await vmm.take(12);
  vmm.reply(featuresReply(0));
  await vmm.take(20 + 12);
  vmm.reply(displayInfoReply([MODE]));
  const display = await opening;
  const shown = new Console(vmm);
  const pictures: GuestPicture[] = [];
  const picture = (format: typeof DRM_FORMAT.XRGB8888): GuestPicture => {
    const made = new GuestPicture(SIZE.width, SIZE.height, format);
    pictures.push(made);
    return made;
  };
  const setMode = async (mode: typeof MODE | null): Promise<void> => {
    const asking = display.refresh();
    shown.step();
    vmm.reply(displayInfoReply([mode]));
    await asking;
  };
  return {
    output: display.outputs[0]!,
    size: SIZE,
    step: () => shown.step(),
    isDark: () => {
      shown.step();
      return shown.width === 0;
    },
    framebuffer: () => picture(DRM_FORMAT.XRGB8888).asDmabuf,
    refused: () => picture(DRM_FORMAT.ABGR8888).framebuffer,
    unplug: () => setMode(null),
    plug: () => setMode(MODE),
    lose: () => shown.close(),
    close: () => {
      display[Symbol.dispose]();
      vmm[Symbol.dispose]();
      for (const made of pictures) made[Symbol.dispose]();
    },
  };
}

outputSuite('VmmOutput that sends pixels', { describe, test }, () => open(false), ['refuse', 'unplug', 'lose']);
outputSuite('VmmOutput that passes dma-bufs', { describe, test }, () => open(true), [
  'import',
  'refuse',
  'unplug',
  'lose',
]);
