/**
 * A guest that describes pixels (a `Source`), a screen that shows them (an `Output`), and the
 * bridge between them:
 *
 * ```ts
 * import { Bridge, HeadlessOutput, VhostUserGuest } from 'scanout-bridge';
 *
 * using guest = VhostUserGuest.open({ socket: '/tmp/gpu.sock' });
 * using output = HeadlessOutput.open({ width: 1280, height: 800 });
 * using bridge = new Bridge(guest);
 * bridge.show(0, output);
 * ```
 *
 * Everything needed to write a `Source` or an `Output` elsewhere is exported here. Screens of this
 * machine are in `scanout-bridge/kms` and `scanout-bridge/wayland`, tests of a guest's screen in
 * `scanout-bridge/testing`.
 *
 * @module
 */
export {
  Bridge,
  type BridgeOptions,
  type Observation,
  type ObserveOptions,
  type ScanoutStats,
} from './bridge/bridge.ts';
export type { ZeroCopy } from './bridge/dmabuf-pool.ts';
export type { Latency } from './bridge/present-deadline.ts';
export type { PlaneStats, Rung } from './bridge/plane-buffers.ts';
export type { PlaneCacheStats } from './bridge/plane-imports.ts';
export type { AgeStats, FrameAgesStats, FrameTimes } from './bridge/frame-ages.ts';
export type { ScreenStats } from './bridge/screen.ts';
export { MemoryBudget } from './core/budget.ts';
export {
  type Clipboard,
  ClipboardError,
  type ClipboardType,
  type Copied,
  MAX_CLIPBOARD_BYTES,
  shareClipboard,
} from './core/clipboard.ts';
export { Damage } from './core/damage.ts';
export { UsageError } from './core/errors.ts';
export {
  type Backing,
  type DmabufBacking,
  type FileBacking,
  FormatSet,
  type Framebuffer,
  type FramebufferId,
  type MemoryPlane,
  newFramebufferId,
  type PagesBacking,
  type PixelLayout,
} from './core/framebuffer.ts';
export type { Rect, Size } from './core/geometry.ts';
export type { GuestInput, InputSink, WheelAxis } from './core/input.ts';
export type { Log, LogLevel } from './core/log.ts';
export { type Monitor, virtualMonitor } from './core/monitor.ts';
export {
  type AttachOptions,
  type BufferSink,
  DmabufImportRefused,
  type Frame,
  type GuestBuffer,
  type Handle,
  type Output,
  type OutputListener,
  type PlaneState,
  type Presentation,
  PresentedFlags,
  type RefusalCode,
  type ScreenListener,
  type Shadow,
} from './core/output.ts';
export type { Picture } from './core/picture.ts';
export type { Flush, ScanoutId, Source, SourceSink } from './core/source.ts';
export { QemuDbusError, type QemuDbusErrorCode } from './guest/qemu-dbus/errors.ts';
export type { ConsoleStats } from './guest/qemu-dbus/console.ts';
export {
  QemuDbusGuest,
  type QemuDbusGuestOptions,
  type QemuDbusStats,
  type VmAddress,
} from './guest/qemu-dbus/guest.ts';
export { dbusByQmp, keysReadByQmp } from './qemu/dbus-display.ts';
export { RecordingError } from './guest/replay/format.ts';
export { PictureRecorder, type PictureRecorderOptions } from './guest/replay/picture-recorder.ts';
export { Recorder, type RecorderOptions } from './guest/replay/recorder.ts';
export { Replay, type ReplayOptions, type ReplayProgress, type ReplaySummary } from './guest/replay/replay.ts';
export type { RecordingInput } from './guest/replay/recording-reader.ts';
export type { GpuStats } from './guest/virtio-gpu/device.ts';
export type { VfioAddress } from './guest/vfio/access.ts';
export { type PlaneMode, VfioError, type VfioErrorCode } from './guest/vfio/device.ts';
export { VfioGuest, type VfioGuestOptions, type VfioStats } from './guest/vfio/guest.ts';
export type { DbusClipboard, DbusClipboardStats } from './guest/qemu-dbus/clipboard.ts';
export { VdagentClipboard, type VdagentClipboardOptions, type VdagentStats } from './guest/vdagent/clipboard.ts';
export { VhostUserGuest, type VhostUserGuestOptions } from './guest/vhost-user/guest.ts';
export { type InputKind, VhostUserInput, type VhostUserInputOptions } from './guest/vhost-user/input.ts';
export { type Memory, ScatteredMemory } from './sys/copy-rect.ts';
export { ScanoutError, SysError } from './sys/errors.ts';
export { type BorrowedFd, OwnedFd } from './sys/fd.ts';
export { type Access, type FilePiece, Mapping } from './sys/mapping.ts';
export { createMemfd } from './sys/memfd.ts';
export { type PageRange, PageRuns } from './sys/page-runs.ts';
export type { ConsumerStats } from '../display/export/consumers.ts';
export { ExportDisplay, type ExportOptions, type ExportStats } from '../display/export/display.ts';
export { type VncAddress } from '../display/vnc/address.ts';
export { VncError } from '../display/vnc/errors.ts';
export { VncOutput, type VncOptions, type VncStats } from '../display/vnc/output.ts';
export {
  type CaptureOptions,
  HeadlessOutput,
  type HeadlessOptions,
  type HeldScreen,
} from '../display/headless/output.ts';
export type { ShownFrame } from '../display/headless/scene.ts';
export { type CompareOptions, comparePictures, type Comparison, diffPicture } from '../display/picture/compare.ts';
export { decodePng, encodePng, PngError, writePng } from '../display/picture/png.ts';
export { VmmDisplayError } from '../display/vmm/errors.ts';
export { VmmDisplay, type VmmDisplayOptions } from '../display/vmm/display.ts';
export {
  DRM_FORMAT,
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  type Fourcc,
  type Modifier,
} from '../protocols/drm-fourcc.ts';
