/** Drawing with libcairo and text with libpango, where they are installed; plain rectangles and lines elsewhere. */
import koffi from 'koffi';
import type { Mapping } from '../mapping.ts';
import { optionalLibrary } from './library.ts';

/* cairo.h, pango-layout.h, pango-types.h */
const CAIRO_FORMAT_ARGB32 = 0;
const CAIRO_LINE_CAP_SQUARE = 2;
const CAIRO_STATUS_SUCCESS = 0;
const PANGO_ELLIPSIZE_END = 3;
const PANGO_SCALE = 1024;

/** Premultiplied ARGB8888 in memory. */
export interface Picture32 {
  readonly pixels: Mapping;
  /** From one row to the next, in bytes: a multiple of 4. */
  readonly stride: number;
  readonly width: number;
  readonly height: number;
}

/** A colour as 0xRRGGBB. */
export type Rgb = number;

/** Draws opaque shapes into a picture. Positions and sizes are in its pixels. */
export interface Canvas {
  fill(x: number, y: number, width: number, height: number, colour: Rgb): void;
  line(fromX: number, fromY: number, toX: number, toY: number, thickness: number, colour: Rgb): void;
  /** One line of text in the middle of a rectangle, cut with an ellipsis. `size` is the font's. */
  text(text: string, x: number, y: number, width: number, height: number, size: number, colour: Rgb): void;
}

/** Calls `draw` with a canvas for the picture, valid until it returns. Without the libraries texts are left out. */
export function drawOn(picture: Picture32, draw: (canvas: Canvas) => void, library: Cairo | null = loadCairo()): void {
  if (library === null || !library.draw(picture, draw)) draw(new PlainCanvas(picture));
}

class Cairo {
  readonly #createSurface;
  readonly #surfaceStatus;
  readonly #flush;
  readonly #destroySurface;
  readonly #create;
  readonly #destroy;
  readonly #setColour;
  readonly #rectangle;
  readonly #fill;
  readonly #moveTo;
  readonly #lineTo;
  readonly #setLineWidth;
  readonly #setLineCap;
  readonly #stroke;
  readonly #createLayout;
  readonly #setText;
  readonly #setFont;
  readonly #setWidth;
  readonly #setEllipsize;
  readonly #pixelSize;
  readonly #showLayout;
  readonly #parseFont;
  readonly #setFontSize;
  readonly #freeFont;
  readonly #unref;

