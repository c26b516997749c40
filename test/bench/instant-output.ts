import { DRM_FORMAT, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { FormatSet, type Framebuffer } from '../../src/core/framebuffer.ts';
import { virtualMonitor } from '../../src/core/monitor.ts';
import {
  DmabufImportRefused,
  type Frame,
  type Handle,
  MutablePresentation,
  type Output,
  type OutputListener,
  type Shadow,
} from '../../src/core/output.ts';
import { Mapping } from '../../src/sys/mapping.ts';

interface BenchHandle extends Handle {
  isHeld: boolean;
}

/** An output that shows a frame when `vblank` is called and reads no pixels, so that it adds nothing to the measured work. */
export class InstantOutput implements Output {
  readonly name = 'bench';
  readonly monitor = virtualMonitor('bench', 1920, 1080, 60_000);
  readonly imports = new FormatSet();
  readonly readsPages: boolean;
  readonly takesFences = false;
  readonly shadowFormats: readonly Fourcc[] = [DRM_FORMAT.XRGB8888];
  readonly maxCursor = { width: 64, height: 64 };
  frames = 0;
  /** A frame waits for `vblank`. */
  isWaiting = false;
  readonly #presentation = new MutablePresentation();
  #listener: OutputListener | null = null;
  #shown: BenchHandle | null = null;
  #pending: BenchHandle | null = null;

  /** With `readsPages` it accepts guest pages directly, otherwise only shadows. */
  constructor(options: { readsPages: boolean }) {
    this.readsPages = options.readsPages;
  }

  attach(listener: OutputListener): Disposable {
    this.#listener = listener;
    return { [Symbol.dispose]: () => (this.#listener = null) };
  }

  import({ backing }: Framebuffer): Handle | DmabufImportRefused {
    if (!this.readsPages || backing.kind !== 'pages')
      return new DmabufImportRefused('format', 'the instant output imports no dma-bufs');
    return { isHeld: false, [Symbol.dispose]: () => undefined };
  }

  createShadow(width: number, height: number, format: Fourcc): Shadow {
    const pixels = Mapping.anonymous(width * height * 4);
    return {
      isHeld: false,
      format,
      width,
      height,
      stride: width * 4,
      pixels,
      beginWrite: () => undefined,
      endWrite: () => undefined,
      [Symbol.dispose]: () => pixels[Symbol.dispose](),
    };
  }

  present(frame: Frame): void {
    this.isWaiting = true;
    this.#pending = frame.primary.handle;
    if (this.#pending) this.#pending.isHeld = true;
  }

  vblank(): void {
    this.frames++;
    this.isWaiting = false;
    const replaced = this.#shown;
    this.#shown = this.#pending;
    if (replaced !== null && replaced !== this.#shown) {
      replaced.isHeld = false;
      this.#listener!.released(replaced);
    }
    this.#listener!.presented(this.#presentation);
  }

  [Symbol.dispose](): void {
    this.#listener = null;
  }
}
