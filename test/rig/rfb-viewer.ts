/** A VNC viewer for tests, written from RFC 6143 alone: it decodes what a server sends and keeps all of it. */
import { createCipheriv } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createInflate, constants, type Inflate } from 'node:zlib';
import { eventually } from './eventually.ts';

export const RAW = 0;
export const COPY_RECT = 1;
export const TIGHT = 7;
export const ZRLE = 16;
export const DESKTOP_SIZE = -223;
export const CURSOR = -239;
export const QEMU_KEY = -258;
export const EXTENDED_DESKTOP_SIZE = -308;
export const FENCE = -312;
export const CONTINUOUS = -313;

/** Of less, Tight sends the bytes as they are. */
const TIGHT_MIN_COMPRESSED = 12;

export interface Format {
  readonly bits: number;
  readonly depth: number;
  readonly big: boolean;
  readonly max: readonly [number, number, number];
  readonly shift: readonly [number, number, number];
}

export const TRUE_COLOUR: Format = { bits: 32, depth: 24, big: false, max: [255, 255, 255], shift: [16, 8, 0] };

export interface ViewerOptions {
  readonly encodings?: readonly number[];
  readonly isShared?: boolean;
  readonly version?: string;
  /** Whether it sends its version before it has the server's, which saves the time that the server waits for browsers. */
  readonly speaksFirst?: boolean;
  readonly password?: string;
  readonly format?: Format;
  /** Default true. Otherwise it only counts what comes, which takes it next to no time. */
  readonly decodes?: boolean;
}

export interface CursorShape {
  readonly hotspot: readonly [number, number];
  readonly width: number;
  readonly height: number;
  /** Pixels as the viewer's format has them; null where the mask has none. */
  readonly pixels: readonly (number | null)[];
}

/** One rectangle of a server that says how large the desktop is. */
export interface SizeRect {
  readonly encoding: number;
  readonly reason: number;
  readonly result: number;
  readonly width: number;
  readonly height: number;
  readonly screens: readonly (readonly number[])[];
}

export class RfbViewer implements Disposable {
  readonly socket: Socket;
  readonly format: Format;
  width = 0;
  height = 0;
  name = '';
  /** Pixels as the viewer's format has them. */
  pixels = new Uint32Array(0);
  updates = 0;
  onUpdate: () => void = () => undefined;
  /** Encodings of the rectangles of all updates. */
  readonly encodings: number[] = [];
  /** Pixels of the rectangles of all updates. */
  pixelsReceived = 0;
  readonly sizes: SizeRect[] = [];
  readonly cursors: CursorShape[] = [];
  readonly fences: { flags: number; payload: Buffer }[] = [];
  continuousEnds = 0;
  knowsQnums = false;
  /** What every message of the server was, in order. */
  readonly log: string[] = [];
  failure: unknown = null;
  isClosed = false;
  /** Fences of the server are answered. */
  answersFences = true;
  readonly #decodes: boolean;
  readonly #inflates = new Map<string, Inflate>();
  #bytes = Buffer.alloc(0);
  #wake = (): void => undefined;

