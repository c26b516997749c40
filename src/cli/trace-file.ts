import { closeSync, writeSync } from 'node:fs';
import type { TracedFrame } from '../control/protocol.ts';
import { openReplacement } from '../sys/replace-file.ts';

/**
 * A trace that Perfetto (ui.perfetto.dev) and chrome://tracing show: an array of the Trace Event Format, whose end may be
 * missing. Each output is a process with a row for its frames; a frame has a part for each stage.
 */
export class TraceFile implements Disposable {
  readonly #fd: number;
  readonly #outputs = new Map<string, number>();
  #frames = 0;

  /** Throws as `openReplacement`. */
  constructor(path: string) {
    this.#fd = openReplacement(path);
    writeSync(this.#fd, '[\n');
  }

  get frames(): number {
    return this.#frames;
  }

  /** Throws Node's error. */
  write(frames: readonly TracedFrame[]): void {
    const events = frames.flatMap((frame) => this.#eventsOf(frame));
    writeSync(this.#fd, events.map((event) => `${JSON.stringify(event)},\n`).join(''));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #eventsOf({ output, flushed, staged, presented, onScreen, released }: TracedFrame): object[] {
    const events: object[] = [];
    let pid = this.#outputs.get(output);
    if (pid === undefined) {
      pid = this.#outputs.size + 1;
      this.#outputs.set(output, pid);
      events.push({ name: 'process_name', ph: 'M', pid, tid: 0, args: { name: output } });
    }
    const id = ++this.#frames;
    const part = (name: string, from: number, to: number): void => {
      const common = { name, cat: 'frame', id, pid, tid: 0 };
      events.push({ ...common, ph: 'b', ts: from * 1000 }, { ...common, ph: 'e', ts: to * 1000 });
    };
    part('frame', flushed, released ?? onScreen);
    part('copy', flushed, staged);
    part('wait for the output', staged, presented);
    part('on the way to the screen', presented, onScreen);
    if (released !== null && released > onScreen) part('on screen', onScreen, released);
    return events;
  }
}
