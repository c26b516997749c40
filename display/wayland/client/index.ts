/**
 * A Wayland client: `scanout-bridge/wayland`.
 */
export * from './display.ts';
export { WaylandError, WaylandProtocolError, WaylandVersionError, type ProtocolErrorDetails, type WaylandCloseReason } from './errors.ts';
export { WaylandObject, type WaylandClass } from './object.ts';
export type { InterfaceTable, MessageTable, ArgumentTable, OrLater } from '../../../protocols/wayland/wire.ts';
export * from './generated/cursor-shape.ts';
export * from './generated/fractional-scale.ts';
export * from './generated/idle-inhibit.ts';
export * from './generated/keyboard-shortcuts-inhibit.ts';
export * from './generated/linux-dmabuf.ts';
export * from './generated/linux-drm-syncobj.ts';
export * from './generated/pointer-constraints.ts';
export * from './generated/presentation-time.ts';
export * from './generated/relative-pointer.ts';
export * from './generated/single-pixel-buffer.ts';
export * from './generated/tearing-control.ts';
export * from './generated/viewporter.ts';
export * from './generated/wayland.ts';
export * from './generated/xdg-decoration.ts';
export * from './generated/xdg-shell.ts';
