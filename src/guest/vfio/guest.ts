import { DRM_PLANE_TYPE_CURSOR, DRM_PLANE_TYPE_PRIMARY } from '../../../protocols/drm-mode.ts';
import { MemoryBudget } from '../../core/budget.ts';
import { Damage } from '../../core/damage.ts';
import type { Framebuffer } from '../../core/framebuffer.ts';
import { EMPTY_RECT, MutableRect } from '../../core/geometry.ts';
import { limitLog, type Log, logOnce, type LogOnce } from '../../core/log.ts';
import type { Monitor } from '../../core/monitor.ts';
import type { Flush, ScanoutId, Source, SourceSink } from '../../core/source.ts';
import { VblankClock, VblankTimer } from '../../core/vblank.ts';
import { errnoName, SysError } from '../../sys/errors.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import { Pump } from '../../sys/pump.ts';
import { accessTo, type DeviceAccess, type VfioAddress } from './access.ts';
import { MAX_CURSOR_SIDE, MAX_SIDE, type PlaneMode, type VfioDevice, VfioError } from './device.ts';
import { DmabufPicture, DmabufPictures } from './dmabuf-pictures.ts';
import { EdidRegion } from './edid-region.ts';
import { RegionPicture } from './region-picture.ts';

export interface VfioGuestOptions {
  /** How the device is reached. What it owns is consumed even when `open` fails. */
  readonly device: VfioAddress;
  /** Limit in bytes of the copies of planes in regions, and of the bridge's shadows; default 512 MiB. */
  readonly maxGuestMemory?: number;
  readonly log?: Log;
}

export interface VfioStats {
  /** How the device hands out its planes; null while there is no device. */
  mode: PlaneMode | null;
  /** How often the planes were looked at, and how often there was another buffer. */
  looks: number;
  flips: number;
  /** dma-bufs that are open, and how many were opened so far. */
  dmabufs: number;
  opened: number;
  /** Ids that the device took back before their dma-buf could be opened. */
  stale: number;
  /** Bytes copied out of regions. */
  copiedBytes: number;
}

const DEFAULT_MAX_GUEST_MEMORY = 512 * 2 ** 20;
/** A guest that flips faster than it can be asked is looked at again in the next refresh. */
const ATTEMPTS = 3;
/** What a device answers that is gone, or whose driver is. Other errors may pass. */
const GONE: ReadonlySet<string> = new Set(['ENODEV', 'ENXIO', 'EIO', 'ENOTTY', 'EBADF']);

/**
 * The display of a virtual GPU (a mediated device): one scanout, whose planes the device describes when asked. They are
 * looked at once per refresh of the screen, and not at all while there is none.
 *
 *     using guest = VfioGuest.open({ device: { pid: 1234 } });
 *     using bridge = new Bridge(guest);
 *     bridge.show(0, output);
 *
 * When the VMM or the device goes away, screens keep a copy of the last picture, and the device is looked for again.
 */
export class VfioGuest implements Source {
  readonly scanouts = 1;
  readonly budget: MemoryBudget;
  readonly #access: DeviceAccess;
  readonly #log: Log;
  #logOnce: LogOnce;
  #sink: SourceSink | null = null;
  #monitor: Monitor | null = null;

  #device: VfioDevice | null = null;
  #edid: EdidRegion | null = null;
  #hasCursor = true;
  readonly #pictures = new DmabufPictures();
  #hasNewPicture = false;
  #region: RegionPicture | null = null;
  #cursorRegion: RegionPicture | null = null;
  #shown: Framebuffer | null = null;
  #cursor: Framebuffer | null = null;
  #cursorX = 0;
  #cursorY = 0;
  #hotspotX = 0;
  #hotspotY = 0;