  constructor() {
    const cairo = koffi.load('libcairo.so.2');
    const pango = koffi.load('libpango-1.0.so.0');
    const both = koffi.load('libpangocairo-1.0.so.0');
    const gobject = koffi.load('libgobject-2.0.so.0');
    const p = 'uintptr_t';
    type Fn<Result = void> = (...args: (number | string | Int32Array)[]) => Result;
    const numbers = (count: number): string[] => new Array<string>(count).fill('double');
    this.#createSurface = cairo.func('cairo_image_surface_create_for_data', p, [
      ...[p, 'int', 'int', 'int', 'int'],
    ]) as Fn<number>;
    this.#surfaceStatus = cairo.func('cairo_surface_status', 'int', [p]) as Fn<number>;
    this.#flush = cairo.func('cairo_surface_flush', 'void', [p]) as Fn;
    this.#destroySurface = cairo.func('cairo_surface_destroy', 'void', [p]) as Fn;
    this.#create = cairo.func('cairo_create', p, [p]) as Fn<number>;
    this.#destroy = cairo.func('cairo_destroy', 'void', [p]) as Fn;
    this.#setColour = cairo.func('cairo_set_source_rgb', 'void', [p, ...numbers(3)]) as Fn;
    this.#rectangle = cairo.func('cairo_rectangle', 'void', [p, ...numbers(4)]) as Fn;
    this.#fill = cairo.func('cairo_fill', 'void', [p]) as Fn;
    this.#moveTo = cairo.func('cairo_move_to', 'void', [p, ...numbers(2)]) as Fn;
    this.#lineTo = cairo.func('cairo_line_to', 'void', [p, ...numbers(2)]) as Fn;
    this.#setLineWidth = cairo.func('cairo_set_line_width', 'void', [p, ...numbers(1)]) as Fn;
    this.#setLineCap = cairo.func('cairo_set_line_cap', 'void', [p, 'int']) as Fn;
    this.#stroke = cairo.func('cairo_stroke', 'void', [p]) as Fn;
    this.#createLayout = both.func('pango_cairo_create_layout', p, [p]) as Fn<number>;
    this.#showLayout = both.func('pango_cairo_show_layout', 'void', [p, p]) as Fn;
    this.#setText = pango.func('pango_layout_set_text', 'void', [p, 'str', 'int']) as Fn;
    this.#setFont = pango.func('pango_layout_set_font_description', 'void', [p, p]) as Fn;
    this.#setWidth = pango.func('pango_layout_set_width', 'void', [p, 'int']) as Fn;
    this.#setEllipsize = pango.func('pango_layout_set_ellipsize', 'void', [p, 'int']) as Fn;
    this.#pixelSize = pango.func('pango_layout_get_pixel_size', 'void', [p, 'void *', 'void *']) as Fn;
    this.#parseFont = pango.func('pango_font_description_from_string', p, ['str']) as Fn<number>;
    this.#setFontSize = pango.func('pango_font_description_set_absolute_size', 'void', [p, 'double']) as Fn;
    this.#freeFont = pango.func('pango_font_description_free', 'void', [p]) as Fn;
    this.#unref = gobject.func('g_object_unref', 'void', [p]) as Fn;
  }

  /** False, with nothing drawn: cairo has no memory for it. */
  draw({ pixels, stride, width, height }: Picture32, draw: (canvas: Canvas) => void): boolean {
    const surface = this.#createSurface(pixels.address, CAIRO_FORMAT_ARGB32, width, height, stride);
    try {
      if (this.#surfaceStatus(surface) !== CAIRO_STATUS_SUCCESS) return false;
      const context = this.#create(surface);
      try {
        draw(this.#canvas(context));
      } finally {
        this.#destroy(context);
      }
      this.#flush(surface);
      return true;
    } finally {
      this.#destroySurface(surface);
    }
  }

  #canvas(context: number): Canvas {
    const use = (colour: Rgb): void =>
      this.#setColour(context, (colour >> 16) / 255, ((colour >> 8) & 0xff) / 255, (colour & 0xff) / 255);
    return {
      fill: (x, y, width, height, colour) => {
        use(colour);
        this.#rectangle(context, x, y, width, height);
        this.#fill(context);
      },
      line: (fromX, fromY, toX, toY, thickness, colour) => {
        use(colour);
        this.#setLineWidth(context, thickness);
        this.#setLineCap(context, CAIRO_LINE_CAP_SQUARE);
        this.#moveTo(context, fromX, fromY);
        this.#lineTo(context, toX, toY);
        this.#stroke(context);
      },
      text: (text, x, y, width, height, size, colour) => {
        use(colour);
        this.#text(context, text, { x, y, width, height, size });
      },
    };
  }

  #text(
    context: number,
    text: string,
    { x, y, width, height, size }: { x: number; y: number; width: number; height: number; size: number },
  ): void {
    const layout = this.#createLayout(context);
    const font = this.#parseFont('Sans Bold');
    try {
      this.#setFontSize(font, size * PANGO_SCALE);
      this.#setFont(layout, font);
      this.#setText(layout, text, -1);
      this.#setEllipsize(layout, PANGO_ELLIPSIZE_END);
      this.#setWidth(layout, Math.round(width) * PANGO_SCALE);
      const [textWidth, textHeight] = [new Int32Array(1), new Int32Array(1)];
      this.#pixelSize(layout, textWidth, textHeight);
      this.#moveTo(context, Math.round(x + (width - textWidth[0]!) / 2), Math.round(y + (height - textHeight[0]!) / 2));
      this.#showLayout(context, layout);
    } finally {
      this.#freeFont(font);
      this.#unref(layout);
    }
  }
}

const loadCairo = optionalLibrary(() => new Cairo());

class PlainCanvas implements Canvas {
  readonly #words: Uint32Array;
  /** In pixels. */
  readonly #stride: number;
  readonly #width: number;
  readonly #height: number;

  constructor({ pixels, stride, width, height }: Picture32) {
    const { bytes } = pixels;
    this.#stride = stride / 4;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, this.#stride * height);
    this.#width = width;
    this.#height = height;
  }

  fill(x: number, y: number, width: number, height: number, colour: Rgb): void {
    const [left, right] = [x, x + width].map((at) => Math.min(Math.max(0, Math.round(at)), this.#width));
    const [top, bottom] = [y, y + height].map((at) => Math.min(Math.max(0, Math.round(at)), this.#height));
    for (let row = top!; row < bottom!; row++)
      this.#words.fill((0xff00_0000 | colour) >>> 0, row * this.#stride + left!, row * this.#stride + right!);
  }

  line(fromX: number, fromY: number, toX: number, toY: number, thickness: number, colour: Rgb): void {
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(toX - fromX), Math.abs(toY - fromY))));
    for (let step = 0; step <= steps; step++) {
      const [x, y] = [fromX + ((toX - fromX) * step) / steps, fromY + ((toY - fromY) * step) / steps];
      this.fill(x - thickness / 2, y - thickness / 2, thickness, thickness, colour);
    }
  }

  text(): void {
    // There is no font.
  }
}
