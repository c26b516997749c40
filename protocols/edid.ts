/**
 * A monitor's description of itself: VESA E-EDID release A revision 2 (EDID 1.4), with timings by
 * VESA CVT 1.2 reduced blanking and, for modes that do not fit the base block, one DisplayID 1.3
 * extension. Only makes and reads bytes.
 */

/** What an EDID is made from. `Monitor` of src/core has these fields, too. */
export interface EdidMonitor {
  readonly width: number;
  readonly height: number;
  /** Vertical refresh in millihertz. */
  readonly refreshMhz: number;
  /** Visible area in millimetres; 0 if unknown. */
  readonly widthMm: number;
  readonly heightMm: number;
  readonly name: string;
}

export const EDID_BLOCK_SIZE = 128;

/** A mode with its blanking: horizontal values in pixels, vertical ones in lines. */
interface Timing {
  readonly width: number;
  readonly height: number;
  readonly clock10kHz: number;
  readonly hBlank: number;
  readonly hFront: number;
  readonly hSync: number;
  readonly vBlank: number;
  readonly vFront: number;
  readonly vSync: number;
}

/* CVT reduced blanking, version 1: pixels, lines, microseconds. */
const RB_H_BLANK = 160;
const RB_H_FRONT = 48;
const RB_H_SYNC = 32;
const RB_V_FRONT = 3;
const RB_MIN_V_BACK = 6;
const RB_MIN_V_BLANK_US = 460;
const MIN_CLOCK_HZ = 10e6;
/** A descriptor has 12 bits for a blanking interval. */
const MAX_BLANK = 4095;

/** Aspect ratio and length of the vertical sync, in which CVT encodes it; 10 lines stand for any other ratio. */
const V_SYNC_OF_ASPECT = [
  [4, 3, 4],
  [16, 9, 5],
  [16, 10, 6],
  [5, 4, 7],
  [15, 9, 7],
] as const;

/**
 * Reduced blanking for any mode. Rounds the clock to 10 kHz, the unit of the descriptors, instead of
 * CVT's 250 kHz, which keeps the refresh of small modes close to the one requested.
 */
function reducedBlanking(width: number, height: number, refreshMhz: number): Timing {
  const vSync = V_SYNC_OF_ASPECT.find(([x, y]) => Math.floor((height * x) / y) === width)?.[2] ?? 10;
  const frameUs = 1e9 / refreshMhz;
  // No real monitor is so fast that the minimum blanking takes half the frame: cap it there.
  const blankUs = Math.min(RB_MIN_V_BLANK_US, frameUs / 2);
  const lineUs = (frameUs - blankUs) / height;
  let hBlank = RB_H_BLANK;
  let vBlank = Math.max(Math.floor(blankUs / lineUs) + 1, RB_V_FRONT + vSync + RB_MIN_V_BACK);
  // Readers reject a clock below 10 MHz, so tiny and slow modes get longer back porches.
  const leastTotal = MIN_CLOCK_HZ / (refreshMhz / 1000);
  vBlank = Math.max(vBlank, Math.min(MAX_BLANK, Math.ceil(leastTotal / (width + hBlank)) - height));
  hBlank = Math.max(hBlank, Math.min(MAX_BLANK, Math.ceil(leastTotal / (height + vBlank)) - width));
  const clock10kHz = Math.max(1, Math.round(((width + hBlank) * (height + vBlank) * refreshMhz) / 1e7));
  return { width, height, clock10kHz, hBlank, hFront: RB_H_FRONT, hSync: RB_H_SYNC, vBlank, vFront: RB_V_FRONT, vSync };
}

const FALLBACK_REFRESH_MHZ = 60_000;

/** A detailed timing descriptor has 12 bits for each side and 16 for the clock. */
function fitsDescriptor(t: Timing): boolean {
  return t.width <= 4095 && t.height <= 4095 && t.vBlank <= MAX_BLANK && t.clock10kHz <= 0xffff;
}

