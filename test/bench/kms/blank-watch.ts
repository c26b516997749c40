import type { Output } from '../../../src/core/output.ts';

/** Sits between an output and its listener and records which vertical blank the last frame was shown at. */
export class BlankWatch {
  sequence = 0;

  /** Must be called before a listener is attached. */
  follow(output: Output): void {
    const attach = output.attach.bind(output);
    output.attach = (listener, options) =>
      attach(
        {
          scanout: listener.scanout,
          input: listener.input,
          presented: (presentation) => {
            this.sequence = presentation.sequence;
            listener.presented(presentation);
          },
          released: (handle) => listener.released(handle),
          resized: (monitor) => listener.resized(monitor),
          importsChanged: () => listener.importsChanged(),
          closed: (reason) => listener.closed(reason),
        },
        options,
      );
  }
}
