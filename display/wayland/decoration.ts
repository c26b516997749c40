import { DRM_FORMAT } from '../../protocols/drm-fourcc.ts';
import { BTN } from '../../protocols/input-event-codes.ts';
import type { Size } from '../../src/core/geometry.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { type Canvas, drawOn, type Rgb } from '../../src/sys/lib/cairo.ts';
import {
  type WlSeat,
  type WlSubsurface,
  type WlSurface,
  type WpViewport,
  WpCursorShapeDeviceV1Shape as Shape,
  XdgToplevelResizeEdge as Edge,
} from './client/index.ts';
import type { Compositor } from './compositor.ts';
import type { FramePress, FrameTarget } from './seat/attached-surface.ts';
import { ShmBuffer, ShmPools } from './shm.ts';
import { Surface } from './surface.ts';

/** Height of the title bar, in logical pixels as all lengths here. */
export const BAR_HEIGHT = 32;
/** The space around the window where its edges can be dragged, and how far its corners reach along them. */
const EDGE = 8;
const CORNER = 20;
const BUTTON_WIDTH = 32;
const FONT_SIZE = 14;
/** Half the side of a button's sign. */
const SIGN = 4.5;
const DOUBLE_CLICK_MS = 400;
const MAX_TITLE = 200;
/** Of the bar's pixels: what a compositor can make this process draw for one configure. */
const MAX_BAR_WIDTH = 16_384;
const MAX_SCALE = 8;

/** Of the bar, its text and signs, and of the button under the pointer. */
const ACTIVE: Colours = { bar: 0x303030, text: 0xffffff, hover: 0x505050 };
const INACTIVE: Colours = { bar: 0x242424, text: 0x9a9a9a, hover: 0x3a3a3a };

interface Colours {
  readonly bar: Rgb;
  readonly text: Rgb;
  readonly hover: Rgb;
}

type ButtonKind = 'minimize' | 'maximize' | 'close';

/** What the decoration shows, and how large the window without it is. */
export interface DecorationLook extends Size {
  /** Screen pixels per logical pixel. */
  readonly scale: number;
  readonly title: string;
  readonly isActive: boolean;
  readonly isMaximized: boolean;
  readonly canMinimize: boolean;
  readonly canMaximize: boolean;
}

/** What the user asks for at the decoration. Positions are on the title bar. */
export interface DecorationListener {
  close(): void;
  minimize(): void;
  toggleMaximized(): void;
  move(seat: WlSeat, serial: number): void;
  resize(seat: WlSeat, serial: number, edge: Edge): void;
  showMenu(seat: WlSeat, serial: number, x: number, y: number): void;
  /** It has changed by itself: commit the window. */
  changed(): void;
}

/**
 * The title bar of a window, and the edges around it, on a compositor that draws none. Subsurfaces of the window's
 * surface, above and around it, whose commits apply with the window's next one. The bar is drawn when it changes,
 * never for a frame. Without viewports the edges cannot be dragged.
 */
export class Decoration implements Disposable {
  readonly #compositor: Compositor;
  readonly #listener: DecorationListener;
  readonly #stack = new DisposableStack();
  readonly #pools = new ShmPools();
  readonly #bar: Surface;
  readonly #barViewport: WpViewport | null;
  readonly #edges: Surface | null = null;
  readonly #edgesViewport: WpViewport | null = null;
  readonly #edgesAt: WlSubsurface | null = null;
  readonly #pointer: { readonly surface: Surface; readonly buffer: ShmBuffer } | null;
  #barBuffer: ShmBuffer | null = null;
  #edgesBuffer: ShmBuffer | null = null;
  #look: DecorationLook | null = null;
  #hovered: ButtonKind | null = null;
  #pressed: ButtonKind | null = null;
  #clickedMs = -Infinity;

