import { constants, openSync, readSync, writeFileSync } from 'node:fs';
import { OwnedFd } from '../../src/sys/fd.ts';
import { Poll } from '../../src/sys/poll.ts';

/** A line is the frame's number and the checksum, as `0x%08x 0x%08x\n`. */
const LINE_LENGTH = 64;

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

  /** Resolves with the pictures shown, up to and with the first frame of `crc`. The test's own time ends the wait. */
  async until(crc: string): Promise<string[]> {
    while (!this.#seen.includes(crc)) await this.#frame();
    return this.#take(this.#seen.indexOf(crc) + 1);
  }

  /** Resolves with the picture that follows the one shown last, which is any one at first. */
  async next(): Promise<string> {
    while (this.#seen.length < 2) await this.#frame();
    return this.#take(2)[1]!;
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
    return new Promise((resolve) => (this.#onFrame = resolve));
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
        const crc = Buffer.from(this.#line.subarray(0, length)).toString('latin1').trim().split(' ')[1]!;
        this.#frames++;
        if (crc !== this.#seen.at(-1)) this.#seen.push(crc);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    }
    this.#onFrame?.();
  }
}
