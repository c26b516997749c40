import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { Picture } from '../../src/core/picture.ts';
import { cacheDir } from './guest-image.ts';
import type { Guest } from './guest.ts';
import { pixel } from './picture.ts';

/** Ends the text of `showText` in the bottom right corner: bright magenta, which no other cell has. */
const TEXT_END = 0xff55ff;

/**
 * Writes a fixed text with all colours on the guest's console (fbcon), from a cleared screen. The
 * console reaches the GPU in its own time; a picture is complete when `isWholeText` says so.
 */
export async function showText(guest: Guest): Promise<void> {
  const line = (n: number) => `\\033[${(n >> 3) % 2};${30 + (n % 8)}m%2d \\033[7m The quick brown fox jumps over the lazy dog \\033[0;${40 + ((n + 3) % 8)}m 0123456789 ~!@#$^&*() \\033[0m\\n`;
  const lines = Array.from({ length: 40 }, (_, n) => `printf '${line(n)}' ${n}`).join('; ');
  // The end comes last and lies in the last row, so whatever damage shows it has shown the rest.
  await guest.run(`{ printf '\\033[2J\\033[H'; ${lines}; printf '\\033[999;999H\\033[1;35m\\342\\226\\210\\033[0m\\033[H'; } >/dev/tty1`);
}

export function isWholeText(picture: Picture): boolean {
  return pixel(picture, picture.width - 1, picture.height - 1) === TEXT_END;
}

/** Shows modetest's test pattern; it is on the device when this resolves, and stays until the returned function is called. */
export async function showModetestPattern(guest: Guest, width: number, height: number): Promise<() => Promise<void>> {
  // modetest reads its input once the mode is set; then everything it did is queued, and `sync` waits for the device.
  await guest.run(`
    connector=$(modetest -M virtio_gpu -c | awk '$3 == "connected" { print $1; exit }')
    rm -f /run/stop; mkfifo /run/stop
    modetest -M virtio_gpu -s $connector:${width}x${height} </run/stop >/run/modetest.log 2>&1 & modetest=$!
    exec 8>/run/stop
    until grep -q '^0 0x0 ' /proc/$modetest/syscall; do [ -d /proc/$modetest ] || { cat /run/modetest.log; false; return; }; done
    ! grep 'failed to find' /run/modetest.log`);
  await (await startDrawing(guest))('quit');
  return async () => {
    await guest.run('exec 8>&-; wait $modetest');
  };
}

/**
 * Flips pages as fast as the guest can with `modetest -v` until it has printed so many frame rates
 * (Hz, one about every second) after the first, which is left out as it counts the start.
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

/** Sends one command to guest-draw and gives what stood after its `ok`. */
export type Draw = (command: string) => Promise<string>;

/**
 * Starts `guest-draw` (its commands are described in guest-draw.c) in the guest; one at a time, and
 * it holds the display until `quit`. Every answer comes after the device's answer to what was queued.
 */
export async function startDrawing(guest: Guest): Promise<Draw> {
  await guest.run(`rm -f /run/draw.in /run/draw.out; mkfifo /run/draw.in /run/draw.out; ${guestDraw()} </run/draw.in >/run/draw.out & draw=$!; exec 6>/run/draw.in 7</run/draw.out`);
  return async (command) => {
    if (command === 'quit') return guest.run('exec 6>&- 7<&-; wait $draw');
    const answer = await guest.run(`echo '${command}' >&6; read -r answer <&7; echo "$answer"`);
    if (!answer.startsWith('ok')) throw new Error(`guest-draw, ${command}: ${answer || 'it ended'}`);
    return answer.slice('ok'.length).trim();
  };
}

/** What guest-draw's `pattern SEED` shows. */
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

/** What guest-draw's `cursor SEED` shows: 64x64 pixels of R, G, B (premultiplied), A. */
export function drawnCursor(seed: number): Uint8Array {
  const { data } = drawnPicture(64, 64, seed);
  for (let at = 0; at < data.length; at += 4) {
    const alpha = Math.floor((((at / 4) % 64) * 255) / 63);
    for (let c = 0; c < 3; c++) data[at + c] = Math.floor((data[at + c]! * alpha) / 255);
    data[at + 3] = alpha;
  }
  return data;
}

/** A picture with what guest-draw's `cursor SEED` shows on top, the cursor's top left corner at x, y. */
export function withDrawnCursor({ width, height, data }: Picture, seed: number, x: number, y: number): Picture {
  const result = { width, height, data: data.slice() };
  const cursor = drawnCursor(seed);
  for (let row = Math.max(0, -y); row < Math.min(64, height - y); row++) {
    for (let column = Math.max(0, -x); column < Math.min(64, width - x); column++) {
      const from = (row * 64 + column) * 4;
      const to = ((y + row) * width + x + column) * 4;
      for (let c = 0; c < 3; c++) result.data[to + c] = cursor[from + c]! + Math.round((data[to + c]! * (255 - cursor[from + 3]!)) / 255);
    }
  }
  return result;
}

/** guest-draw, built once per content of its source; the guest finds it under the same path. */
function guestDraw(): string {
  const source = join(import.meta.dirname, 'guest-draw.c');
  const key = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const program = join(cacheDir, `guest-draw-${key}`);
  if (!existsSync(program)) {
    mkdirSync(cacheDir, { recursive: true });
    const unfinished = `${program}.${process.pid}`;
    execFileSync('cc', ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-I/usr/include/libdrm', '-o', unfinished, source, '-ldrm'], { stdio: ['ignore', 'inherit', 'inherit'] });
    renameSync(unfinished, program);
  }
  return program;
}
