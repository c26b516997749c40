/** Common sizes of screens and videos. */
export const SIZES = [
  { width: 1280, height: 720 },
  { width: 1920, height: 1080 },
  { width: 3840, height: 2160 },
] as const;

export function nameOf({ width, height }: { readonly width: number; readonly height: number }): string {
  return `${width}x${height}`;
}
