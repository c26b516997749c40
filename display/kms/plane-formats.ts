import { DRM_FORMAT_MOD_INVALID, DRM_FORMAT_MOD_LINEAR, type Fourcc, type Modifier } from '../../protocols/drm-fourcc.ts';
import { drm_format_modifier, drm_format_modifier_blob } from '../../protocols/drm-mode.ts';
import { FormatSet } from '../../src/core/framebuffer.ts';

/**
 * What a plane scans out: its IN_FORMATS blob, or without one every listed format, linear.
 * A buffer whose modifier nobody told is taken too, as the driver always did.
 */
export function planeFormats(listed: readonly number[], inFormats: Uint8Array | null): FormatSet {
  const pairs: (readonly [Fourcc, Modifier])[] = inFormats
    ? readInFormats(inFormats)
    : listed.map((format) => [format as Fourcc, DRM_FORMAT_MOD_LINEAR]);
  return new FormatSet([...pairs, ...listed.map((format) => [format as Fourcc, DRM_FORMAT_MOD_INVALID] as const)]);
}

function readInFormats(blob: Uint8Array): (readonly [Fourcc, Modifier])[] {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const head = drm_format_modifier_blob.get(view, 0);
  const pairs: (readonly [Fourcc, Modifier])[] = [];
  for (let m = 0; m < head.count_modifiers; m++) {
    const { formats, offset, modifier } = drm_format_modifier.get(view, head.modifiers_offset + m * drm_format_modifier.size);
    for (let bit = 0; bit < 64 && offset + bit < head.count_formats; bit++) {
      if (((formats >> BigInt(bit)) & 1n) === 0n) continue;
      pairs.push([view.getUint32(head.formats_offset + (offset + bit) * 4, true) as Fourcc, modifier as Modifier]);
    }
  }
  return pairs;
}
