import type { Output } from '../../../src/core/output.ts';

/** Between an output and its listener: which vertical blank the last frame came with. */
export class BlankWatch {
  sequence = 0;

  /** Before anybody listens. */
  follow(output: Output): void {
    const attach = output.attach.bind(output);
    output.attach = (listener, options) =>
      attach({
        scanout: listener.scanout,
        input: listener.input,
        presented: (timeMs, refreshMhz, sequence, flags) => {
          this.sequence = sequence;
          listener.presented(timeMs, refreshMhz, sequence, flags);
        },
        released: (handle) => listener.released(handle),
        resized: (monitor) => listener.resized(monitor),
        importsChanged: () => listener.importsChanged(),
        closed: (reason) => listener.closed(reason),
      }, options);
  }
}
