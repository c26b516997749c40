import { formatInfo, planeSize } from '../../protocols/drm-fourcc.ts';
import type { MemoryBudget } from '../core/budget.ts';
import type { DmabufBacking, Framebuffer, FramebufferId, PixelLayout } from '../core/framebuffer.ts';
import { ScanoutError } from '../sys/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { PAGE_SIZE } from '../sys/mapping.ts';
import type { PageRuns } from '../sys/page-runs.ts';
import { UdmabufDriver, UdmabufError } from '../sys/udmabuf.ts';

/**
 * Which guest pages outputs may read after a flush: those of blobs, whose guest waits for that before it draws again, all
 * of them, or none. Linux does not wait for other pages, so a screen that reads those can show parts of two frames.
 */
export type ZeroCopy = 'auto' | 'all' | 'off';

/** Each takes a descriptor. More than guests flip between on all their monitors. */
const CAPACITY = 256;

/** The share of the budget that may stay pinned for pictures that are not on screen. The rest is for copies and stores. */
const IDLE_SHARE = 0.5;

/** There is no room for another dma-buf now. */
export class PoolFull extends ScanoutError<'over-budget' | 'too-many'> {
  readonly isLasting = false;
}

interface SharedFramebuffer extends Framebuffer {
  readonly backing: DmabufBacking & { readonly dmabuf: OwnedFd };
}

interface Entry {
  readonly framebuffer: SharedFramebuffer;
  /** Bytes of the pages that it pins. */
  readonly byteLength: number;
  users: number;
}

/**
 * One dma-buf for each framebuffer in guest pages that some output shows, made through udmabuf. It pins the pages of the
 * picture, which then stay in memory even if the guest returns them to its VMM (by a balloon), so they are charged to
 * the guest's budget.
 */
export class DmabufPool implements Disposable {
  readonly #policy: ZeroCopy;
  readonly #budget: MemoryBudget;
  readonly #open: () => UdmabufDriver | UdmabufError;
  #driver: UdmabufDriver | UdmabufError;
  readonly #entries = new Map<FramebufferId, Entry>();
  #pinnedBytes = 0;

  /** Tests replace `open`. */
  constructor(
    policy: ZeroCopy,
    budget: MemoryBudget,
    open: () => UdmabufDriver | UdmabufError = () => UdmabufDriver.open(),
  ) {
    this.#policy = policy;
    this.#budget = budget;
    this.#open = open;
    this.#driver = open();
  }

  /** Outputs may import the framebuffer's memory. */
  allows(framebuffer: Framebuffer): boolean {
    const { backing } = framebuffer;
    if (backing.kind === 'dmabuf') return true;
    return (
      backing.kind === 'pages' && backing.ranges.count > 0 && this.#policy !== 'off' && this.allowsReading(framebuffer)
    );
  }

  /** Outputs that read guest pages themselves may read the framebuffer's. */
  allowsReading({ backing }: Framebuffer): boolean {
    return backing.kind === 'pages' && (backing.isBlob || this.#policy === 'all');
  }

  /**
   * The same framebuffer backed by a dma-buf, until the caller calls `release`. If `isPressing` is false, PoolFull
   * already while the caller should rather give up pictures that are not on screen. Nothing is to be released after an
   * error.
   */
  take(framebuffer: Framebuffer, isPressing: boolean): Framebuffer | UdmabufError | PoolFull {
    const { backing, id } = framebuffer;
    if (backing.kind !== 'pages') return framebuffer;
    const entry = this.#entries.get(id) ?? this.#make(framebuffer, backing.ranges, isPressing);
    if (entry instanceof Error) return entry;
    entry.users++;
    return entry.framebuffer;
  }

  /** Undoes one `take`. Does nothing for a framebuffer that was a dma-buf already. */
  release(id: FramebufferId): void {
    const entry = this.#entries.get(id);
    if (!entry || --entry.users > 0) return;
    this.#entries.delete(id);
    this.#pinnedBytes -= entry.byteLength;
    this.#budget.release(entry.byteLength);
    entry.framebuffer.backing.dmabuf[Symbol.dispose]();
  }

  /** Every user has released what it took. */
  [Symbol.dispose](): void {
    if (!(this.#driver instanceof UdmabufError)) this.#driver[Symbol.dispose]();
  }

  #make(framebuffer: Framebuffer, ranges: PageRuns, isPressing: boolean): Entry | UdmabufError | PoolFull {
    if (this.#driver instanceof UdmabufError && !this.#driver.isLasting) this.#driver = this.#open();
    if (this.#driver instanceof UdmabufError) return this.#driver;
    const shown = shownPages(framebuffer, ranges);
    const full = this.#reserve(shown.byteLength, isPressing);
    if (full) return full;
    try {
      const dmabuf = this.#driver.create(shown.ranges);
      const { byteLength, planes } = shown;
      const { uuid, ...description } = framebuffer;
      const isWhole = planes[0]!.offset === framebuffer.planes[0]!.offset;
      const shared: SharedFramebuffer = {
        ...description,
        planes,
        backing: { kind: 'dmabuf', dmabuf },
        // A dma-buf that begins elsewhere is another one.
        ...(uuid && isWhole && { uuid }),
      };
      const entry: Entry = { framebuffer: shared, byteLength, users: 0 };
      this.#entries.set(framebuffer.id, entry);
      return entry;
    } catch (error) {
      this.#pinnedBytes -= shown.byteLength;
      this.#budget.release(shown.byteLength);
      if (error instanceof UdmabufError) return error;
      throw error;
    }
  }

  #reserve(byteLength: number, isPressing: boolean): PoolFull | null {
    const { limit } = this.#budget;
    if (this.#entries.size >= CAPACITY) return new PoolFull('too-many', `the guest has ${CAPACITY} shared pictures`);
    if ((!isPressing && this.#pinnedBytes + byteLength > limit * IDLE_SHARE) || !this.#budget.reserve(byteLength))
      return new PoolFull(
        'over-budget',
        `${byteLength} bytes of guest pages would exceed the limit of ${limit} bytes, raise --max-guest-memory`,
      );
    this.#pinnedBytes += byteLength;
    return null;
  }
}

/** The pages that a picture lies in, and its planes as they lie in those. A blob may be much larger than the picture. */
export function shownPages(
  { planes, format, height }: PixelLayout,
  ranges: PageRuns,
): { ranges: PageRuns; planes: PixelLayout['planes']; byteLength: number } {
  const info = formatInfo(format);
  const ends = planes.map(
    ({ offset, stride }, i) => offset + (info?.planes[i] ? planeSize(info, i, stride, height) : stride * height),
  );
  const start = Math.floor(Math.min(...planes.map(({ offset }) => offset)) / PAGE_SIZE) * PAGE_SIZE;
  const shown = ranges.slice(start, Math.ceil(Math.max(...ends) / PAGE_SIZE) * PAGE_SIZE);
  return {
    ranges: shown,
    planes: planes.map(({ offset, stride }) => ({ offset: offset - start, stride })),
    byteLength: shown.length,
  };
}
