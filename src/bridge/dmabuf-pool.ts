import type { DmabufBacking, Framebuffer, FramebufferId, PagesBacking } from '../core/framebuffer.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { UdmabufDriver, UdmabufError } from '../sys/udmabuf.ts';

/** Which guest pages may be shared with outputs: all that can be, those of blobs, or none. */
export type ZeroCopy = 'auto' | 'blobs' | 'off';

/**
 * As many as one plane keeps handles of. A buffer on screen needs no place here: outputs keep what
 * they imported alive, and a dma-buf that was evicted is made again if another output wants it.
 */
const CAPACITY = 64;

interface SharedFramebuffer extends Framebuffer {
  readonly backing: DmabufBacking & { readonly dmabuf: OwnedFd };
}

/**
 * One dma-buf per framebuffer, shared by all outputs: guest pages through udmabuf, or the reason why
 * not. Owns the dma-bufs until `remove`, and only the newest few, because each takes a descriptor
 * and pins pages of the guest.
 */
export class DmabufPool implements Disposable {
  readonly #policy: ZeroCopy;
  readonly #driver: UdmabufDriver | UdmabufError;
  readonly #known = new Map<FramebufferId, SharedFramebuffer | UdmabufError>();

  constructor(policy: ZeroCopy, driver: UdmabufDriver | UdmabufError = UdmabufDriver.open()) {
    this.#policy = policy;
    this.#driver = driver;
  }

  /** The same framebuffer backed by a dma-buf; null if the policy has its pages copied. */
  get(framebuffer: Framebuffer): Framebuffer | UdmabufError | null {
    const { backing } = framebuffer;
    if (backing.kind === 'dmabuf') return framebuffer;
    if (this.#policy === 'off' || (this.#policy === 'blobs' && !backing.isBlob)) return null;
    if (this.#driver instanceof UdmabufError) return this.#driver;
    const known = this.#known.get(framebuffer.id);
    if (known) return known;
    const [oldest] = this.#known.keys();
    if (oldest !== undefined && this.#known.size >= CAPACITY) this.remove(oldest);
    const made = share(framebuffer, backing, this.#driver);
    this.#known.set(framebuffer.id, made);
    return made;
  }

  remove(id: FramebufferId): void {
    const known = this.#known.get(id);
    this.#known.delete(id);
    if (known && !(known instanceof UdmabufError)) known.backing.dmabuf[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const id of [...this.#known.keys()]) this.remove(id);
    if (this.#driver instanceof UdmabufDriver) this.#driver[Symbol.dispose]();
  }
}

function share(
  framebuffer: Framebuffer,
  { ranges }: PagesBacking,
  driver: UdmabufDriver,
): SharedFramebuffer | UdmabufError {
  try {
    return { ...framebuffer, backing: { kind: 'dmabuf', dmabuf: driver.create(ranges) } };
  } catch (error) {
    if (error instanceof UdmabufError) return error;
    throw error;
  }
}
