/** Runs in the VM: mixed frames on vkms's plane, by the checksum of every frame that it scans out. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readMode } from '../../../display/kms/resources.ts';
import { drm_mode_modeinfo } from '../../../protocols/drm-mode.ts';
import { Bridge } from '../../../src/bridge/bridge.ts';
import type { ZeroCopy } from '../../../src/bridge/dmabuf-pool.ts';
import type { Picture } from '../../../src/core/picture.ts';
import { VhostUserGuest } from '../../../src/guest/vhost-user/guest.ts';
import { checksum, CrtcCrc } from '../../kernel/crtc-crc.ts';
import { TestScreen, vkmsCard } from '../../kernel/kms-rig.ts';
import type { Measurement } from '../benchmark.ts';
import { COLOURS, colourOf, FillingGuest } from './filling.ts';

const [WIDTH, HEIGHT] = [320, 200];
/**
 * 60 Hz. Small, because vkms reads a frame in a thread of its own, which has to be done before the next vertical blank:
 * only then is a buffer that was replaced one that nothing reads.
 */
const MODE = readMode(
  drm_mode_modeinfo.encode({
    clock: 6000,
    hdisplay: WIDTH,
    hsync_start: 330,
    hsync_end: 340,
    htotal: 400,
    vdisplay: HEIGHT,
    vsync_start: 210,
    vsync_end: 220,
    vtotal: 250,
    vrefresh: 60,
  }),
);
/** Frames of the CRTC between looks whether the guest has finished. */
const LOOK_FRAMES = 10;

const directory = mkdtempSync(join(tmpdir(), 'frames-'));
const whole = new Set(Array.from({ length: COLOURS }, (_, number) => checksum(filled(colourOf(number)))));

function filled(colour: number): Picture {
  const pixel = [colour >> 16, (colour >> 8) & 255, colour & 255, 255];
  return {
    width: WIDTH,
    height: HEIGHT,
    data: Uint8Array.from({ length: WIDTH * HEIGHT * 4 }, (_, i) => pixel[i % 4]!),
  };
}

/** Checksums of what was scanned out while the guest filled its buffers. */
async function scannedOut(kind: 'vhost-user' | 'generic', zeroCopy: ZeroCopy, rung: string): Promise<string[]> {
  const socket = join(directory, `${kind}-${zeroCopy}`);
  using screen = new TestScreen({ modes: [MODE] });
  using source = VhostUserGuest.open({ socket });
  using bridge = new Bridge(source, { zeroCopy });
  bridge.show(0, screen.output);
  await using guest = await FillingGuest.boot({ kind, socket }, [WIDTH, HEIGHT]);
  const shown = bridge.stats[0]!.screens[0]!.primary.rung;
  if (shown !== rung) throw new Error(`${kind}, zero copy ${zeroCopy}: shown by rung '${String(shown)}'`);
  using crc = new CrtcCrc(vkmsCard()!);
  const seen: string[] = [];
  await guest.fill(async () => {
    // The first is the last of the look before.
    seen.push(...(await crc.during(LOOK_FRAMES)).slice(1));
    return false;
  });
  return seen;
}

const measurements: Measurement[] = [];
for (const [kind, name] of [
  ['generic', 'blobs'],
  ['vhost-user', 'plain'],
] as const) {
  for (const [zeroCopy, rung] of [
    ['all', 'udmabuf'],
    ['off', 'shadow'],
  ] as const) {
    process.stderr.write(`${name}, rung ${rung}\n`);
    const seen = await scannedOut(kind, zeroCopy, rung);
    const mixed = seen.filter((crc) => !whole.has(crc)).length;
    process.stderr.write(`${name}, rung ${rung}: ${mixed} of ${seen.length} frames are mixed\n`);
    const row = { peer: null, unit: 'frames', better: 'less' } as const;
    measurements.push(
      { ...row, name: `whole-frames-kms/${name}, ${rung}: mixed`, ours: [mixed], goal: 0 },
      { ...row, name: `whole-frames-kms/${name}, ${rung}: shown`, ours: [seen.length], goal: null },
    );
  }
}
rmSync(directory, { recursive: true });
console.log(JSON.stringify(measurements));
