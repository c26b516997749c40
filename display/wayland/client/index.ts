/**
 * A Wayland client in TypeScript, without libwayland, that can send and receive file descriptors. Each interface is a
 * class, a request is a method, and events call the object's `listener`. `WAYLAND_DEBUG=1` in the environment prints
 * every message to stderr.
 *
 * This example lists the compositor's globals and shows a grey window until it has been painted once:
 *
 * ```ts
 * import { createMemfd, Mapping, WaylandDisplay, WlCompositor, WlShm, WlShmFormat, XdgWmBase } from 'scanout-bridge/wayland-client';
 *
 * using display = await WaylandDisplay.connect();
 * for (const { name, interface: type, version } of display.globals.values()) console.log(name, type, version);
 *
 * const compositor = display.bind(WlCompositor, 6);
 * const shm = display.bind(WlShm, 1);
 * const shell = display.bind(XdgWmBase, 1);
 * if (!compositor || !shm || !shell) throw new Error('this compositor has no windows');
 * shell.listener = { ping: (serial) => shell.pong(serial) };
 *
 * const [width, height, stride] = [320, 200, 320 * 4];
 * using memory = createMemfd('picture', stride * height);
 * using pixels = Mapping.file(memory, 0, stride * height, 'read-write');
 * pixels.bytes.fill(0x80);
 * using pool = shm.createPool(memory, stride * height);
 * const buffer = pool.createBuffer(0, width, height, stride, WlShmFormat.xrgb8888);
 *
 * const surface = compositor.createSurface();
 * const window = shell.getXdgSurface(surface);
 * window.getToplevel().setTitle('A picture');
 * surface.commit(); // The compositor answers by configuring the window.
 * await new Promise<void>((resolve) => {
 *   window.listener = {
 *     configure(serial) {
 *       window.ackConfigure(serial);
 *       surface.attach(buffer, 0, 0);
 *       surface.damage(0, 0, width, height);
 *       surface.frame().listener = { done: () => resolve() };
 *       surface.commit();
 *     },
 *   };
 * });
 * ```
 */
export { type BorrowedFd, OwnedFd } from '../../../src/sys/fd.ts';
export { Mapping } from '../../../src/sys/mapping.ts';
export { createMemfd } from '../../../src/sys/memfd.ts';
export { SysError } from '../../../src/sys/errors.ts';
export { type ConnectOptions, WaylandDisplay, type WaylandGlobal } from './display.ts';
export {
  WaylandError,
  WaylandProtocolError,
  WaylandVersionError,
  type ProtocolErrorDetails,
  type WaylandCloseReason,
} from './errors.ts';
export { type ObjectMap, type ObjectOwner, type WaylandClass, WaylandObject } from './object.ts';
export type { Incoming } from './incoming.ts';
export type { Outgoing } from './outgoing.ts';
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
export * from './generated/tablet.ts';
export * from './generated/tearing-control.ts';
export * from './generated/viewporter.ts';
export * from './generated/wayland.ts';
export * from './generated/xdg-activation.ts';
export * from './generated/xdg-decoration.ts';
export * from './generated/xdg-output.ts';
export * from './generated/xdg-shell.ts';
export * from './generated/xdg-toplevel-icon.ts';
