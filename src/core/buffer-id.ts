const SIZE = 16;

const VARIANT = 0x8000_0000;

let source: Uint8Array | null = null;
let last = 0;

/** How every id of this process begins: 60 random bits and the version, 8 (RFC 9562: own layout). */
export function bufferSource(): Uint8Array {
  if (source) return source;
  // Loads Node's cryptography, which most processes do without.
  source = crypto.getRandomValues(new Uint8Array(SIZE / 2));
  source[6] = (source[6]! & 0x0f) | 0x80;
  return source;
}

/**
 * A UUID for a buffer that other processes may import. It carries its source, this process, in its first half and a
 * counter in its second, so none is made twice. A name, not a secret.
 */
export function newBufferId(): Uint8Array {
  const id = new Uint8Array(SIZE);
  id.set(bufferSource());
  const view = new DataView(id.buffer);
  last++;
  view.setUint32(8, VARIANT | Math.floor(last / 2 ** 32));
  view.setUint32(12, last % 2 ** 32);
  return id;
}

/** `0b2e…-…`, as UUIDs are written. */
export function formatBufferId(id: Uint8Array): string {
  const hex = Buffer.from(id.buffer, id.byteOffset, id.length).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
