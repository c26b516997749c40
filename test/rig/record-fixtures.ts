/**
 * Records fixtures/*.scanout, and the README's picture, from real guests: all of them, or those named:
 *
 *     npx tsx test/rig/record-fixtures.ts [NAME...]
 */
import { statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { writePng } from '../../display/picture/png.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { Recorder } from '../../src/guest/replay/recorder.ts';
import { VhostUserGuest } from '../../src/guest/vhost-user/guest.ts';
import { bootGuest, type Guest } from './guest.ts';
import { startDrawing } from './guest-pictures.ts';

const FIXTURES = join(import.meta.dirname, '../../fixtures');
const wanted = process.argv.slice(2);

/** Boots as for a user, with kernel messages on the screen. */
const LOUD = 'console=ttyS0 console=tty0 loglevel=7 vt.global_cursor_default=0 consoleblank=0 panic=-1 mitigations=off';

async function record(
  name: string,
  size: readonly [number, number],
  play: (guest: Guest) => Promise<void>,
  options: { gpu?: 'vhost-user' | 'generic'; append?: string; png?: string } = {},
): Promise<void> {
  if (wanted.length > 0 && !wanted.includes(name)) return;
  const socket = join(tmpdir(), `record-${process.pid}.sock`);
  const file = join(FIXTURES, `${name}.scanout`);
  {
    using recorder = Recorder.open({ file, scanouts: 1 });
    using guest = VhostUserGuest.open({ socket, tap: recorder.tap });
    using output = HeadlessOutput.open({ width: size[0], height: size[1] });
    using bridge = new Bridge(guest);
    bridge.show(0, output);
    await using vm = await bootGuest({
      gpu: { kind: options.gpu ?? 'vhost-user', socket },
      size,
      extraQemuArgs: options.append === undefined ? [] : ['-append', options.append],
    });
    await play(vm);
    await output.settled();
    const picture = output.capture();
    if (options.png !== undefined && picture) await writePng(join(FIXTURES, options.png), picture);
    await vm.kill();
  }
  console.log(`${name}: ${(statSync(file).size / 1024).toFixed(0)} KiB`);
}

await record(
  'console-boot',
  [1280, 800],
  async (guest) => {
    await guest.run(
      `{ dmesg | tail -n 120; . /etc/os-release; printf '\\n\\033[1;32m%s\\033[0m %s\\n\\n' "$PRETTY_NAME" "$(uname -rm)"; printf '\\033[1;34mguest\\033[0m# ls --color /sys/class\\n'; ls --color=always -C -w 100 /sys/class; printf '\\033[1;34mguest\\033[0m# cat /proc/meminfo\\n'; head -n 4 /proc/meminfo; printf '\\033[1;34mguest\\033[0m# modetest -M virtio_gpu -e\\n'; modetest -M virtio_gpu -e; printf '\\033[1;34mguest\\033[0m# \\342\\226\\210\\n'; } 2>&1 | while IFS= read -r line; do printf '%s\\n' "$line" >/dev/tty1; done`,
    );
  },
  { append: LOUD, png: 'console.png' },
);
await record('page-flips', [640, 480], async (guest) => {
  const draw = await startDrawing(guest);
  await draw('mode 640 480');
  for (let round = 0; round < 4; round++) await draw('flip 6');
  await draw('quit');
});
await record('cursor', [800, 600], async (guest) => {
  const draw = await startDrawing(guest);
  await draw('mode 800 600');
  await draw('pattern 3');
  await draw('cursor 5 20 30 8 8');
  for (let step = 0; step <= 60; step++)
    await draw(`move ${Math.round(400 + 380 * Math.sin(step / 9))} ${Math.round(300 + 280 * Math.cos(step / 7))}`);
  await draw('hide');
  await draw('cursor 6 300 200 0 0');
  await draw('sync');
});
await record('mode-change', [1280, 800], async (guest) => {
  const draw = await startDrawing(guest);
  for (const [width, height, seed] of [
    [1024, 768, 1],
    [800, 600, 2],
    [640, 480, 3],
  ] as const) {
    await draw(`mode ${width} ${height}`);
    await draw(`pattern ${seed}`);
    await draw(`damage ${seed + 6} 40 50 ${width / 4} ${height / 8}`);
  }
});
await record(
  'blobs',
  [640, 480],
  async (guest) => {
    const draw = await startDrawing(guest);
    await draw('mode 160 120');
    await draw('flip 6');
    await draw('cursor 5 20 30 8 8');
    await draw('move 120 100');
    await draw('flip 6 plain');
    await draw('pattern 4');
    await draw('damage 9 40 50 81 33');
    await draw('hide');
    await draw('sync');
  },
  { gpu: 'generic' },
);
