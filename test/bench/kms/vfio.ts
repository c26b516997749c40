import { DRM_PLANE_TYPE_CURSOR, DRM_PLANE_TYPE_PRIMARY } from '../../../protocols/drm-mode.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../protocols/drm-fourcc.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import { FormatSet } from '../../../src/core/framebuffer.ts';
import type { Handle } from '../../../src/core/output.ts';
import { openDeviceFile, VfioDevice } from '../../../src/guest/vfio/device.ts';
import { VfioGuest } from '../../../src/guest/vfio/guest.ts';
import { Bochs, loadMdev, Mdev, OpenMdev } from '../../rig/mdev.ts';
import type { BenchContext, Measurement } from '../benchmark.ts';
import { InstantOutput } from '../instant-output.ts';

const ROUNDS = 11;
const LOOKS = 500;
const WARM_UP = 5000;
const PEER = 'the same two questions to the device alone, in Node';

/** Imports any dma-buf, and reads none. */
class ImportingOutput extends InstantOutput {
  override readonly imports = new FormatSet([[DRM_FORMAT.XRGB8888, DRM_FORMAT_MOD_LINEAR]]);

  override import(): Handle {
    return { isHeld: false, [Symbol.dispose]: () => undefined };
  }
}

/** Microseconds of CPU of one of `count` calls. */
function cost(once: (index: number) => void, count = LOOKS): number {
  const before = process.cpuUsage();
  for (let i = 0; i < count; i++) once(i);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

/** What it costs to look at the planes of a device and present a frame, with the same buffer and with another each time. */
export async function vfioLooks({ progress }: BenchContext): Promise<Measurement[]> {
  loadMdev();
  using mdev = new Mdev('mbochs-medium');
  using open = new OpenMdev(mdev);
  using driver = new Bochs(open.fd);
  driver.setMode(1024, 768);
  using bare = VfioDevice.open(openDeviceFile(open.fd.dup()));
  using guest = VfioGuest.open({ device: { fd: open.fd.dup() } });
  using output = new ImportingOutput({ readsPages: false });
  using bridge = new Bridge(guest);
  bridge.show(0, output);
  while (guest.stats.looks < 1) await new Promise((resolve) => setTimeout(resolve, 1));
  const redraw = (): void => output.vblank();
  const flip = (index: number): void => {
    driver.flip(index % 3);
    output.vblank();
  };
  const ask = (): void => {
    bare.query(DRM_PLANE_TYPE_PRIMARY);
    bare.query(DRM_PLANE_TYPE_CURSOR);
  };
  const askAboutFlip = (index: number): void => {
    driver.flip(index % 3);
    ask();
  };
  const samples = { redraw: [] as number[], flip: [] as number[], ask: [] as number[], askAboutFlip: [] as number[] };
  progress('warming up');
  for (const once of [redraw, flip, ask, askAboutFlip]) cost(once, WARM_UP);
  for (let round = 0; round < ROUNDS; round++) {
    progress(`round ${round + 1} of ${ROUNDS}`);
    samples.redraw.push(cost(redraw));
    samples.ask.push(cost(ask));
    samples.flip.push(cost(flip));
    samples.askAboutFlip.push(cost(askAboutFlip));
  }
  const row = (name: string, ours: readonly number[], peer: readonly number[]): Measurement => ({
    name: `vfio-looks/${name}`,
    unit: 'us/look',
    better: 'less',
    ours,
    peer: { name: PEER, samples: peer },
    goal: null,
  });
  return [
    row('the same buffer', samples.redraw, samples.ask),
    row('another buffer', samples.flip, samples.askAboutFlip),
    {
      name: 'vfio-looks/dma-bufs opened',
      unit: '1',
      better: 'less',
      ours: [guest.stats.opened],
      peer: null,
      goal: 3,
    },
  ];
}
