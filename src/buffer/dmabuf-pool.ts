import type { Framebuffer, FramebufferId } from '../core/framebuffer.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { UdmabufDriver, UdmabufError } from './udmabuf.ts';

/** Which guest pages may be shared with outputs as they are. */
export type ZeroCopy = 'auto' | 'blobs' | 'off';

/**
 * As many as one plane keeps handles of. What is shown needs no place here: outputs keep what
 * they imported alive, and a dma-buf given up is made again should another output want it.
 */
const CAPACITY = 64;

/**
 * One dma-buf per framebuffer, whichever outputs show it: guest pages through udmabuf, or why
 * not. Owns the dma-bufs until `forget`, and the newest few only: each is a descriptor of ours
 * and pins pages of the guest.
 */
export class DmabufPool implements Disposable {
  readonly #policy: ZeroCopy;
  readonly #driver: UdmabufDriver | UdmabufError;
  readonly #dmabufs = new Map<FramebufferId, Framebuffer | UdmabufError>();
  readonly #fds = new Map<FramebufferId, OwnedFd>();

  constructor(policy: ZeroCopy, driver: UdmabufDriver | UdmabufError = UdmabufDriver.open()) {
    this.#policy = policy;
    this.#driver = driver;
  }

  /** The same framebuffer backed by a dma-buf; null when the policy keeps its pages to copying. */
  get(framebuffer: Framebuffer): Framebuffer | UdmabufError | null {
    const { backing } = framebuffer;
    if (backing.kind === 'dmabuf') return framebuffer;
    if (this.#policy === 'off' || (this.#policy === 'blobs' && !backing.isBlob)) return null;
    if (this.#driver instanceof UdmabufError) return this.#driver;
    const known = this.#dmabufs.get(framebuffer.id);
    if (known) return known;
    const [oldest] = this.#dmabufs.keys();
    if (oldest !== undefined && this.#dmabufs.size >= CAPACITY) this.forget(oldest);
    let made: Framebuffer | UdmabufError;
    try {
      const dmabuf = this.#driver.create(backing.ranges);
      this.#fds.set(framebuffer.id, dmabuf);
      made = { ...framebuffer, backing: { kind: 'dmabuf', dmabuf } };
    } catch (error) {
      if (!(error instanceof UdmabufError)) throw error;
      made = error;
    }
    this.#dmabufs.set(framebuffer.id, made);
    return made;
  }

  forget(id: FramebufferId): void {
    this.#dmabufs.delete(id);
    this.#fds.get(id)?.[Symbol.dispose]();
    this.#fds.delete(id);
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.values()) fd[Symbol.dispose]();
    this.#fds.clear();
    this.#dmabufs.clear();
    if (this.#driver instanceof UdmabufDriver) this.#driver[Symbol.dispose]();
  }
}