  private constructor(socket: Socket, format: Format, decodes: boolean) {
    this.socket = socket;
    this.format = format;
    this.#decodes = decodes;
    socket.on('data', (bytes) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes]);
      this.#wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      this.#wake();
    });
  }

  /** Resolves after the greeting. Rejects if the server refuses the viewer. */
  static async connect(to: string | { host: string; port: number }, options: ViewerOptions = {}): Promise<RfbViewer> {
    const socket = typeof to === 'string' ? connect(to) : connect(to);
    await once(socket, 'connect');
    const viewer = new RfbViewer(socket, options.format ?? TRUE_COLOUR, options.decodes ?? true);
    try {
      await viewer.#greet(options);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    viewer.#run().catch((error: unknown) => (viewer.failure ??= error));
    return viewer;
  }

  setFormat({ bits, depth, big, max, shift }: Format, isTrueColour = true): void {
    const m = Buffer.alloc(20);
    m.set([bits, depth, Number(big), Number(isTrueColour)], 4);
    max.forEach((value, i) => m.writeUInt16BE(value, 8 + i * 2));
    m.set(shift, 14);
    this.socket.write(m);
  }

  setEncodings(encodings: readonly number[]): void {
    const m = Buffer.alloc(4 + encodings.length * 4);
    m[0] = 2;
    m.writeUInt16BE(encodings.length, 2);
    encodings.forEach((encoding, i) => m.writeInt32BE(encoding, 4 + i * 4));
    this.socket.write(m);
  }

  request(isIncremental: boolean, area: readonly number[] = [0, 0, this.width, this.height]): void {
    this.socket.write(Buffer.concat([Buffer.of(3, Number(isIncremental)), u16s(...area)]));
  }

  /** Asks for all of the picture, or what has changed, and waits for it. */
  async update(isIncremental = false): Promise<void> {
    const before = this.updates;
    this.request(isIncremental);
    await this.until(() => this.updates > before);
  }

  key(isPressed: boolean, keysym: number): void {
    const m = Buffer.alloc(8);
    m.set([4, Number(isPressed)]);
    m.writeUInt32BE(keysym, 4);
    this.socket.write(m);
  }

  qnum(isPressed: boolean, keysym: number, qnum: number): void {
    const m = Buffer.alloc(12);
    m.set([255, 0, 0, Number(isPressed)]);
    m.writeUInt32BE(keysym, 4);
    m.writeUInt32BE(qnum, 8);
    this.socket.write(m);
  }

  pointer(mask: number, x: number, y: number): void {
    this.socket.write(Buffer.concat([Buffer.of(5, mask), u16s(x, y)]));
  }

  continuous(isOn: boolean, area: readonly number[] = [0, 0, this.width, this.height]): void {
    this.socket.write(Buffer.concat([Buffer.of(150, Number(isOn)), u16s(...area)]));
  }

  fence(flags: number, payload: string): void {
    const m = Buffer.alloc(9);
    m[0] = 248;
    m.writeUInt32BE(flags >>> 0, 4);
    m[8] = payload.length;
    this.socket.write(Buffer.concat([m, Buffer.from(payload)]));
  }

  setDesktopSize(width: number, height: number, screens = [[7, 0, 0, width, height, 0]]): void {
    const head = Buffer.concat([Buffer.of(251, 0), u16s(width, height), Buffer.of(screens.length, 0)]);
    const bodies = screens.map(([id = 0, x = 0, y = 0, w = 0, h = 0, flags = 0]) =>
      Buffer.concat([u32(id), u16s(x, y, w, h), u32(flags)]),
    );
    this.socket.write(Buffer.concat([head, ...bodies]));
  }

  /** Waits until `condition` holds; rejects if the viewer could not decode what came. */
  async until(condition: () => boolean): Promise<void> {
    await eventually(() => {
      if (this.failure !== null) throw this.failure as Error;
      if (!condition()) throw new Error(`not yet; so far: ${this.log.slice(-20).join(', ')}`);
    });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
    for (const inflate of this.#inflates.values()) inflate.close();
  }

  async #greet({
    encodings,
    isShared = true,
    version = '003.008',
    speaksFirst = true,
    password,
    format,
  }: ViewerOptions): Promise<void> {
    if (speaksFirst) this.socket.write(`RFB ${version}\n`);
    const offered = (await this.#read(12)).toString();
    if (offered !== 'RFB 003.008\n') throw new Error(`version ${JSON.stringify(offered)}`);
    if (!speaksFirst) this.socket.write(`RFB ${version}\n`);
    const minor = Number(version.slice(-1));
    let security: number;
    if (minor >= 7) {
      const types = await this.#read((await this.#u8())!);
      security = types[0]!;
      this.socket.write(types.subarray(0, 1));
    } else {
      security = await this.#u32();
    }
    if (security === 2) {
      const challenge = Buffer.from(await this.#read(16));
      this.socket.write(encrypted(challenge, password ?? ''));
    }
    if (security === 2 || minor >= 8) {
      const result = await this.#u32();
      if (result !== 0) throw new Error(minor >= 8 ? (await this.#read(await this.#u32())).toString() : 'refused');
    }
    this.socket.write(Buffer.of(Number(isShared)));
    const [width, height] = [await this.#u16(), await this.#u16()];
    this.#resize(width, height);
    await this.#read(16);
    this.name = (await this.#read(await this.#u32())).toString();
    if (format) this.setFormat(format);
    if (encodings) this.setEncodings(encodings);
  }

  async #run(): Promise<void> {
    for (;;) {
      const type = await this.#u8();
      if (type === null) return;
      switch (type) {
        case 0:
          await this.#update();
          break;
        case 1: {
          await this.#read(3);
          const count = await this.#u16();
          await this.#read(count * 6);
          this.log.push(`colours ${count}`);
          break;
        }
        case 150:
          this.continuousEnds++;
          this.log.push('end of continuous updates');
          break;
        case 248: {
          await this.#read(3);
          const flags = await this.#u32();
          const payload = Buffer.from(await this.#read((await this.#u8())!));
          this.fences.push({ flags, payload });
          this.log.push(`fence ${payload.toString()}`);
          if (flags >>> 31 === 1 && this.answersFences) this.fence(flags & 0x7fff_ffff, payload.toString());
          break;
        }
        default:
          throw new Error(`message of type ${type}`);
      }
    }
  }

  async #update(): Promise<void> {
    await this.#read(1);
    const count = await this.#u16();
    for (let i = 0; i < count; i++) {
      const [x, y, width, height] = [await this.#u16(), await this.#u16(), await this.#u16(), await this.#u16()];
      const encoding = (await this.#u32()) | 0;
      this.encodings.push(encoding);
      await this.#rect(x, y, width, height, encoding);
    }
    this.updates++;
    this.log.push(`update of ${count}`);
    this.onUpdate();
  }

  async #rect(x: number, y: number, width: number, height: number, encoding: number): Promise<void> {
    switch (encoding) {
      case RAW:
      case ZRLE:
      case TIGHT: {
        if (x + width > this.width || y + height > this.height || width * height === 0)
          throw new Error(`rectangle ${x},${y} ${width}x${height} of ${this.width}x${this.height}`);
        this.pixelsReceived += width * height;
        if (!this.#decodes) {
          await this.#skip(width, height, encoding);
          return;
        }
        const pixels =
          encoding === RAW
            ? this.#pixels(await this.#read(width * height * this.#unit), width * height)
            : encoding === ZRLE
              ? await this.#zrle(width, height)
              : await this.#tight(width, height);
        for (let row = 0; row < height; row++)
          this.pixels.set(pixels.subarray(row * width, (row + 1) * width), (y + row) * this.width + x);
        return;
      }
      case COPY_RECT: {
        const [fromX, fromY] = [await this.#u16(), await this.#u16()];
        if (
          [x, fromX].some((left) => left + width > this.width) ||
          [y, fromY].some((top) => top + height > this.height)
        )
          throw new Error(`a copy of ${width}x${height} from ${fromX},${fromY} to ${x},${y}`);
        const before = this.pixels.slice();
        for (let row = 0; row < height; row++) {
          const from = (fromY + row) * this.width + fromX;
          this.pixels.set(before.subarray(from, from + width), (y + row) * this.width + x);
        }
        return;
      }
      case CURSOR: {
        const values = this.#pixels(await this.#read(width * height * this.#unit), width * height);
        const stride = Math.ceil(width / 8);
        const mask = await this.#read(stride * height);
        const pixels = Array.from(values, (value, i) => {
          const column = i % width;
          const isThere = (mask[Math.floor(i / width) * stride + (column >> 3)]! & (0x80 >> (column & 7))) !== 0;
          return isThere ? value : null;
        });
        this.cursors.push({ hotspot: [x, y], width, height, pixels });
        return;
      }
      case DESKTOP_SIZE:
        this.sizes.push({ encoding, reason: 0, result: 0, width, height, screens: [] });
        {
          this.#resize(width, height);
          return;
        }
      case EXTENDED_DESKTOP_SIZE: {
        const screenCount = (await this.#u8())!;
        await this.#read(3);
        const screens: number[][] = [];
        for (let i = 0; i < screenCount; i++)
          screens.push([
            await this.#u32(),
            await this.#u16(),
            await this.#u16(),
            await this.#u16(),
            await this.#u16(),
            await this.#u32(),
          ]);
        this.sizes.push({ encoding, reason: x, result: y, width, height, screens });
        if (y === 0) this.#resize(width, height);
        return;
      }
      case QEMU_KEY:
        this.knowsQnums = true;
        return;
      default:
        throw new Error(`encoding ${encoding}`);
    }
  }

  /** Reads past the pixels of a rectangle. */
  async #skip(width: number, height: number, encoding: number): Promise<void> {
    let length = width * height * this.#unit;
    if (encoding === ZRLE) length = await this.#u32();
    if (encoding === TIGHT) {
      const unit = this.#tightUnit;
      const control = (await this.#u8())!;
      length = width * height * unit;
      if (control >> 4 === 8) {
        length = unit;
      } else {
        if (control & 0x40 && (await this.#u8()) === 1) {
          const size = (await this.#u8())! + 1;
          await this.#read(size * unit);
          length = (size === 2 ? Math.ceil(width / 8) : width) * height;
        }
        if (length >= TIGHT_MIN_COMPRESSED) length = await this.#compactLength();
      }
    }
    await this.#read(length);
  }

  #resize(width: number, height: number): void {
    if (width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    this.pixels = new Uint32Array(width * height);
  }

  get #unit(): number {
    return this.format.bits / 8;
  }

  /** PIXELs. */
  #pixels(bytes: Buffer, count: number): Uint32Array {
    const unit = this.#unit;
    return Uint32Array.from({ length: count }, (_, i) =>
      this.format.big ? bytes.readUIntBE(i * unit, unit) : bytes.readUIntLE(i * unit, unit),
    );
  }

  /** CPIXELs: 3 bytes if the colours are in the low or high 3 bytes of 4. */
  #compressed(bytes: Buffer, count: number): Uint32Array {
    const { bits, depth, big, max, shift } = this.format;
    const used = max.reduce((all, value, i) => all + value * 2 ** shift[i]!, 0);
    const isLow = used < 2 ** 24;
    if (bits !== 32 || depth > 24 || !(isLow || shift.every((value) => value >= 8))) return this.#pixels(bytes, count);
    return Uint32Array.from({ length: count }, (_, i) => {
      const value = big ? bytes.readUIntBE(i * 3, 3) : bytes.readUIntLE(i * 3, 3);
      return isLow ? value : value * 256;
    });
  }

  get #compressedUnit(): number {
    const { bits, depth, max, shift } = this.format;
    const used = max.reduce((all, value, i) => all + value * 2 ** shift[i]!, 0);
    return bits === 32 && depth <= 24 && (used < 2 ** 24 || shift.every((value) => value >= 8)) ? 3 : this.#unit;
  }

  async #zrle(width: number, height: number): Promise<Uint32Array> {
    const data = await this.#inflate('zrle', await this.#read(await this.#u32()));
    const out = new Uint32Array(width * height);
    const unit = this.#compressedUnit;
    let at = 0;
    const take = (length: number): Buffer => data.subarray(at, (at += length));
    const colours = (count: number): Uint32Array => this.#compressed(take(count * unit), count);
    const runLength = (): number => {
      let length = 1;
      for (;;) {
        const byte = take(1)[0]!;
        length += byte;
        if (byte !== 255) return length;
      }
    };
    for (let y = 0; y < height; y += 64)
      for (let x = 0; x < width; x += 64) {
        const [w, h] = [Math.min(64, width - x), Math.min(64, height - y)];
        const tile: number[] = [];
        const kind = take(1)[0]!;
        if (kind === 0) tile.push(...colours(w * h));
        else if (kind === 1) tile.push(...new Array<number>(w * h).fill(colours(1)[0]!));
        else if (kind <= 16) {
          const palette = colours(kind);
          const bits = kind === 2 ? 1 : kind <= 4 ? 2 : 4;
          for (let row = 0; row < h; row++) {
            const packed = take(Math.ceil((w * bits) / 8));
            for (let column = 0; column < w; column++) {
              const bit = column * bits;
              tile.push(palette[(packed[bit >> 3]! >> (8 - bits - (bit & 7))) & ((1 << bits) - 1)]!);
            }
          }
        } else if (kind === 128) {
          while (tile.length < w * h) {
            const colour = colours(1)[0]!;
            tile.push(...new Array<number>(runLength()).fill(colour));
          }
        } else {
          if (kind < 130) throw new Error(`ZRLE subencoding ${kind}`);
          const palette = colours(kind - 128);
          while (tile.length < w * h) {
            const index = take(1)[0]!;
            tile.push(...new Array<number>(index < 128 ? 1 : runLength()).fill(palette[index & 127]!));
          }
        }
        if (tile.length !== w * h || tile.includes(undefined as never)) throw new Error(`a ZRLE tile of kind ${kind}`);
        for (let row = 0; row < h; row++) out.set(tile.slice(row * w, (row + 1) * w), (y + row) * width + x);
      }
    if (at !== data.length) throw new Error(`${data.length - at} bytes are left of a ZRLE rectangle`);
    return out;
  }

  /** Tight sends the colours of such a format as bytes of red, green and blue. */
  get #isTightRgb(): boolean {
    const { bits, depth, max } = this.format;
    return bits === 32 && depth === 24 && max.every((value) => value === 255);
  }

  get #tightUnit(): number {
    return this.#isTightRgb ? 3 : this.#unit;
  }

  async #tight(width: number, height: number): Promise<Uint32Array> {
    if (width > 2048) throw new Error(`a Tight rectangle of ${width} pixels`);
    const { shift } = this.format;
    const isRgb = this.#isTightRgb;
    const unit = this.#tightUnit;
    const colours = (bytes: Buffer, count: number): Uint32Array =>
      isRgb
        ? Uint32Array.from({ length: count }, (_, i) =>
            [0, 1, 2].reduce((all, c) => all + bytes[i * 3 + c]! * 2 ** shift[c]!, 0),
          )
        : this.#pixels(bytes, count);
    const control = (await this.#u8())!;
    const count = width * height;
    if (control >> 4 === 8) return new Uint32Array(count).fill(colours(await this.#read(unit), 1)[0]!);
    if (control & 0x8f) throw new Error(`Tight control ${control}`);
    const filter = control & 0x40 ? await this.#u8() : 0;
    if (filter === 1) {
      const size = (await this.#u8())! + 1;
      const palette = colours(await this.#read(size * unit), size);
      const stride = size === 2 ? Math.ceil(width / 8) : width;
      const data = await this.#tightData(control, stride * height);
      return Uint32Array.from({ length: count }, (_, i) => {
        const [column, row] = [i % width, Math.floor(i / width)];
        const index =
          size === 2 ? (data[row * stride + (column >> 3)]! >> (7 - (column & 7))) & 1 : data[row * stride + column]!;
        if (index >= size) throw new Error(`index ${index} of ${size} colours`);
        return palette[index]!;
      });
    }
    if (filter !== 0) throw new Error(`Tight filter ${filter}`);
    return colours(await this.#tightData(control, count * unit), count);
  }

  async #tightData(control: number, length: number): Promise<Buffer> {
    if (length < TIGHT_MIN_COMPRESSED) return Buffer.from(await this.#read(length));
    const compressed = await this.#read(await this.#compactLength());
    const data = await this.#inflate(`tight ${(control >> 4) & 3}`, compressed);
    if (data.length !== length) throw new Error(`${data.length} bytes of Tight data instead of ${length}`);
    return data;
  }

  /** 7 bits in each of the first two bytes, 8 in the third. */
  async #compactLength(): Promise<number> {
    let length = 0;
    for (let i = 0, byte = 0x80; i < 3 && byte & 0x80; i++) {
      byte = (await this.#u8())!;
      length += (i < 2 ? byte & 0x7f : byte) << (7 * i);
    }
    return length;
  }

  async #inflate(name: string, bytes: Buffer): Promise<Buffer> {
    let inflate = this.#inflates.get(name);
    if (!inflate) this.#inflates.set(name, (inflate = createInflate()));
    const out: Buffer[] = [];
    const collect = (piece: Buffer): number => out.push(piece);
    inflate.on('data', collect);
    inflate.write(Buffer.from(bytes));
    await new Promise<void>((resolve) => inflate.flush(constants.Z_SYNC_FLUSH, resolve));
    inflate.off('data', collect);
    return Buffer.concat(out);
  }

  async #read(length: number): Promise<Buffer> {
    const bytes = await this.#tryRead(length);
    if (!bytes) throw new Error('the server closed the connection');
    return bytes;
  }

  /** Null at the end of the stream. */
  async #tryRead(length: number): Promise<Buffer | null> {
    while (this.#bytes.length < length) {
      if (this.isClosed) return null;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const bytes = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return bytes;
  }

  /** Null at the end of the stream. */
  async #u8(): Promise<number | null> {
    return (await this.#tryRead(1))?.[0] ?? null;
  }

  async #u16(): Promise<number> {
    return (await this.#read(2)).readUInt16BE();
  }

  async #u32(): Promise<number> {
    return (await this.#read(4)).readUInt32BE();
  }
}

/** RFC 6143, 7.2.2. */
function encrypted(challenge: Buffer, password: string): Buffer {
  const key = Buffer.alloc(8);
  key.write(password, 'latin1');
  for (let i = 0; i < 8; i++) key[i] = parseInt(key[i]!.toString(2).padStart(8, '0').split('').reverse().join(''), 2);
  const cipher = createCipheriv('des-ede3-ecb', Buffer.concat([key, key, key]), null).setAutoPadding(false);
  return Buffer.concat([cipher.update(challenge), cipher.final()]);
}

function u16s(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 2);
  values.forEach((value, i) => bytes.writeUInt16BE(value, i * 2));
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}