  #clock: VblankClock | null = null;
  readonly #timer = new VblankTimer(() => {
    this.#isTimerSet = false;
    this.#look();
  });
  #isTimerSet = false;
  readonly #comparing = new Pump(() => this.#compare());
  #isFlushing = false;
  #isInFlush = false;
  readonly #rect = new MutableRect();
  readonly #damage = new Damage();
  readonly #flush: Flush;
  readonly #stats: VfioStats = {
    mode: null,
    looks: 0,
    flips: 0,
    dmabufs: 0,
    opened: 0,
    stale: 0,
    copiedBytes: 0,
  };

  private constructor(
    access: DeviceAccess,
    { log = () => undefined, maxGuestMemory = DEFAULT_MAX_GUEST_MEMORY }: Omit<VfioGuestOptions, 'device'>,
  ) {
    this.#log = limitLog(log);
    this.#logOnce = logOnce(this.#log);
    this.budget = new MemoryBudget(maxGuestMemory);
    this.#access = access;
    this.#flush = { isFenced: true, isPaced: true, done: () => this.#flushed() };
  }

  /** VfioError if there is no such device and none can be expected; SysError EADDRINUSE, EACCES... for a socket. */
  static open({ device, ...options }: VfioGuestOptions): VfioGuest {
    return VfioGuest.over(accessTo(device), options);
  }

  /** @internal Takes ownership of `access`. Tests have one without a kernel. */
  static over(access: DeviceAccess, options: Omit<VfioGuestOptions, 'device'>): VfioGuest {
    const guest = new VfioGuest(access, options);
    try {
      access.start({
        opened: (device) => guest.#open(device),
        lost: (reason) => guest.#lose(reason),
        failed: (error) => guest.#logOnce('warn', `vfio: ${error.message}`),
      });
      return guest;
    } catch (error) {
      guest[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether there is a device. */
  get isConnected(): boolean {
    return this.#device !== null;
  }

  get stats(): VfioStats {
    const copied = (this.#region?.copiedBytes ?? 0) + (this.#cursorRegion?.copiedBytes ?? 0);
    return {
      ...this.#stats,
      mode: this.#device?.mode ?? null,
      dmabufs: this.#pictures.count,
      copiedBytes: this.#stats.copiedBytes + copied,
    };
  }

  connect(sink: SourceSink): void {
    this.#sink = sink;
    // The next look reports what there is.
    this.#shown = null;
    this.#cursor = null;
    this.#schedule();
  }

  setMonitor(_id: ScanoutId, monitor: Monitor | null): void {
    this.#monitor = monitor;
    this.#clock = monitor && new VblankClock(monitor.refreshMhz);
    this.#showEdid();
    this.#schedule();
  }

  [Symbol.dispose](): void {
    this.#sink = null;
    this.#access[Symbol.dispose]();
    this.#timer[Symbol.dispose]();
    this.#comparing[Symbol.dispose]();
    this.#clock = null;
    this.#close();
  }

  #open(device: VfioDevice): void {
    this.#device = device;
    this.#logOnce = logOnce(this.#log);
    this.#hasCursor = true;
    const how = device.mode === 'dma-buf' ? 'dma-bufs' : 'a region of the device, whose changes are copied';
    this.#log('info', `vfio: showing the planes of a device, which are ${how}`);
    this.#edid = EdidRegion.find(device);
    this.#showEdid();
    this.#schedule();
  }

  /** Screens keep a copy of the picture. */
  #lose(reason: string): void {
    if (!this.#device) return;
    this.#log('warn', `vfio: ${reason}; the last picture stays`);
    this.#sink?.halted();
    this.#close();
  }

  #close(): void {
    const { stats } = this;
    this.#pictures.clear((picture) => this.#sink?.destroyed(picture));
    for (const region of [this.#region, this.#cursorRegion]) {
      if (!region) continue;
      this.#sink?.destroyed(region);
      region[Symbol.dispose]();
    }
    this.#stats.copiedBytes = stats.copiedBytes;
    this.#region = null;
    this.#cursorRegion = null;
    this.#shown = null;
    this.#cursor = null;
    this.#edid = null;
    this.#device?.[Symbol.dispose]();
    this.#device = null;
  }

  #showEdid(): void {
    try {
      this.#edid?.show(this.#monitor);
    } catch (error) {
      this.#logOnce('warn', `vfio: the guest cannot be told its monitor: ${String(error)}`, 'edid');
    }
  }

  /** Looks at the planes in the next refresh, unless a picture is on its way: then once that is on screen. */
  #schedule(): void {
    if (this.#isTimerSet || this.#isFlushing || this.#comparing.isBusy || !this.#device || !this.#sink || !this.#clock)
      return;
    this.#isTimerSet = true;
    this.#timer.set(this.#clock);
  }

  #flushed(): void {
    this.#isFlushing = false;
    // A screen that is done at once must not be asked at once again.
    if (this.#isInFlush) return;
    this.#look();
  }

  #look(): void {
    const device = this.#device;
    if (!device || !this.#sink || !this.#clock || this.#isFlushing || this.#isTimerSet) return;
    this.#stats.looks++;
    try {
      if (device.mode === 'dma-buf') this.#lookAtDmabufs(device, this.#sink);
      else this.#lookAtRegions(device, this.#sink);
    } catch (error) {
      this.#fail(error);
    }
    this.#schedule();
  }

  /** A device that is gone is given back; one that describes nonsense shows its last picture. */
  #fail(error: unknown): void {
    if (!(error instanceof VfioError || error instanceof SysError)) throw error;
    if (error instanceof VfioError && error.code === 'gone') {
      this.#lose(error.message);
      this.#access.abandon();
      return;
    }
    this.#logOnce('warn', `vfio: ${error.message}`, error.code);
  }

  #lookAtDmabufs(device: VfioDevice, sink: SourceSink): void {
    this.#show(this.#currentDmabuf(device, DRM_PLANE_TYPE_PRIMARY), sink);
    // What is drawn into a dma-buf is not reported: each look shows all of it.
    if (this.#shown) this.#flushWhole(sink);
    if (this.#hasCursor && this.#device === device) this.#lookAtCursorDmabuf(device, sink);
    if (this.#hasNewPicture) this.#pictures.trim(this.#shown, this.#cursor, (picture) => sink.destroyed(picture));
    this.#hasNewPicture = false;
  }

  #lookAtCursorDmabuf(device: VfioDevice, sink: SourceSink): void {
    const cursor = this.#currentDmabuf(device, DRM_PLANE_TYPE_CURSOR);
    // Most devices draw the cursor into the picture. They refuse to be asked, or answer with the primary plane.
    if (cursor && cursor === this.#shown) this.#hasCursor = false;
    else this.#showCursor(cursor, device, sink, false);
  }

  /** Null if the plane is off. Asks again if the picture was another one by the time its dma-buf was opened. Throws VfioError, SysError. */
  #currentDmabuf(device: VfioDevice, type: number): DmabufPicture | null {
    const { answer } = device;
    let failure = 0;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      failure = device.query(type);
      if (failure < 0 && type === DRM_PLANE_TYPE_CURSOR) this.#hasCursor = false;
      if (failure < 0) continue;
      if (!answer.isOn) return null;
      const known = this.#pictures.find(answer);
      if (known) return known;
      const dmabuf = device.takeDmabuf(answer.id);
      if (typeof dmabuf !== 'number') return this.#addPicture(device, dmabuf, type);
      failure = dmabuf;
      this.#stats.stale++;
    }
    throw refusal(failure);
  }

  #addPicture(device: VfioDevice, dmabuf: OwnedFd, type: number): DmabufPicture {
    const picture = new DmabufPicture(device.answer, dmabuf, maxSide(type));
    this.#pictures.add(picture);
    this.#stats.opened++;
    this.#hasNewPicture = true;
    return picture;
  }

  #lookAtRegions(device: VfioDevice, sink: SourceSink): void {
    const { answer } = device;
    const result = device.query(DRM_PLANE_TYPE_PRIMARY);
    if (result < 0) throw refusal(result);
    if (answer.isOn) this.#showRegion(device, sink);
    else this.#show(null, sink);
    if (this.#hasCursor && this.#device === device) this.#lookAtCursorRegion(device, sink);
  }

  #showRegion(device: VfioDevice, sink: SourceSink): void {
    const old = this.#region;
    if (!old?.matches(device.answer)) this.#region = new RegionPicture(device, this.budget, MAX_SIDE);
    const region = this.#region!;
    if (region !== this.#shown) region.damageWhole();
    this.#show(region, sink);
    if (old && old !== region) this.#destroy(old, sink);
    this.#comparing.start();
  }

  #lookAtCursorRegion(device: VfioDevice, sink: SourceSink): void {
    const { answer } = device;
    // As for dma-bufs.
    if (device.query(DRM_PLANE_TYPE_CURSOR) < 0 || (answer.isOn && this.#region?.matches(answer))) {
      this.#hasCursor = false;
      return;
    }
    if (!answer.isOn) {
      this.#showCursor(null, device, sink, false);
      return;
    }
    const old = this.#cursorRegion;
    if (!old?.matches(answer)) this.#cursorRegion = new RegionPicture(device, this.budget, MAX_CURSOR_SIDE);
    const region = this.#cursorRegion!;
    while (region.step());
    const isNew = !region.damage.isEmpty;
    region.damage.clear();
    this.#showCursor(region, device, sink, isNew);
    if (old && old !== region) this.#destroy(old, sink);
  }

  #destroy(old: RegionPicture, sink: SourceSink): void {
    this.#stats.copiedBytes += old.copiedBytes;
    sink.destroyed(old);
    old[Symbol.dispose]();
  }

  /** One band of the plane. */
  #compare(): boolean {
    const region = this.#region;
    if (!region || !this.#sink) return false;
    if (region.step()) return true;
    if (region.damage.isEmpty) this.#schedule();
    else this.#flushDamage(region.damage, this.#sink);
    region.damage.clear();
    return false;
  }

  #show(framebuffer: DmabufPicture | RegionPicture | null, sink: SourceSink): void {
    if (framebuffer === this.#shown) return;
    this.#shown = framebuffer;
    this.#stats.flips++;
    if (framebuffer) this.#rect.set(0, 0, framebuffer.width, framebuffer.height);
    sink.scanout(0, framebuffer, framebuffer ? this.#rect : EMPTY_RECT);
  }

  #flushWhole(sink: SourceSink): void {
    this.#damage.clear();
    this.#damage.addRect(this.#rect);
    this.#flushDamage(this.#damage, sink);
  }

  #flushDamage(damage: Damage, sink: SourceSink): void {
    this.#isFlushing = true;
    this.#isInFlush = true;
    try {
      sink.flush(0, damage, this.#flush);
    } finally {
      this.#isInFlush = false;
    }
    this.#schedule();
  }

  #showCursor(framebuffer: Framebuffer | null, { answer }: VfioDevice, sink: SourceSink, isNew: boolean): void {
    if (!framebuffer) {
      if (this.#cursor) sink.cursor(0, null, 0, 0, 0, 0);
      this.#cursor = null;
      return;
    }
    const { x, y, hotspotX, hotspotY } = answer;
    const isSame = framebuffer === this.#cursor && hotspotX === this.#hotspotX && hotspotY === this.#hotspotY;
    if (isSame && !isNew && x === this.#cursorX && y === this.#cursorY) return;
    this.#cursor = framebuffer;
    this.#hotspotX = hotspotX;
    this.#hotspotY = hotspotY;
    this.#cursorX = x;
    this.#cursorY = y;
    if (isSame && !isNew) sink.cursorMoved(0, x, y);
    else sink.cursor(0, framebuffer, hotspotX, hotspotY, x, y);
  }
}

function maxSide(type: number): number {
  return type === DRM_PLANE_TYPE_CURSOR ? MAX_CURSOR_SIDE : MAX_SIDE;
}

/** Of a query, or of an id that the query answered. */
function refusal(result: number): VfioError {
  const code = errnoName(-result);
  return new VfioError(GONE.has(code) ? 'gone' : 'failed', `the device does not hand out its picture: ${code}`);
}
