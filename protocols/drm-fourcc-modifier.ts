/**
 * Format modifiers: how the pixels of a format are arranged in memory (drm/drm_fourcc.h). 64 bits,
 * the top eight a vendor, the rest as that vendor pleases. Whoever passes buffers on compares
 * modifiers and never computes with them; the decoding here is for people who read logs.
 */
declare const brand: unique symbol;

/** A DRM format modifier: u64. */
export type Modifier = bigint & { readonly [brand]: 'Modifier' };

/** DRM_FORMAT_MOD_VENDOR_* */
export const DRM_FORMAT_MOD_VENDOR = {
  NONE: 0x00,
  INTEL: 0x01,
  AMD: 0x02,
  NVIDIA: 0x03,
  SAMSUNG: 0x04,
  QCOM: 0x05,
  VIVANTE: 0x06,
  BROADCOM: 0x07,
  ARM: 0x08,
  ALLWINNER: 0x09,
  AMLOGIC: 0x0a,
  MTK: 0x0b,
  APPLE: 0x0c,
} as const;

export type ModifierVendor = keyof typeof DRM_FORMAT_MOD_VENDOR;

const VALUE_BITS = 56;

/** `modifierCode('INTEL', 1n)` is I915_FORMAT_MOD_X_TILED. `value` is cut to 56 bits. */
export function modifierCode(vendor: ModifierVendor, value: bigint): Modifier {
  return ((BigInt(DRM_FORMAT_MOD_VENDOR[vendor]) << BigInt(VALUE_BITS)) | BigInt.asUintN(VALUE_BITS, value)) as Modifier;
}

/** Rows of pixels one after another. */
export const DRM_FORMAT_MOD_LINEAR = modifierCode('NONE', 0n);
/** No modifier was given: the layout is what the driver implies. */
export const DRM_FORMAT_MOD_INVALID = modifierCode('NONE', (1n << 56n) - 1n);

/** Every modifier that has a name of its own, by the kernel's macro. AFBC, AFRC and AMD's are built of fields. */
export const NAMED_MODIFIERS: ReadonlyMap<string, Modifier> = new Map([
  ['DRM_FORMAT_MOD_LINEAR', DRM_FORMAT_MOD_LINEAR],
  ['DRM_FORMAT_MOD_INVALID', DRM_FORMAT_MOD_INVALID],
  ...numbered('INTEL', 'I915_FORMAT_MOD_', [
    'X_TILED',
    'Y_TILED',
    'Yf_TILED',
    'Y_TILED_CCS',
    'Yf_TILED_CCS',
    'Y_TILED_GEN12_RC_CCS',
    'Y_TILED_GEN12_MC_CCS',
    'Y_TILED_GEN12_RC_CCS_CC',
    '4_TILED',
    '4_TILED_DG2_RC_CCS',
    '4_TILED_DG2_MC_CCS',
    '4_TILED_DG2_RC_CCS_CC',
    '4_TILED_MTL_RC_CCS',
    '4_TILED_MTL_MC_CCS',
    '4_TILED_MTL_RC_CCS_CC',
    '4_TILED_LNL_CCS',
    '4_TILED_BMG_CCS',
  ]),
  ...numbered('SAMSUNG', 'DRM_FORMAT_MOD_SAMSUNG_', ['64_32_TILE', '16_16_TILE']),
  ...numbered('QCOM', 'DRM_FORMAT_MOD_QCOM_', ['COMPRESSED', 'TILED2', 'TILED3']),
  ...numbered('VIVANTE', 'DRM_FORMAT_MOD_VIVANTE_', ['TILED', 'SUPER_TILED', 'SPLIT_TILED', 'SPLIT_SUPER_TILED']),
  ['DRM_FORMAT_MOD_NVIDIA_TEGRA_TILED', modifierCode('NVIDIA', 1n)],
  ...numbered(
    'NVIDIA',
    'DRM_FORMAT_MOD_NVIDIA_16BX2_BLOCK_',
    ['ONE_GOB', 'TWO_GOB', 'FOUR_GOB', 'EIGHT_GOB', 'SIXTEEN_GOB', 'THIRTYTWO_GOB'],
    0x10,
  ),
  ...numbered('BROADCOM', 'DRM_FORMAT_MOD_BROADCOM_', ['VC4_T_TILED', 'SAND32', 'SAND64', 'SAND128', 'SAND256', 'UIF']),
  ['DRM_FORMAT_MOD_ARM_16X16_BLOCK_U_INTERLEAVED', modifierCode('ARM', (1n << 52n) | 1n)],
  ...numbered('ALLWINNER', 'DRM_FORMAT_MOD_ALLWINNER_', ['TILED']),
  ...numbered('MTK', 'DRM_FORMAT_MOD_MTK_', ['16L_32S_TILE']),
  ...numbered('APPLE', 'DRM_FORMAT_MOD_APPLE_', ['GPU_TILED', 'GPU_TILED_COMPRESSED']),
]);