  /** Throws SysError if there is no memory for it. */
  constructor(compositor: Compositor, parent: WlSurface, listener: DecorationListener) {
    this.#compositor = compositor;
    this.#listener = listener;
    const stack = this.#stack;
    const { viewporter } = compositor;
    if (viewporter) {
      this.#edges = stack.use(new Surface(compositor, { isOpaque: false }));
      this.#edgesViewport = stack.use(viewporter.getViewport(this.#edges.wl));
      this.#edgesAt = stack.use(compositor.subsurfaces.getSubsurface(this.#edges.wl, parent));
      this.#edgesAt.placeBelow(parent);
      this.#attach(this.#edges.wl, this.#edgesTarget());
    }
    this.#bar = stack.use(new Surface(compositor, { isOpaque: true }));
    this.#barViewport = viewporter && stack.use(viewporter.getViewport(this.#bar.wl));
    stack.use(compositor.subsurfaces.getSubsurface(this.#bar.wl, parent)).setPosition(0, -BAR_HEIGHT);
    this.#attach(this.#bar.wl, this.#barTarget());
    this.#pointer = compositor.seats.hasShapes ? null : this.#drawPointer();
  }

  /** Draws what is different, for the window's next commit. Throws SysError, RangeError as ShmBuffer.create. */
  show(look: DecorationLook): void {
    const before = this.#look;
    this.#look = look;
    const isResized = look.width !== before?.width || look.height !== before.height;
    if (isResized || look.isMaximized !== before.isMaximized) this.#placeEdges(look);
    if (before && Object.entries(before).every(([key, value]) => look[key as keyof DecorationLook] === value)) return;
    this.#draw(look);
  }

  /** Takes it off the screen with the window's next commit, until `show`. */
  hide(): void {
    if (!this.#look) return;
    this.#look = null;
    for (const surface of [this.#bar, this.#edges]) {
      surface?.attach(null, null, null);
      surface?.commit();
    }
    this.#edgesBuffer?.[Symbol.dispose]();
    this.#edgesBuffer = null;
  }

  [Symbol.dispose](): void {
    this.#compositor.seats.detachFrame(this.#bar.wl);
    if (this.#edges) this.#compositor.seats.detachFrame(this.#edges.wl);
    this.#stack[Symbol.dispose]();
    this.#barBuffer?.[Symbol.dispose]();
    this.#edgesBuffer?.[Symbol.dispose]();
  }

  #attach(surface: WlSurface, target: FrameTarget): void {
    this.#compositor.seats.attachFrame(surface, target);
  }

  #placeEdges({ width, height, isMaximized }: DecorationLook): void {
    if (!this.#edges) return;
    const [whole, high] = [width + 2 * EDGE, height + BAR_HEIGHT + 2 * EDGE];
    using region = this.#compositor.surfaces.createRegion();
    if (!isMaximized) region.add(0, 0, whole, high);
    region.subtract(EDGE, EDGE, width, height + BAR_HEIGHT);
    this.#edges.wl.setInputRegion(region);
    this.#edgesAt!.setPosition(-EDGE, -BAR_HEIGHT - EDGE);
    this.#edgesViewport!.setDestination(whole, high);
    if (!this.#edgesBuffer) {
      // One transparent pixel.
      this.#edgesBuffer = ShmBuffer.create(this.#pools, 1, 1, DRM_FORMAT.ARGB8888);
      this.#edges.attach(this.#edgesBuffer, null, null);
    }
    this.#edges.commit();
  }

  #draw(look: DecorationLook): void {
    const { width, scale, title, isActive } = look;
    const most = Math.min(scale, MAX_SCALE, MAX_BAR_WIDTH / width);
    const whole = this.#bar.wl.version < 3 ? 1 : Math.max(1, Math.floor(most));
    const pixels = this.#barViewport ? most : whole;
    const size = {
      width: Math.max(1, Math.round(width * pixels)),
      height: Math.max(1, Math.round(BAR_HEIGHT * pixels)),
    };
    const buffer = ShmBuffer.create(this.#pools, size.width, size.height, DRM_FORMAT.XRGB8888);
    const { bar, text, hover } = isActive ? ACTIVE : INACTIVE;
    drawOn({ ...size, pixels: buffer.pixels, stride: buffer.stride }, (canvas) => {
      canvas.fill(0, 0, size.width, size.height, bar);
      const buttons = this.#buttons(look);
      for (const { kind, x } of buttons) {
        if (kind === this.#hovered) canvas.fill(x * pixels, 0, BUTTON_WIDTH * pixels, size.height, hover);
        drawSign(canvas, kind, look.isMaximized, (x + BUTTON_WIDTH / 2) * pixels, pixels, text);
      }
      // In the middle of the window, unless the buttons reach there.
      const side = (width - Math.min(width, ...buttons.map(({ x }) => x))) * pixels;
      const room = size.width - 2 * side;
      if (room > 0) canvas.text(title.slice(0, MAX_TITLE), side, 0, room, size.height, FONT_SIZE * pixels, text);
    });
    this.#barViewport?.setDestination(width, BAR_HEIGHT);
    if (!this.#barViewport && this.#bar.wl.version >= 3) this.#bar.wl.setBufferScale(whole);
    this.#bar.attach(buffer, null, null);
    this.#barBuffer?.[Symbol.dispose]();
    this.#barBuffer = buffer;
    this.#bar.commit();
  }

  /** From left to right, with their left edges. */
  #buttons({ width, canMinimize, canMaximize }: DecorationLook): { kind: ButtonKind; x: number }[] {
    const kinds: ButtonKind[] = [];
    if (canMinimize) kinds.push('minimize');
    if (canMaximize) kinds.push('maximize');
    kinds.push('close');
    return kinds.map((kind, index) => ({ kind, x: width - (kinds.length - index) * BUTTON_WIDTH }));
  }

  #buttonAt(x: number): ButtonKind | null {
    const look = this.#look;
    const at = look && this.#buttons(look).find((button) => x >= button.x && x < button.x + BUTTON_WIDTH);
    return at ? at.kind : null;
  }

  #barTarget(): FrameTarget {
    return {
      image: () => this.#pointer?.surface.wl ?? null,
      moved: (x) => {
        this.#hover(this.#buttonAt(x));
        return Shape.default;
      },
      left: () => {
        this.#pressed = null;
        this.#hover(null);
      },
      pressed: (press) => this.#pressBar(press),
      released: (x) => {
        const pressed = this.#pressed;
        this.#pressed = null;
        if (pressed && pressed === this.#buttonAt(x)) this.#act(pressed);
      },
    };
  }

  #pressBar({ seat, serial, timeMs, x, y, button }: FramePress): void {
    if (button === BTN.RIGHT) this.#listener.showMenu(seat, serial, Math.round(x), Math.round(y));
    if (button !== BTN.LEFT) return;
    this.#pressed = this.#buttonAt(x);
    if (this.#pressed) return;
    const isDouble = timeMs - this.#clickedMs < DOUBLE_CLICK_MS && timeMs >= this.#clickedMs;
    this.#clickedMs = isDouble ? -Infinity : timeMs;
    if (isDouble && this.#look?.canMaximize) this.#listener.toggleMaximized();
    else this.#listener.move(seat, serial);
  }

  #edgesTarget(): FrameTarget {
    return {
      image: () => this.#pointer?.surface.wl ?? null,
      moved: (x, y) => SHAPES[this.#edgeAt(x, y)] ?? Shape.default,
      left: () => undefined,
      pressed: ({ seat, serial, x, y, button }) => {
        const edge = this.#edgeAt(x, y);
        if (button === BTN.LEFT && edge !== Edge.none) this.#listener.resize(seat, serial, edge);
      },
      released: () => undefined,
    };
  }

  #edgeAt(x: number, y: number): Edge {
    if (!this.#look) return Edge.none;
    const width = this.#look.width + 2 * EDGE;
    const height = this.#look.height + BAR_HEIGHT + 2 * EDGE;
    const isCorner = (x < CORNER || x >= width - CORNER) && (y < CORNER || y >= height - CORNER);
    const reach = isCorner ? CORNER : EDGE;
    const across = x < reach ? Edge.left : x >= width - reach ? Edge.right : Edge.none;
    const along = y < reach ? Edge.top : y >= height - reach ? Edge.bottom : Edge.none;
    return (across | along) as Edge;
  }

  #act(kind: ButtonKind): void {
    if (kind === 'close') this.#listener.close();
    else if (kind === 'minimize') this.#listener.minimize();
    else this.#listener.toggleMaximized();
  }

  #hover(kind: ButtonKind | null): void {
    if (kind === this.#hovered) return;
    this.#hovered = kind;
    // The pointer also leaves it when the compositor has gone.
    if (!this.#look || this.#bar.wl.isDestroyed) return;
    this.#draw(this.#look);
    this.#listener.changed();
  }

  /** An arrow, for a compositor that has no images of its own to offer. */
  #drawPointer(): { surface: Surface; buffer: ShmBuffer } {
    const surface = this.#stack.use(new Surface(this.#compositor, { isOpaque: false }));
    const buffer = this.#stack.use(ShmBuffer.create(this.#pools, 16, 16, DRM_FORMAT.ARGB8888));
    drawOn(
      { pixels: buffer.pixels, stride: buffer.stride, width: 16, height: 16 },
      (canvas) => {
        for (let row = 0; row < 16; row++) {
          const length = row < 11 ? row + 1 : 16 - row;
          canvas.fill(0, row, length, 1, 0x000000);
          if (length > 2) canvas.fill(1, row, length - 2, 1, 0xffffff);
        }
      },
      null,
    );
    surface.attach(buffer, null, null);
    surface.commit();
    return { surface, buffer };
  }
}

const SHAPES: Readonly<Record<number, Shape>> = {
  [Edge.top]: Shape.n_resize,
  [Edge.bottom]: Shape.s_resize,
  [Edge.left]: Shape.w_resize,
  [Edge.right]: Shape.e_resize,
  [Edge.top_left]: Shape.nw_resize,
  [Edge.top_right]: Shape.ne_resize,
  [Edge.bottom_left]: Shape.sw_resize,
  [Edge.bottom_right]: Shape.se_resize,
};

/** Around the middle of the bar's height. `scale` is that of the canvas. */
function drawSign(canvas: Canvas, kind: ButtonKind, isMaximized: boolean, x: number, scale: number, colour: Rgb): void {
  const y = (BAR_HEIGHT / 2) * scale;
  const thickness = Math.max(1, Math.round(1.25 * scale));
  const half = (kind === 'maximize' && isMaximized ? SIGN - 1.5 : SIGN) * scale;
  const lines: readonly (readonly [number, number, number, number])[] =
    kind === 'minimize'
      ? [[-1, 1, 1, 1]]
      : kind === 'close'
        ? [
            [-1, -1, 1, 1],
            [-1, 1, 1, -1],
          ]
        : [
            [-1, -1, 1, -1],
            [1, -1, 1, 1],
            [1, 1, -1, 1],
            [-1, 1, -1, -1],
          ];
  for (const [fromX, fromY, toX, toY] of lines)
    canvas.line(x + fromX * half, y + fromY * half, x + toX * half, y + toY * half, thickness, colour);
}