/** The largest mode of roughly this shape that fits a descriptor. */
function fallbackTiming(width: number, height: number, refreshMhz: number): Timing {
  const refresh = Math.min(refreshMhz, FALLBACK_REFRESH_MHZ);
  const timing = reducedBlanking(width, height, refresh);
  if (fitsDescriptor(timing)) return timing;
  return fallbackTiming(Math.max(1, width >> 1), Math.max(1, height >> 1), refresh);
}

/**
 * The EDID of `monitor`: one block, or two if its mode exceeds 4095 pixels on a side or 655.35 MHz.
 * In that case the base block prefers a smaller or slower mode that fits, and a DisplayID extension
 * has the native mode, also preferred (up to 65535 pixels on a side and 167 GHz). Linux uses the
 * mode that equals the scanout's size.
 *
 * Sizes must be positive integers and `refreshMhz` positive. Of `name`, 13 characters are kept;
 * those outside printable ASCII become `?`, and so does an empty name.
 */
export function makeEdid(monitor: EdidMonitor): Uint8Array {
  const native = reducedBlanking(monitor.width, monitor.height, monitor.refreshMhz);
  if (fitsDescriptor(native)) return baseBlock(monitor, native, native, 0);
  const fallback = fallbackTiming(monitor.width, monitor.height, monitor.refreshMhz);
  const edid = new Uint8Array(2 * EDID_BLOCK_SIZE);
  edid.set(baseBlock(monitor, fallback, native, 1));
  edid.set(displayIdBlock(monitor, native), EDID_BLOCK_SIZE);
  return edid;
}

const HEADER = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
/** Three letters of five bits each, big-endian: "SBV", for scanout-bridge, virtual. */
const MANUFACTURER = (('S'.charCodeAt(0) - 64) << 10) | (('B'.charCodeAt(0) - 64) << 5) | ('V'.charCodeAt(0) - 64);
const PRODUCT_CODE = 1;
/** Week 0 (unspecified) of this year. */
const YEAR_OF_MANUFACTURE = 2025;
/** Digital, 8 bits per colour, no particular connector. */
const INPUT_DIGITAL_8BIT = 0xa0;
/* sRGB is the default colour space; the first descriptor is the native mode. */
const FEATURE_SRGB = 0x04;
const FEATURE_NATIVE_FIRST = 0x02;
const GAMMA_2_2 = 2.2 * 100 - 100;
/** The primaries and white point of sRGB, ten bits each. */
const SRGB_CHROMATICITY = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];
/** Smaller modes at 60 Hz that a desktop can switch to: width, height, byte of the established timings, bit. */
const ESTABLISHED = [
  [640, 480, 35, 0x20],
  [800, 600, 35, 0x01],
  [1024, 768, 36, 0x08],
] as const;
/** More of them, as standard timings: width, height, code of the aspect ratio. */
const STANDARD = [
  [1280, 720, 3],
  [1280, 800, 0],
  [1280, 1024, 2],
  [1440, 900, 0],
  [1600, 900, 3],
  [1680, 1050, 0],
  [1920, 1080, 3],
  [1920, 1200, 0],
] as const;
const UNUSED_STANDARD_TIMING = 0x01;
/** Clock of the fastest of these, which must lie within the range limits. */
const STANDARD_CLOCK_10MHZ = 20;
/** Tags of descriptors that are not timings: the fourth byte, after two zero bytes and a reserved one. */
const DESCRIPTOR = { DUMMY: 0x10, NAME: 0xfc, RANGE_LIMITS: 0xfd } as const;