function numbered(vendor: ModifierVendor, prefix: string, names: readonly string[], first = 1): [string, Modifier][] {
  return names.map((name, i) => [prefix + name, modifierCode(vendor, BigInt(first + i))]);
}

const vendorNames = new Map<number, string>(Object.entries(DRM_FORMAT_MOD_VENDOR).map(([name, id]) => [id, name]));

/** `INTEL`, `NONE` (the kernel's own), or `VENDOR_0x2a` for one the kernel does not know. */
export function modifierVendor(modifier: bigint): string {
  const id = Number(BigInt.asUintN(64, modifier) >> BigInt(VALUE_BITS));
  return vendorNames.get(id) ?? `VENDOR_0x${id.toString(16)}`;
}

/** `DRM_FORMAT_MOD_SAMSUNG_64_32_TILE` -> `SAMSUNG 64_32_TILE`; LINEAR and INVALID stand alone. */
function shortName(macro: string, modifier: Modifier): string {
  const vendor = modifierVendor(modifier);
  const name = macro.replace(/^(DRM|I915)_FORMAT_MOD_/, '');
  if (vendor === 'NONE') return name;
  return `${vendor} ${name.startsWith(`${vendor}_`) ? name.slice(vendor.length + 1) : name}`;
}

const shortNames = new Map<bigint, string>([...NAMED_MODIFIERS].map(([macro, modifier]) => [modifier, shortName(macro, modifier)]));
const byName = new Map<string, Modifier>(
  [...NAMED_MODIFIERS].flatMap(([macro, modifier]) => [
    [macro, modifier],
    [shortName(macro, modifier), modifier],
  ]),
);

/** A field of a modifier: bits `shift` .. `shift + bits - 1`. */
interface Field {
  readonly name: string;
  readonly shift: number;
  readonly bits: number;
  /** Names of values 0, 1, …; a single-bit field without them is a flag. */
  readonly values?: readonly (string | undefined)[];
}

function read(modifier: bigint, field: Field): number {
  return Number((modifier >> BigInt(field.shift)) & ((1n << BigInt(field.bits)) - 1n));
}

/** Fields that are set, in order; whatever no field covers is added in hex, so no two modifiers read alike. */
function spell(modifier: bigint, fields: readonly Field[]): string {
  let rest = BigInt.asUintN(VALUE_BITS, modifier);
  const words: string[] = [];
  for (const field of fields) {
    const value = read(modifier, field);
    rest &= ~(((1n << BigInt(field.bits)) - 1n) << BigInt(field.shift));
    if (field.values !== undefined) words.push(field.values[value] ?? `${field.name}=${value}`);
    else if (value !== 0) words.push(field.bits === 1 ? field.name : `${field.name}=${value}`);
  }
  if (rest !== 0n) words.push(`0x${rest.toString(16)}`);
  return words.join(' ');
}

const ARM_TYPE: Field = { name: 'TYPE', shift: 52, bits: 4, values: ['AFBC', 'MISC', 'AFRC'] };

function flags(first: number, names: readonly string[]): Field[] {
  return names.map((name, i) => ({ name, shift: first + i, bits: 1 }));
}

const AFBC: readonly Field[] = [
  ARM_TYPE,
  { name: 'BLOCK_SIZE', shift: 0, bits: 4, values: [undefined, '16x16', '32x8', '64x4', '32x8_64x4'] },
  ...flags(4, ['YTR', 'SPLIT', 'SPARSE', 'CBR', 'TILED', 'SC', 'DB', 'BCH', 'USM']),
];

const AFRC: readonly Field[] = [
  ARM_TYPE,
  { name: 'P0', shift: 0, bits: 4, values: [undefined, 'P0=CU_16', 'P0=CU_24', 'P0=CU_32'] },
  { name: 'P12', shift: 4, bits: 4, values: [undefined, 'P12=CU_16', 'P12=CU_24', 'P12=CU_32'] },
  { name: 'LAYOUT', shift: 8, bits: 1, values: ['ROT', 'SCAN'] },
];

