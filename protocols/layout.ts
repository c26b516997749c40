/**
 * Kernel and wire structs as data: one definition gives the TypeScript type, the size, every offset
 * and the codec. Scalars are little-endian, as virtio is and every supported host.
 *
 * Two ways to use a struct:
 * - `S.get(view, at)` and `S.set(view, at, value)` copy a whole value; `get` allocates an object;
 * - `S.field.name.get(view, at)` and `S.offset.name` access one field and allocate nothing, except
 *   for `u64`, whose values are bigints; hot paths use `addr64`.
 */
export interface Type<V> {
  /** Bytes, trailing padding included. */
  readonly size: number;
  readonly align: number;
  get(view: DataView, at: number): V;
  set(view: DataView, at: number, value: V): void;
}

export type ValueOf<T> = T extends Type<infer V> ? V : never;

export const u8: Type<number> = {
  size: 1,
  align: 1,
  get: (view, at) => view.getUint8(at),
  set: (view, at, value) => view.setUint8(at, value),
};

export const u16: Type<number> = {
  size: 2,
  align: 2,
  get: (view, at) => view.getUint16(at, true),
  set: (view, at, value) => view.setUint16(at, value, true),
};

export const u32: Type<number> = {
  size: 4,
  align: 4,
  get: (view, at) => view.getUint32(at, true),
  set: (view, at, value) => view.setUint32(at, value, true),
};

export const i32: Type<number> = {
  size: 4,
  align: 4,
  get: (view, at) => view.getInt32(at, true),
  set: (view, at, value) => view.setInt32(at, value, true),
};

export const u64: Type<bigint> = {
  size: 8,
  align: 8,
  get: (view, at) => view.getBigUint64(at, true),
  set: (view, at, value) => view.setBigUint64(at, value, true),
};

const TWO_POW_32 = 0x1_0000_0000;

/**
 * A 64-bit unsigned value as a number: exact up to 2^53, rounded above. Rounding keeps the
 * magnitude, so a value that is range-checked before use (an address, a length) can safely be read
 * this way, without an allocation. Only safe integers may be written.
 */
export const addr64: Type<number> = {
  size: 8,
  align: 8,
  get: (view, at) => view.getUint32(at + 4, true) * TWO_POW_32 + view.getUint32(at, true),
  set(view, at, value) {
    view.setUint32(at, value % TWO_POW_32, true);
    view.setUint32(at + 4, Math.floor(value / TWO_POW_32), true);
  },
};

/** A fixed array of scalars or structs, as in `u32 handles[4]`. */
export function array<V>(element: Type<V>, length: number): Type<V[]> & { readonly length: number } {
  return {
    size: element.size * length,
    align: element.align,
    length,
    get: (view, at) => Array.from({ length }, (_, i) => element.get(view, at + i * element.size)),
    set(view, at, values) {
      if (values.length !== length) throw new RangeError(`array of ${length} given ${values.length} values`);
      for (let i = 0; i < length; i++) element.set(view, at + i * element.size, values[i] as V);
    },
  };
}

/** A fixed run of raw bytes, as in `u8 uuid[16]`. Reading copies. */
export function bytes(length: number): Type<Uint8Array> {
  return {
    size: length,
    align: 1,
    get: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, length).slice(),
    set(view, at, value) {
      if (value.length !== length) throw new RangeError(`${length} bytes given ${value.length}`);
      new Uint8Array(view.buffer, view.byteOffset + at, length).set(value);
    },
  };
}

export type Fields = Readonly<Record<string, Type<any>>>; // eslint-disable-line @typescript-eslint/no-explicit-any
export type Values<F extends Fields> = { -readonly [K in keyof F]: ValueOf<F[K]> };

export interface Struct<F extends Fields> extends Type<Values<F>> {
  /** The C name without `struct`; a test compares the struct with the real header by it. */
  readonly name: string;
  readonly fields: F;
  /** Byte offset of every field. */
  readonly offset: { readonly [K in keyof F]: number };
  /** One field of a struct that starts at `at`. */
  readonly field: { readonly [K in keyof F]: Type<ValueOf<F[K]>> };
  /** The struct as a new array of bytes. Fields left out are zero. */
  encode(value: Partial<Values<F>>): Uint8Array;
  /** Reads the struct at the start of `source`. RangeError if that is too short. */
  decode(source: Uint8Array): Values<F>;
}

function alignUp(at: number, align: number): number {
  return Math.ceil(at / align) * align;
}

/**
 * A C struct. Fields have C's alignment, unless `packed`.
 *
 *     const udmabuf_create = struct('udmabuf_create', { memfd: u32, flags: u32, offset: addr64, size: addr64 });
 */
export function struct<F extends Fields>(name: string, fields: F, layout?: { packed: boolean }): Struct<F> {
  const packed = layout?.packed ?? false;
  const keys: (keyof F & string)[] = Object.keys(fields);
  const offset = {} as Record<keyof F, number>;
  const field = {} as Record<keyof F, Type<any>>; // eslint-disable-line @typescript-eslint/no-explicit-any
  let end = 0;
  let align = 1;
  for (const key of keys) {
    const type = fields[key] as Type<unknown>;
    const start = packed ? end : alignUp(end, type.align);
    offset[key] = start;
    field[key] = {
      size: type.size,
      align: type.align,
      get: (view, at) => type.get(view, at + start),
      set: (view, at, value) => type.set(view, at + start, value),
    };
    end = start + type.size;
    if (!packed) align = Math.max(align, type.align);
  }
  const size = alignUp(end, align);
  const self: Struct<F> = {
    name,
    fields,
    size,
    align,
    offset,
    field: field as Struct<F>['field'],
    get(view, at) {
      const value = {} as Values<F>;
      for (const key of keys) value[key] = field[key].get(view, at) as Values<F>[typeof key];
      return value;
    },
    set(view, at, value) {
      for (const key of keys) field[key].set(view, at, value[key]);
    },
    encode(value) {
      const out = new Uint8Array(size);
      const view = new DataView(out.buffer);
      for (const key of keys) {
        const given = value[key];
        if (given !== undefined) field[key].set(view, 0, given);
      }
      return out;
    },
    decode(source) {
      if (source.length < size) throw new RangeError(`struct ${name} needs ${size} bytes, got ${source.length}`);
      return self.get(new DataView(source.buffer, source.byteOffset, source.byteLength), 0);
    },
  };
  return self;
}

/* ioctl request numbers, asm-generic/ioctl.h: direction, size, type letter, number. */
const IOC_NONE = 0;
const IOC_WRITE = 1;
const IOC_READ = 2;

function ioc(direction: number, letter: string, nr: number, size: number): number {
  return ((direction << 30) | (size << 16) | (letter.charCodeAt(0) << 8) | nr) >>> 0;
}

export function io(letter: string, nr: number): number {
  return ioc(IOC_NONE, letter, nr, 0);
}

export function iow(letter: string, nr: number, type: { readonly size: number }): number {
  return ioc(IOC_WRITE, letter, nr, type.size);
}

export function ior(letter: string, nr: number, type: { readonly size: number }): number {
  return ioc(IOC_READ, letter, nr, type.size);
}

export function iowr(letter: string, nr: number, type: { readonly size: number }): number {
  return ioc(IOC_READ | IOC_WRITE, letter, nr, type.size);
}