function baseBlock(monitor: EdidMonitor, preferred: Timing, native: Timing, extensions: number): Uint8Array {
  const block = new Uint8Array(EDID_BLOCK_SIZE);
  const size = physicalSize(monitor);
  block.set(HEADER, 0);
  block.set([MANUFACTURER >> 8, MANUFACTURER & 0xff, PRODUCT_CODE & 0xff, PRODUCT_CODE >> 8], 8);
  block.set([0, YEAR_OF_MANUFACTURE - 1990, 1, 4], 16);
  block[20] = INPUT_DIGITAL_8BIT;
  block[21] = Math.round(size.widthMm / 10);
  block[22] = Math.round(size.heightMm / 10);
  block[23] = GAMMA_2_2;
  block[24] = FEATURE_SRGB | (preferred === native ? FEATURE_NATIVE_FIRST : 0);
  block.set(SRGB_CHROMATICITY, 25);
  // 640x480 is always there, as every driver's fallback.
  const isSmaller = (width: number, height: number) =>
    width <= monitor.width && height <= monitor.height && !(width === monitor.width && height === monitor.height);
  for (const [width, height, at, bit] of ESTABLISHED) if (isSmaller(width, height) || width === 640) block[at]! |= bit;
  block.fill(UNUSED_STANDARD_TIMING, 38, 54);
  const standard = STANDARD.filter(([width, height]) => isSmaller(width, height));
  block.set(
    standard.flatMap(([width, , aspect]) => [width / 8 - 31, aspect << 6]),
    38,
  );
  block.set(detailedTiming(preferred, size.widthMm, size.heightMm), 54);
  block.set(nameDescriptor(monitor.name), 72);
  block.set(rangeLimits(preferred, standard.length > 0 ? STANDARD_CLOCK_10MHZ : 0) ?? dummyDescriptor(), 90);
  block.set(dummyDescriptor(), 108);
  block[126] = extensions;
  return checksummed(block);
}

/** An EDID has 8 bits for each side in centimetres: a size that does not fit, or is below 1 cm, counts as unknown. */
function physicalSize({ widthMm, heightMm }: EdidMonitor): { widthMm: number; heightMm: number } {
  const known = widthMm >= 10 && heightMm >= 10 && widthMm <= 2550 && heightMm <= 2550;
  return known ? { widthMm, heightMm } : { widthMm: 0, heightMm: 0 };
}

/** Digital separate sync; reduced blanking has positive horizontal and negative vertical sync. */
const DETAILED_FLAGS = 0x1a;

function detailedTiming(t: Timing, widthMm: number, heightMm: number): Uint8Array {
  const high = (a: number, b: number) => ((a >> 8) << 4) | (b >> 8);
  return Uint8Array.of(
    t.clock10kHz & 0xff,
    t.clock10kHz >> 8,
    t.width & 0xff,
    t.hBlank & 0xff,
    high(t.width, t.hBlank),
    t.height & 0xff,
    t.vBlank & 0xff,
    high(t.height, t.vBlank),
    t.hFront & 0xff,
    t.hSync & 0xff,
    ((t.vFront & 0xf) << 4) | (t.vSync & 0xf),
    ((t.hFront >> 8) << 6) | ((t.hSync >> 8) << 4) | ((t.vFront >> 4) << 2) | (t.vSync >> 4),
    widthMm & 0xff,
    heightMm & 0xff,
    high(widthMm, heightMm),
    0,
    0,
    DETAILED_FLAGS,
  );
}

function nameBytes(name: string): number[] {
  return Array.from(name.trim().slice(0, 13).trimEnd() || '?', (c) => (c >= ' ' && c <= '~' ? c.charCodeAt(0) : 0x3f));
}

function nameDescriptor(name: string): Uint8Array {
  const text = nameBytes(name);
  const descriptor = Uint8Array.of(0, 0, 0, DESCRIPTOR.NAME, 0, ...Array<number>(13).fill(0x20));
  descriptor.set(text, 5);
  // A name shorter than the field is followed by a line feed and blanks.
  if (text.length < 13) descriptor[5 + text.length] = 0x0a;
  return descriptor;
}

/** The monitor's name; null if it has none, or if `edid` is too short to be an EDID. */
export function monitorName(edid: Uint8Array): string | null {
  if (edid.length < EDID_BLOCK_SIZE) return null;
  const at = [54, 72, 90, 108].find(
    (start) => edid[start] === 0 && edid[start + 1] === 0 && edid[start + 3] === DESCRIPTOR.NAME,
  );
  if (at === undefined) return null;
  const [text = ''] = String.fromCharCode(...edid.subarray(at + 5, at + 18)).split('\n');
  return text.replace(/[^ -~]/g, '?').trim() || null;
}

