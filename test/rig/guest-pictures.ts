import { join } from 'node:path';
import type { Picture } from '../../src/core/picture.ts';
import { compiled } from './compile.ts';
import type { Guest } from './guest.ts';
import { pixel } from './picture.ts';

/** Colour of the bottom right cell, which `showText` draws last: bright magenta, as in no other cell. */
const TEXT_END = 0xff55ff;

/**
 * Clears the guest's console (fbcon) and writes a fixed text with all colours. fbcon updates the GPU
 * some time later: a picture is complete once `isWholeText` is true for it.
 */
export async function showText(guest: Guest): Promise<void> {
  const line = (n: number) =>
    `\\033[${(n >> 3) % 2};${30 + (n % 8)}m%2d \\033[7m The quick brown fox jumps over the lazy dog \\033[0;${40 + ((n + 3) % 8)}m 0123456789 ~!@#$^&*() \\033[0m\\n`;
  const lines = Array.from({ length: 40 }, (_, n) => `printf '${line(n)}' ${n}`).join('; ');
  // The last cell is drawn last, and not before the rest has been sent, which the console does while the shell sleeps: a
  // picture that is copied while a guest draws may have what it drew last, and lack what came before.
  await guest.run(
    `{ printf '\\033[2J\\033[H'; ${lines}; sleep 0.3; printf '\\033[999;999H\\033[1;35m\\342\\226\\210\\033[0m\\033[H'; } >/dev/tty1`,
  );
}

/** True if the picture has all of the text of `showText`. */
export function isWholeText(picture: Picture): boolean {
  return pixel(picture, picture.width - 1, picture.height - 1) === TEXT_END;
}

/** Shows modetest's test pattern. The device has it when this resolves; it stays until the returned function is called. */
export async function showModetestPattern(guest: Guest, width: number, height: number): Promise<() => Promise<void>> {
  // modetest reads its stdin once the mode is set; by then everything it did is queued. guest-draw starts after that.
  await guest.run(`
    connector=$(modetest -M virtio_gpu -c | awk '$3 == "connected" { print $1; exit }')
    rm -f /run/stop; mkfifo /run/stop
    modetest -M virtio_gpu -s $connector:${width}x${height} </run/stop >/run/modetest.log 2>&1 & modetest=$!
    exec 8>/run/stop
    until grep -q '^0 0x0 ' /proc/$modetest/syscall; do [ -d /proc/$modetest ] || { cat /run/modetest.log; false; return; }; done
    ! grep 'failed to find' /run/modetest.log`);
  await (
    await startDrawing(guest)
  )('quit');
  return async () => {
    await guest.run('exec 8>&-; wait $modetest');
  };
}

/**
 * Flips pages as fast as the guest can with `modetest -v`, until it has printed this number of frame
 * rates (in Hz, about one per second) after the first, which is left out because it includes the start.
 */
export async function flipWithModetest(guest: Guest, width: number, height: number, rates: number): Promise<number[]> {
  const output = await guest.run(`
    connector=$(modetest -M virtio_gpu -c | awk '$3 == "connected" { print $1; exit }')
    rm -f /run/stop /run/rates; mkfifo /run/stop /run/rates
    modetest -M virtio_gpu -s $connector:${width}x${height} -v </run/stop >/run/rates 2>&1 & modetest=$!
    exec 8>/run/stop
    grep -m ${rates + 1} freq </run/rates
    exec 8>&-; wait $modetest; true`);
  return [...output.matchAll(/freq: ([\d.]+)Hz/g)].map(([, hz]) => Number(hz)).slice(1);
}

/** Sends one command to guest-draw; resolves with the text after its `ok`, rejects if it answers with an error. */
export type Draw = (command: string) => Promise<string>;

/** Builds guest-draw unless it is there. A guest cannot, because this machine's files are read-only to it. */
export function guestDraw(): string {
  return compiled(join(import.meta.dirname, 'guest-draw.c'), 'guest-draw', '-I/usr/include/libdrm', '-ldrm');
}

/**
 * Starts guest-draw in the guest; guest-draw.c describes its commands. Only one may run at a time, and
 * it holds the display until `quit`. It answers after the device has handled what was queued.
 */
export async function startDrawing(guest: Guest): Promise<Draw> {
  await guest.run(
    `rm -f /run/draw.in /run/draw.out; mkfifo /run/draw.in /run/draw.out; ${guestDraw()} </run/draw.in >/run/draw.out & draw=$!; exec 6>/run/draw.in 7</run/draw.out`,
  );
  return async (command) => {
    if (command === 'quit') return guest.run('exec 6>&- 7<&-; wait $draw');
    const answer = await guest.run(`echo '${command}' >&6; read -r answer <&7; echo "$answer"`);
    if (!answer.startsWith('ok')) throw new Error(`guest-draw, ${command}: ${answer || 'it ended'}`);
    return answer.slice('ok'.length).trim();
  };
}

/** The picture that guest-draw's `pattern SEED` shows. */
export function drawnPicture(width: number, height: number, seed: number): Picture {
  const data = new Uint8Array(width * height * 4);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      data[at++] = x * 7 + seed * 31;
      data[at++] = y * 5 + seed * 17;
      data[at++] = (x ^ y) + seed * 13;
      data[at++] = 255;
    }
  }
  return { width, height, data };
}

/** Changes `picture` as guest-draw's `damage SEED X Y W H` does. */
export function drawPart(
  { width, height, data }: Picture,
  seed: number,
  x: number,
  y: number,
  partWidth: number,
  partHeight: number,
): void {
  const drawn = drawnPicture(width, height, seed).data;
  for (let row = y; row < y + partHeight; row++) {
    const from = (row * width + x) * 4;
    data.set(drawn.subarray(from, from + partWidth * 4), from);
  }
}

/** The cursor that guest-draw's `cursor SEED` shows: 64x64 pixels of R, G, B (premultiplied), A. */
export function drawnCursor(seed: number): Uint8Array {
  const { data } = drawnPicture(64, 64, seed);
  for (let at = 0; at < data.length; at += 4) {
    const alpha = Math.floor((((at / 4) % 64) * 255) / 63);
    for (let c = 0; c < 3; c++) data[at + c] = Math.floor((data[at + c]! * alpha) / 255);
    data[at + 3] = alpha;
  }
  return data;
}

/** The picture with the cursor of guest-draw's `cursor SEED` on top, its top left corner at x, y. */
export function withDrawnCursor({ width, height, data }: Picture, seed: number, x: number, y: number): Picture {
  const result = { width, height, data: data.slice() };
  const cursor = drawnCursor(seed);
  for (let row = Math.max(0, -y); row < Math.min(64, height - y); row++) {
    for (let column = Math.max(0, -x); column < Math.min(64, width - x); column++) {
      const from = (row * 64 + column) * 4;
      const to = ((y + row) * width + x + column) * 4;
      for (let c = 0; c < 3; c++)
        result.data[to + c] = cursor[from + c]! + Math.round((data[to + c]! * (255 - cursor[from + 3]!)) / 255);
    }
  }
  return result;
}
