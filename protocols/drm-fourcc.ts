/**
 * DRM pixel formats and modifiers: the public entry of `scanout-bridge/drm-fourcc`. Pure data and
 * arithmetic, no I/O, usable alone.
 *
 *     formatName(0x34325258)                     // 'XRGB8888'
 *     parseFormat('XR24') === DRM_FORMAT.XRGB8888
 *     describeModifier(0x0800000000000051n)      // 'ARM AFBC 16x16 YTR SPARSE'
 *     minPitch(formatInfo(DRM_FORMAT.NV12)!, 1, 1920)  // 1920
 */
export * from './drm-fourcc-format.ts';
export * from './drm-fourcc-geometry.ts';
export * from './drm-fourcc-modifier.ts';