function dummyDescriptor(): Uint8Array {
  return Uint8Array.of(0, 0, 0, DESCRIPTOR.DUMMY, ...Array<number>(14).fill(0));
}

/** Covers the mode's own rates; null if they exceed 510 Hz or 510 kHz, the most it can express. */
function rangeLimits(t: Timing, leastClock10MHz: number): Uint8Array | null {
  const lineKhz = (t.clock10kHz * 10) / (t.width + t.hBlank);
  const frameHz = (lineKhz * 1000) / (t.height + t.vBlank);
  const v = limits(Math.min(frameHz, 50), Math.max(frameHz, 75));
  const h = limits(Math.min(lineKhz, 30), Math.max(lineKhz, 80));
  if (!v || !h) return null;
  const clock10MHz = Math.max(8, leastClock10MHz, Math.ceil(t.clock10kHz / 1000));
  const NO_FORMULA = 0x01;
  return Uint8Array.of(
    0,
    0,
    0,
    DESCRIPTOR.RANGE_LIMITS,
    (h.offset << 2) | v.offset,
    v.min,
    v.max,
    h.min,
    h.max,
    clock10MHz,
    NO_FORMULA,
    0x0a,
    0x20,
    0x20,
    0x20,
    0x20,
    0x20,
    0x20,
  );
}

/** A rate field holds 1 to 255; offset bit 1 adds 255 to the larger rate. */
function limits(least: number, greatest: number): { min: number; max: number; offset: number } | null {
  const min = Math.floor(least);
  const max = Math.ceil(greatest);
  if (min < 1 || max > 510) return null;
  return max > 255 ? { min, max: max - 255, offset: 2 } : { min, max, offset: 0 };
}

function checksummed(block: Uint8Array): Uint8Array {
  const last = block.length - 1;
  block[last] = -block.subarray(0, last).reduce((sum, byte) => sum + byte, 0) & 0xff;
  return block;
}

const DISPLAY_ID_TAG = 0x70;
const DISPLAY_ID_1_3 = 0x13;
const PRODUCT_TYPE_TEST = 1;
const DATA_BLOCK = { PRODUCT_ID: 0x00, TYPE_1_TIMING: 0x03 } as const;
/* Of a type I timing: the preferred one; bit 15 of the front porches, the sync polarities. */
const TYPE_1_PREFERRED = 0x80;
const TYPE_1_POSITIVE = 0x8000;
/** Aspect ratio "not defined", revision 1. */
const TYPE_1_ASPECT_UNDEFINED = 0x08;

function displayIdBlock(monitor: EdidMonitor, t: Timing): Uint8Array {
  const u16 = (value: number) => [value & 0xff, value >> 8];
  // A type I timing stores every number minus one.
  const clock = t.clock10kHz - 1;
  const name = nameBytes(monitor.name);
  const data = [
    DATA_BLOCK.PRODUCT_ID,
    0,
    12 + name.length,
    ...'SBV'.split('').map((c) => c.charCodeAt(0)),
    ...u16(PRODUCT_CODE),
    0,
    0,
    0,
    0,
    0,
    YEAR_OF_MANUFACTURE - 2000,
    name.length,
    ...name,
    DATA_BLOCK.TYPE_1_TIMING,
    1,
    20,
    clock & 0xff,
    (clock >> 8) & 0xff,
    clock >> 16,
    TYPE_1_PREFERRED | TYPE_1_ASPECT_UNDEFINED,
    ...u16(t.width - 1),
    ...u16(t.hBlank - 1),
    ...u16((t.hFront - 1) | TYPE_1_POSITIVE),
    ...u16(t.hSync - 1),
    ...u16(t.height - 1),
    ...u16(t.vBlank - 1),
    ...u16(t.vFront - 1),
    ...u16(t.vSync - 1),
  ];
  const section = checksummed(Uint8Array.of(DISPLAY_ID_1_3, data.length, PRODUCT_TYPE_TEST, 0, ...data, 0));
  const block = new Uint8Array(EDID_BLOCK_SIZE);
  block[0] = DISPLAY_ID_TAG;
  block.set(section, 1);
  return checksummed(block);
}
