/**
 * A guest of another process in a window: what `scanout run --output export:SOCKET` exports, shown on the Wayland
 * desktop. No pixel is copied where the bridge exports dma-bufs and the compositor imports them.
 *
 *     node build/exported-window.js SOCKET
 */
import {
  Bridge,
  Damage,
  type Framebuffer,
  Mapping,
  MemoryBudget,
  newFramebufferId,
  PageRuns,
  type Source,
  type SourceSink,
} from 'scanout-bridge';
import { ExportedDisplay, type ExportedFrame, type ExportedLayer, type ImportedBuffer } from 'scanout-bridge/import';
import { WaylandWindows } from 'scanout-bridge/wayland';

/** The exported frames as a guest. */
class ExportedGuest implements Source {
  readonly scanouts: number;
  /** The bridge's shadows are charged to it. */
  readonly budget = new MemoryBudget(256 * 2 ** 20);
  readonly #display: ExportedDisplay;
  /** What the window made of a buffer is kept until that is gone. */
  readonly #framebuffers = new Map<ImportedBuffer, { readonly framebuffer: Framebuffer; mapping: Mapping | null }>();
  /** By scanout: the frame whose buffer is on screen. */
  readonly #shown = new Map<number, ExportedFrame>();
  #sink: SourceSink | null = null;

  constructor(display: ExportedDisplay) {
    this.#display = display;
    this.scanouts = display.scanouts;
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
  }

  /** The guest has the bridge's monitor. */
  setMonitor(): void {}

  /** Resolves when the bridge ends. */
  async play(): Promise<void> {
    for await (const frame of this.#display) {
      if (frame.scanout === null) frame[Symbol.dispose]();
      else this.#show(frame, frame.scanout);
    }
  }

  [Symbol.dispose](): void {
    this.#sink = null;
    for (const frame of this.#shown.values()) frame[Symbol.dispose]();
    for (const { mapping } of this.#framebuffers.values()) mapping?.[Symbol.dispose]();
  }

  #show(frame: ExportedFrame, scanout: number): void {
    const sink = this.#sink;
    const { primary, cursor } = frame;
    const before = this.#shown.get(scanout);
    // The window reads the buffer until the next frame has replaced it.
    this.#shown.set(scanout, frame);
    if (!sink || !primary) {
      sink?.scanout(scanout, null, { x: 0, y: 0, width: 0, height: 0 });
      before?.[Symbol.dispose]();
      return;
    }
    if (cursor && frame.isCursorNew)
      sink.cursor(scanout, this.#framebufferOf(cursor), frame.hotspotX, frame.hotspotY, cursor.dst.x, cursor.dst.y);
    else if (cursor) sink.cursorMoved(scanout, cursor.dst.x, cursor.dst.y);
    else if (before?.cursor) sink.cursor(scanout, null, 0, 0, 0, 0);
    const damage = new Damage();
    for (const rect of frame.damage) damage.addRect(rect);
    sink.scanout(scanout, this.#framebufferOf(primary), primary.src);
    sink.flush(scanout, damage, { isFenced: true, done: () => before?.[Symbol.dispose]() });
  }

  /** The same object for the same buffer, so that a flip imports nothing. */
  #framebufferOf(layer: ExportedLayer): Framebuffer {
    const { buffer, width, height, format, modifier, planes } = layer;
    const known = this.#framebuffers.get(buffer);
    if (known) return known.framebuffer;
    const entry: { framebuffer: Framebuffer; mapping: Mapping | null } = {
      mapping: null,
      framebuffer: {
        ...{ id: newFramebufferId(), width, height, format, modifier, planes },
        backing:
          buffer.kind === 'dmabuf'
            ? { kind: 'dmabuf', dmabuf: buffer.fd }
            : {
                kind: 'pages',
                isBlob: false,
                // Copies are read, not shared.
                ranges: PageRuns.none,
                pixels: () => (entry.mapping ??= Mapping.file(buffer.fd, 0, buffer.byteLength, 'read')),
              },
      },
    };
    this.#framebuffers.set(buffer, entry);
    buffer.onGone = () => {
      this.#framebuffers.delete(buffer);
      this.#sink?.destroyed(entry.framebuffer);
      entry.mapping?.[Symbol.dispose]();
    };
    return entry.framebuffer;
  }
}

const [socket] = process.argv.slice(2);
if (socket === undefined) throw new Error('usage: exported-window SOCKET');

using display = await ExportedDisplay.connect(socket);
using guest = new ExportedGuest(display);
using windows = await WaylandWindows.open({
  title: `exported by ${socket}`,
  onClosed: () => display[Symbol.dispose](),
});
using bridge = new Bridge(guest, { log: (level, message) => console.error(`${level}: ${message}`) });
windows.openOutputs(guest.scanouts).forEach((output, index) => bridge.show(index, output));
await guest.play();
