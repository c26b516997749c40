import { constants, openSync, readSync, writeFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { Picture } from '../../src/core/picture.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { Poll } from '../../src/sys/poll.ts';

const MAX_FRAMES = 600;

/** One read gives one line: the frame's number, the checksum, and a byte after the end that Linux (6.12) does not set. */
const LINE = /^0x[0-9a-f]{8} (0x[0-9a-f]{8})\n/;
const LINE_LENGTH = 64;

/** The checksum vkms makes of a screen: Linux' crc32_le, begun at 0, over all pixels as 16-bit A, R, G, B. */
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
 * What a CRTC shows, frame after frame, as the checksums its hardware makes of them: a way to see a
 * screen that another process drives. Its CRTC is on (else SysError EIO); needs root and debugfs.
 */
export class CrtcCrc implements Disposable {
  /** Pictures seen since the last `take`, oldest first, each once for as long as it was shown. */
  #seen: string[] = [];
  #frames = 0;
  readonly #fd: OwnedFd;
  readonly #poll: Poll;
  readonly #line = new Uint8Array(LINE_LENGTH);
  #onFrame: (() => void) | null = null;

  /** `card` as `/dev/dri/card0`. */
  constructor(card: string) {
    const directory = `/sys/kernel/debug/dri/${card.replace(/\D+/, '')}/crtc-0/crc`;
    writeFileSync(`${directory}/control`, 'auto');
    this.#fd = OwnedFd.adopt(openSync(`${directory}/data`, constants.O_RDONLY | constants.O_NONBLOCK));
    this.#poll = Poll.readable(this.#fd, () => this.#read());
  }

  /** Resolves with the pictures shown, up to and with the first frame of `crc`. Rejects when it is not among the next few hundred. */
  async until(crc: string): Promise<string[]> {
    const end = this.#frames + MAX_FRAMES;
    while (!this.#seen.includes(crc)) {
      if (this.#frames >= end) throw new Error(`${crc} is not shown; shown were ${this.#seen.join(', ')}`);
      await this.#frame();
    }
    return this.#take(this.#seen.indexOf(crc) + 1);
  }

  /** Resolves with the pictures shown during the next `count` frames. */
  async during(count: number): Promise<string[]> {
    for (const end = this.#frames + count; this.#frames < end; ) await this.#frame();
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

  /** The last one taken goes on being shown. */
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
