import type { Rect } from '../../src/core/geometry.ts';
import type { Picture } from '../../src/core/picture.ts';

/** How many changes the message tells of: those of the start of a wait, a whole boot, say nothing of its end. */
const TOLD = 16;
/** Changes of something not larger, in pixels, that come again and again are a cursor's. */
const CURSOR_SIDE = 64;

/** What a screen did during a wait, for the message of one that was in vain. */
export class ChangeLog {
  #frames = 0;
  #changes = 0;
  readonly #newest: { readonly timeMs: number; readonly box: Rect }[] = [];

  /** A frame, and around what it changed; null: nothing that counts. */
  add(timeMs: number, box: Rect | null): void {
    this.#frames++;
    if (!box) return;
    this.#changes++;
    this.#newest.push({ timeMs, box });
    if (this.#newest.length > TOLD) this.#newest.shift();
  }

  /** What changed, what is shown now and what to do: sentences for a person. */
  advice(picture: Picture | null, rung: string | null): string {
    const now = picture ? `Shown now: ${pictureText(picture)}${rung === null ? '' : ` (rung ${rung})`}.` : 'The screen is dark: has the guest started, and has it a driver for virtio-gpu?';
    return [this.#story(), ...this.#cause(), now].join(' ');
  }

  #story(): string {
    const { length } = this.#newest;
    if (this.#frames === 0) return 'No frame came meanwhile.';
    if (length === 0) return `${count(this.#frames, 'frame')} came and changed nothing that counts.`;
    const took = this.#newest[length - 1]!.timeMs - this.#newest[0]!.timeMs;
    const rate = length > 1 ? `, one every ${Math.round(took / (length - 1))} ms` : '';
    return `${this.#changes} of ${count(this.#frames, 'frame')} changed something, the last ${length} of them within ${rectText(this.#box())}${rate}.`;
  }

  #cause(): string[] {
    if (this.#newest.length < 2) return [];
    const box = this.#box();
    if (box.width > CURSOR_SIDE || box.height > CURSOR_SIDE) return [];
    const { x, y, width, height } = box;
    return [`That looks like a blinking cursor: turn it off in the guest (on Linux's console: vt.global_cursor_default=0 on its command line), or leave it out with masks: [{ x: ${x}, y: ${y}, width: ${width}, height: ${height} }].`];
  }

  #box(): Rect {
    const boxes = this.#newest.map(({ box }) => box);
    const x = Math.min(...boxes.map((box) => box.x));
    const y = Math.min(...boxes.map((box) => box.y));
    return { x, y, width: Math.max(...boxes.map((box) => box.x + box.width)) - x, height: Math.max(...boxes.map((box) => box.y + box.height)) - y };
  }
}

export function rectText({ x, y, width, height }: Rect): string {
  return `${width}x${height}+${x}+${y}`;
}

function pictureText({ width, height, data }: Picture): string {
  const pixels = new Uint32Array(data.buffer, data.byteOffset, data.length >>> 2);
  const first = pixels[0]!;
  if (pixels.some((pixel) => pixel !== first)) return `a picture of ${width}x${height}`;
  return `${width}x${height}, every pixel #${[...data.subarray(0, 3)].map((channel) => channel.toString(16).padStart(2, '0')).join('')}`;
}

function count(amount: number, what: string): string {
  return `${amount} ${what}${amount === 1 ? '' : 's'}`;
}
