import { DRM_FORMAT_MOD_INVALID, type Fourcc } from '../../protocols/drm-fourcc.ts';
import { DRM_IOCTL_MODE_ADDFB2, DRM_IOCTL_MODE_RMFB, drm_mode_fb_cmd2, DRM_MODE_FB_MODIFIERS } from '../../protocols/drm-mode.ts';
import type { PixelLayout } from '../../src/core/framebuffer.ts';
import type { KmsDevice } from './device.ts';
import type { FbId, GemHandle } from './ids.ts';

const MAX_MEMORY_PLANES = 4;

function upToFour<T>(planes: PixelLayout['planes'], value: (plane: PixelLayout['planes'][number]) => T, none: T): T[] {
  return Array.from({ length: MAX_MEMORY_PLANES }, (_, i) => (planes[i] ? value(planes[i]) : none));
}

/** A framebuffer of pixels behind one handle, seen as `format`, which may leave out the alpha. SysError as the driver says. */
export function addFramebuffer(device: KmsDevice, handle: GemHandle, layout: PixelLayout, format: Fourcc): FbId {
  const { width, height, planes, modifier } = layout;
  const withModifier = device.hasModifiers && modifier !== DRM_FORMAT_MOD_INVALID;
  const argument = drm_mode_fb_cmd2.encode({
    width,
    height,
    pixel_format: format,
    flags: withModifier ? DRM_MODE_FB_MODIFIERS : 0,
    handles: upToFour(planes, () => handle as number, 0),
    pitches: upToFour(planes, ({ stride }) => stride, 0),
    offsets: upToFour(planes, ({ offset }) => offset, 0),
    modifier: upToFour(planes, () => (withModifier ? modifier : 0n) as bigint, 0n),
  });
  device.ioctl(DRM_IOCTL_MODE_ADDFB2, 'DRM_IOCTL_MODE_ADDFB2', argument);
  return drm_mode_fb_cmd2.decode(argument).fb_id as FbId;
}

/** Turns off a plane that still shows it. */
export function removeFramebuffer(device: KmsDevice, id: FbId): void {
  const argument = new Uint8Array(4);
  new DataView(argument.buffer).setUint32(0, id, true);
  device.ioctl(DRM_IOCTL_MODE_RMFB, 'DRM_IOCTL_MODE_RMFB', argument);
}