const AMD_TILE_VERSION: Field = {
  name: 'TILE_VERSION',
  shift: 0,
  bits: 8,
  values: [undefined, 'GFX9', 'GFX10', 'GFX10_RBPLUS', 'GFX11', 'GFX12'],
};

const AMD_GFX9_TILES: readonly (string | undefined)[] = Object.assign(new Array<string | undefined>(32).fill(undefined), {
  9: '64K_S',
  10: '64K_D',
  22: '4K_D_X',
  25: '64K_S_X',
  26: '64K_D_X',
  27: '64K_R_X',
  31: '256K_R_X',
});
const AMD_GFX12_TILES: readonly (string | undefined)[] = ['LINEAR', '256B_2D', '4K_2D', '64K_2D', '256K_2D'];
const AMD_GFX12 = 5;

const AMD_DCC: Field = { name: 'DCC', shift: 13, bits: 1 };
const AMD_DCC_BLOCK: Field = { name: 'DCC_MAX_COMPRESSED_BLOCK', shift: 18, bits: 2 };
const AMD_DCC_BLOCK_SIZES = ['64B', '128B', '256B'].map((size) => `${AMD_DCC_BLOCK.name}=${size}`);

const AMD_REST: readonly Field[] = [
  ...flags(20, ['DCC_CONSTANT_ENCODE']),
  { name: 'PIPE_XOR_BITS', shift: 21, bits: 3 },
  { name: 'BANK_XOR_BITS', shift: 24, bits: 3 },
  { name: 'PACKERS', shift: 27, bits: 3 },
  { name: 'RB', shift: 30, bits: 3 },
  { name: 'PIPE', shift: 33, bits: 3 },
];

function amdFields(modifier: bigint): readonly Field[] {
  const tiles = read(modifier, AMD_TILE_VERSION) === AMD_GFX12 ? AMD_GFX12_TILES : AMD_GFX9_TILES;
  return [
    AMD_TILE_VERSION,
    { name: 'TILE', shift: 8, bits: 5, values: tiles },
    AMD_DCC,
    ...flags(14, ['DCC_RETILE', 'DCC_PIPE_ALIGN', 'DCC_INDEPENDENT_64B', 'DCC_INDEPENDENT_128B']),
    read(modifier, AMD_DCC) === 1 ? { ...AMD_DCC_BLOCK, values: AMD_DCC_BLOCK_SIZES } : AMD_DCC_BLOCK,
    ...AMD_REST,
  ];
}

/**
 * A modifier in words: `LINEAR`, `INVALID`, `INTEL 4_TILED_DG2_RC_CCS`, `ARM AFBC 16x16 YTR SPARSE`,
 * `AMD GFX10_RBPLUS 64K_R_X DCC …`, else vendor and value, `NVIDIA 0x606014`. Any bigint is
 * accepted (cut to 64 bits), and different modifiers read differently.
 */
export function describeModifier(modifier: bigint): string {
  const value = BigInt.asUintN(64, modifier);
  const name = shortNames.get(value);
  if (name !== undefined) return name;
  const vendor = modifierVendor(value);
  if (vendor === 'AMD') return `AMD ${spell(value, amdFields(value))}`;
  if (vendor === 'ARM') {
    const type = read(value, ARM_TYPE);
    if (type === 0) return `ARM ${spell(value, AFBC)}`;
    if (type === 2) return `ARM ${spell(value, AFRC)}`;
  }
  return `${vendor} 0x${BigInt.asUintN(VALUE_BITS, value).toString(16)}`;
}

/**
 * The modifier of a kernel macro (`I915_FORMAT_MOD_X_TILED`), of a name as `describeModifier`
 * gives it (`INTEL X_TILED`, `LINEAR`) or of a number (`0x100000000000001`); else `null`.
 * Descriptions made of fields are not read back.
 */
export function parseModifier(text: string): Modifier | null {
  const named = byName.get(text) ?? byName.get(`DRM_FORMAT_MOD_${text}`);
  if (named !== undefined) return named;
  if (!/^(0x[0-9a-f]{1,16}|[0-9]{1,20})$/i.test(text)) return null;
  const value = BigInt(text);
  return value < 1n << 64n ? (value as Modifier) : null;
}
