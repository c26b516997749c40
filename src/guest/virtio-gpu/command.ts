import { virtio_gpu_rect } from '../../../protocols/virtio-gpu.ts';
import type { MutableRect, Rect } from '../../core/geometry.ts';
import { VirtioGpuError } from './errors.ts';
import type { Answer } from './fences.ts';
import type { Reply, Request } from './message.ts';
import type { Monitors } from './monitors.ts';
import type { Resources } from './resources.ts';
import type { Scanouts } from './scanouts.ts';
import type { PixelTap } from './tap-pixels.ts';

const { x: X, y: Y, width: WIDTH, height: HEIGHT } = virtio_gpu_rect.field;

/** What commands work on. */
export interface GpuState {
  readonly resources: Resources;
  readonly scanouts: Scanouts;
  readonly monitors: Monitors;
  readonly tap: PixelTap | null;
  /** Reused by every command that reads a rectangle. */
  readonly rect: MutableRect;
  flushes: number;
  transfers: number;
}

/** One command of the guest: it checks everything, throwing VirtioGpuError, before it changes anything. */
export interface Command {
  /** Bytes of the request's struct; shorter ones are refused before `run`. */
  readonly size: number;
  run(gpu: GpuState, request: Request, reply: Reply, answer: Answer): void;
}

/** The virtio_gpu_rect at byte `at`. */
export function readRect(gpu: GpuState, { view }: Request, at: number): MutableRect {
  return gpu.rect.set(X.get(view, at), Y.get(view, at), WIDTH.get(view, at), HEIGHT.get(view, at));
}

export function checkInside(rect: Rect, width: number, height: number): void {
  // Sums of two 32-bit numbers are exact.
  if (rect.x + rect.width > width || rect.y + rect.height > height) {
    throw new VirtioGpuError('invalid-parameter', `rectangle ${rect.width}x${rect.height}+${rect.x}+${rect.y} leaves ${width}x${height}`);
  }
}
