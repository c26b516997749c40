import { constants, openSync, readSync, writeFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { Picture } from '../../src/core/picture.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { Poll } from '../../src/sys/poll.ts';

const MAX_FRAMES = 600;

/** Each read returns one line: the frame's number, the checksum, and a byte after the end that Linux 6.12 leaves unset. */
const LINE = /^0x[0-9a-f]{8} (0x[0-9a-f]{8})\n/;
const LINE_LENGTH = 64;

/** The checksum that vkms computes of a screen: Linux's crc32_le, starting at 0, over all pixels as 16-bit A, R, G, B. */
export function checksum({ data }: Picture): string {
  const words = new Uint16Array(data.length);
  for (let at = 0; at < data.length; at += 4) {
    words[at] = 0xffff;
    words[at + 1] = data[at]! * 257;
    words[at + 2] = data[at + 1]! * 257;
    words[at + 3] = data[at + 2]! * 257;
  }
  // zlib inverts the value before and after.
  return `0x${(~crc32(words, 0xffffffff) >>> 0).toString(16).padStart(8, '0')}`;
}

/**
 * Reads the checksum that the hardware computes of every frame on a CRTC: a way to observe a screen
 * that another process drives. The CRTC must be on, else opening it fails with EIO. Needs root and
 * debugfs.
 */
export class CrtcCrc implements Disposable {
  /** Checksums of the pictures seen since the last `#take`, oldest first; equal frames in a row count once. */
  #seen: string[] = [];
  #frames = 0;
  readonly #fd: OwnedFd;
  readonly #poll: Poll;
  readonly #line = new Uint8Array(LINE_LENGTH);
  #onFrame: (() => void) | null = null;

  /** `card` is a path such as `/dev/dri/card0`. */
  constructor(card: string) {
    const directory = `/sys/kernel/debug/dri/${card.replace(/\D+/, '')}/crtc-0/crc`;
    writeFileSync(`${directory}/control`, 'auto');
    this.#fd = OwnedFd.adopt(openSync(`${directory}/data`, constants.O_RDONLY | constants.O_NONBLOCK));
    this.#poll = Poll.readable(this.#fd, () => this.#read());
  }

  /** Resolves with the checksums up to and including `crc`. Rejects if `crc` is not among the next few hundred frames. */
  async until(crc: string): Promise<string[]> {
    const end = this.#frames + MAX_FRAMES;
    while (!this.#seen.includes(crc)) {
      if (this.#frames >= end) throw new Error(`${crc} was not shown, only ${this.#seen.join(', ')}`);
      await this.#frame();
    }
    return this.#take(this.#seen.indexOf(crc) + 1);
  }

  /** Resolves with the checksums of the pictures shown during the next `count` frames. */
  async during(count: number): Promise<string[]> {
    for (const end = this.#frames + count; this.#frames < end;) await this.#frame();
    return this.#take(this.#seen.length);
  }

  [Symbol.dispose](): void {
    this.#poll[Symbol.dispose]();
    this.#fd[Symbol.dispose]();
  }

  #frame(): Promise<void> {
    return new Promise((resolve) => {
      this.#onFrame = resolve;
    });
  }

  /** Keeps the last one taken, because it is still on screen. */
  #take(count: number): string[] {
    const taken = this.#seen.slice(0, count);
    this.#seen = this.#seen.slice(count - 1);
    return taken;
  }

  #read(): void {
    try {
      for (;;) {
        const length = readSync(this.#fd.fd, this.#line, 0, LINE_LENGTH, null);
        const [, crc] = LINE.exec(Buffer.from(this.#line.subarray(0, length)).toString('latin1'))!;
        this.#frames++;
        if (crc !== this.#seen.at(-1)) this.#seen.push(crc!);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    this.#onFrame?.();
  }
}
