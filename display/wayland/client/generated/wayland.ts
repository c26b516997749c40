// Made from wayland.xml by protocols/wayland/scanner: npm run generate:wayland
import { type WlKeyboardKeyState, type WlKeyboardKeymapFormat, type WlOutputSubpixel, type WlOutputTransform, type WlPointerAxis, type WlPointerAxisRelativeDirection, type WlPointerAxisSource, type WlPointerButtonState, type WlShmFormat, wl_buffer, wl_callback, wl_compositor, wl_data_device, wl_data_device_manager, wl_data_offer, wl_data_source, wl_display, wl_keyboard, wl_output, wl_pointer, wl_region, wl_registry, wl_seat, wl_shm, wl_shm_pool, wl_subcompositor, wl_subsurface, wl_surface, wl_touch } from '../../../../protocols/wayland/generated/wayland.ts';
import type { OrLater } from '../../../../protocols/wayland/wire.ts';
import type { BorrowedFd, OwnedFd } from '../../../../src/sys/fd.ts';
import type { Incoming } from '../incoming.ts';
import { type WaylandClass, WaylandObject } from '../object.ts';
import { stringSize } from '../outgoing.ts';

export { WlDataDeviceError, WlDataDeviceManagerDndAction, WlDataOfferError, WlDataSourceError, WlDisplayError, WlKeyboardKeyState, WlKeyboardKeymapFormat, WlOutputMode, WlOutputSubpixel, WlOutputTransform, WlPointerAxis, WlPointerAxisRelativeDirection, WlPointerAxisSource, WlPointerButtonState, WlPointerError, WlSeatCapability, WlSeatError, WlShmError, WlShmFormat, WlSubcompositorError, WlSubsurfaceError, WlSurfaceError } from '../../../../protocols/wayland/generated/wayland.ts';

export interface WlDisplayListener {
  error?(objectId: number, code: number, message: string): void;
  deleteId?(id: number): void;
}

export class WlDisplay extends WaylandObject {
  static readonly interface = wl_display;
  declare listener: WlDisplayListener | null;

  override get interface(): typeof wl_display {
    return wl_display;
  }

  sync(): WlCallback {
    const out = this.request(0, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlCallback, this.version);
  }

  getRegistry(): WlRegistry {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlRegistry, this.version);
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const objectId = event.uint();
        const code = event.uint();
        const message = event.string();
        event.end();
        this.listener?.error?.(objectId, code, message);
        return;
      }
      case 1: {
        const id = event.uint();
        event.end();
        this.listener?.deleteId?.(id);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlRegistryListener {
  global?(name: number, interface_: string, version_: number): void;
  globalRemove?(name: number): void;
}

export class WlRegistry extends WaylandObject {
  static readonly interface = wl_registry;
  declare listener: WlRegistryListener | null;

  override get interface(): typeof wl_registry {
    return wl_registry;
  }

  bind<T extends WaylandObject>(name: number, type: WaylandClass<T>, version: number): T {
    const out = this.request(0, 20 + stringSize(type.interface.name));
    out.uint(name);
    out.string(type.interface.name);
    out.uint(version);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(type, version);
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const name = event.uint();
        const interface_ = event.string();
        const version_ = event.uint();
        event.end();
        this.listener?.global?.(name, interface_, version_);
        return;
      }
      case 1: {
        const name = event.uint();
        event.end();
        this.listener?.globalRemove?.(name);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlCallbackListener {
  done?(callbackData: number): void;
}

export class WlCallback extends WaylandObject {
  static readonly interface = wl_callback;
  declare listener: WlCallbackListener | null;

  override get interface(): typeof wl_callback {
    return wl_callback;
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const callbackData = event.uint();
        event.end();
        const { listener } = this;
        this.retire();
        listener?.done?.(callbackData);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export class WlCompositor extends WaylandObject {
  static readonly interface = wl_compositor;

  override get interface(): typeof wl_compositor {
    return wl_compositor;
  }

  createSurface(): WlSurface {
    const out = this.request(0, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlSurface, this.version);
  }

  createRegion(): WlRegion {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlRegion, this.version);
  }
}

export class WlShmPool extends WaylandObject {
  static readonly interface = wl_shm_pool;

  override get interface(): typeof wl_shm_pool {
    return wl_shm_pool;
  }

  createBuffer(offset: number, width: number, height: number, stride: number, format: WlShmFormat): WlBuffer {
    const out = this.request(0, 32);
    out.uint(this.connection.objects.nextId);
    out.int(offset);
    out.int(width);
    out.int(height);
    out.int(stride);
    out.uint(format);
    out.end();
    return this.connection.objects.create(WlBuffer, this.version);
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }

  resize(size: number): void {
    const out = this.request(2, 12);
    out.int(size);
    out.end();
  }
}

export interface WlShmListener {
  format?(format: OrLater<WlShmFormat>): void;
}

export class WlShm extends WaylandObject {
  static readonly interface = wl_shm;
  declare listener: WlShmListener | null;

  override get interface(): typeof wl_shm {
    return wl_shm;
  }

  createPool(fd: BorrowedFd, size: number): WlShmPool {
    const out = this.request(0, 16);
    out.uint(this.connection.objects.nextId);
    out.int(size);
    out.fd(fd);
    out.end();
    return this.connection.objects.create(WlShmPool, this.version);
  }

  /** Since version 2. */
  release(): void {
    const out = this.request(1, 8, 2);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const format = event.uint();
        event.end();
        this.listener?.format?.(format);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlBufferListener {
  release?(): void;
}

export class WlBuffer extends WaylandObject {
  static readonly interface = wl_buffer;
  declare listener: WlBufferListener | null;

  override get interface(): typeof wl_buffer {
    return wl_buffer;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        event.end();
        this.listener?.release?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlSurfaceListener {
  enter?(output: WlOutput | null): void;
  leave?(output: WlOutput | null): void;
  /** Since version 6. */
  preferredBufferScale?(factor: number): void;
  /** Since version 6. */
  preferredBufferTransform?(transform: OrLater<WlOutputTransform>): void;
}

export class WlSurface extends WaylandObject {
  static readonly interface = wl_surface;
  declare listener: WlSurfaceListener | null;

  override get interface(): typeof wl_surface {
    return wl_surface;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  attach(buffer: WlBuffer | null, x: number, y: number): void {
    const out = this.request(1, 20);
    out.uint(this.connection.objects.idOf(buffer));
    out.int(x);
    out.int(y);
    out.end();
  }

  damage(x: number, y: number, width: number, height: number): void {
    const out = this.request(2, 24);
    out.int(x);
    out.int(y);
    out.int(width);
    out.int(height);
    out.end();
  }

  frame(): WlCallback {
    const out = this.request(3, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlCallback, this.version);
  }

  setOpaqueRegion(region: WlRegion | null): void {
    const out = this.request(4, 12);
    out.uint(this.connection.objects.idOf(region));
    out.end();
  }

  setInputRegion(region: WlRegion | null): void {
    const out = this.request(5, 12);
    out.uint(this.connection.objects.idOf(region));
    out.end();
  }

  commit(): void {
    const out = this.request(6, 8);
    out.end();
  }

  /** Since version 2. */
  setBufferTransform(transform: WlOutputTransform): void {
    const out = this.request(7, 12, 2);
    out.int(transform);
    out.end();
  }

  /** Since version 3. */
  setBufferScale(scale: number): void {
    const out = this.request(8, 12, 3);
    out.int(scale);
    out.end();
  }

  /** Since version 4. */
  damageBuffer(x: number, y: number, width: number, height: number): void {
    const out = this.request(9, 24, 4);
    out.int(x);
    out.int(y);
    out.int(width);
    out.int(height);
    out.end();
  }

  /** Since version 5. */
  offset(x: number, y: number): void {
    const out = this.request(10, 16, 5);
    out.int(x);
    out.int(y);
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const output = this.connection.objects.resolve(WlOutput, event.uint());
        event.end();
        this.listener?.enter?.(output);
        return;
      }
      case 1: {
        const output = this.connection.objects.resolve(WlOutput, event.uint());
        event.end();
        this.listener?.leave?.(output);
        return;
      }
      case 2: {
        const factor = event.int();
        event.end();
        this.listener?.preferredBufferScale?.(factor);
        return;
      }
      case 3: {
        const transform = event.uint();
        event.end();
        this.listener?.preferredBufferTransform?.(transform);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlSeatListener {
  capabilities?(capabilities: number): void;
  /** Since version 2. */
  name?(name: string): void;
}

export class WlSeat extends WaylandObject {
  static readonly interface = wl_seat;
  declare listener: WlSeatListener | null;

  override get interface(): typeof wl_seat {
    return wl_seat;
  }

  getPointer(): WlPointer {
    const out = this.request(0, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlPointer, this.version);
  }

  getKeyboard(): WlKeyboard {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlKeyboard, this.version);
  }

  getTouch(): WlTouch {
    const out = this.request(2, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlTouch, this.version);
  }

  /** Since version 5. */
  release(): void {
    const out = this.request(3, 8, 5);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const capabilities = event.uint();
        event.end();
        this.listener?.capabilities?.(capabilities);
        return;
      }
      case 1: {
        const name = event.string();
        event.end();
        this.listener?.name?.(name);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlPointerListener {
  enter?(serial: number, surface: WlSurface | null, surfaceX: number, surfaceY: number): void;
  leave?(serial: number, surface: WlSurface | null): void;
  motion?(time: number, surfaceX: number, surfaceY: number): void;
  button?(serial: number, time: number, button: number, state: OrLater<WlPointerButtonState>): void;
  axis?(time: number, axis: OrLater<WlPointerAxis>, value: number): void;
  /** Since version 5. */
  frame?(): void;
  /** Since version 5. */
  axisSource?(axisSource: OrLater<WlPointerAxisSource>): void;
  /** Since version 5. */
  axisStop?(time: number, axis: OrLater<WlPointerAxis>): void;
  /** Since version 5. */
  axisDiscrete?(axis: OrLater<WlPointerAxis>, discrete: number): void;
  /** Since version 8. */
  axisValue120?(axis: OrLater<WlPointerAxis>, value120: number): void;
  /** Since version 9. */
  axisRelativeDirection?(axis: OrLater<WlPointerAxis>, direction: OrLater<WlPointerAxisRelativeDirection>): void;
}

export class WlPointer extends WaylandObject {
  static readonly interface = wl_pointer;
  declare listener: WlPointerListener | null;

  override get interface(): typeof wl_pointer {
    return wl_pointer;
  }

  setCursor(serial: number, surface: WlSurface | null, hotspotX: number, hotspotY: number): void {
    const out = this.request(0, 24);
    out.uint(serial);
    out.uint(this.connection.objects.idOf(surface));
    out.int(hotspotX);
    out.int(hotspotY);
    out.end();
  }

  /** Since version 3. */
  release(): void {
    const out = this.request(1, 8, 3);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const serial = event.uint();
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        const surfaceX = event.fixed();
        const surfaceY = event.fixed();
        event.end();
        this.listener?.enter?.(serial, surface, surfaceX, surfaceY);
        return;
      }
      case 1: {
        const serial = event.uint();
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        event.end();
        this.listener?.leave?.(serial, surface);
        return;
      }
      case 2: {
        const time = event.uint();
        const surfaceX = event.fixed();
        const surfaceY = event.fixed();
        event.end();
        this.listener?.motion?.(time, surfaceX, surfaceY);
        return;
      }
      case 3: {
        const serial = event.uint();
        const time = event.uint();
        const button = event.uint();
        const state = event.uint();
        event.end();
        this.listener?.button?.(serial, time, button, state);
        return;
      }
      case 4: {
        const time = event.uint();
        const axis = event.uint();
        const value = event.fixed();
        event.end();
        this.listener?.axis?.(time, axis, value);
        return;
      }
      case 5: {
        event.end();
        this.listener?.frame?.();
        return;
      }
      case 6: {
        const axisSource = event.uint();
        event.end();
        this.listener?.axisSource?.(axisSource);
        return;
      }
      case 7: {
        const time = event.uint();
        const axis = event.uint();
        event.end();
        this.listener?.axisStop?.(time, axis);
        return;
      }
      case 8: {
        const axis = event.uint();
        const discrete = event.int();
        event.end();
        this.listener?.axisDiscrete?.(axis, discrete);
        return;
      }
      case 9: {
        const axis = event.uint();
        const value120 = event.int();
        event.end();
        this.listener?.axisValue120?.(axis, value120);
        return;
      }
      case 10: {
        const axis = event.uint();
        const direction = event.uint();
        event.end();
        this.listener?.axisRelativeDirection?.(axis, direction);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlKeyboardListener {
  keymap?(format: OrLater<WlKeyboardKeymapFormat>, fd: OwnedFd, size: number): void;
  enter?(serial: number, surface: WlSurface | null, keys: Uint8Array): void;
  leave?(serial: number, surface: WlSurface | null): void;
  key?(serial: number, time: number, key: number, state: OrLater<WlKeyboardKeyState>): void;
  modifiers?(serial: number, modsDepressed: number, modsLatched: number, modsLocked: number, group: number): void;
  /** Since version 4. */
  repeatInfo?(rate: number, delay: number): void;
}

export class WlKeyboard extends WaylandObject {
  static readonly interface = wl_keyboard;
  declare listener: WlKeyboardListener | null;

  override get interface(): typeof wl_keyboard {
    return wl_keyboard;
  }

  /** Since version 3. */
  release(): void {
    const out = this.request(0, 8, 3);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const format = event.uint();
        const fd = event.fd();
        const size = event.uint();
        event.end();
        if (this.listener?.keymap) this.listener.keymap(format, fd, size);
        else fd[Symbol.dispose]();
        return;
      }
      case 1: {
        const serial = event.uint();
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        const keys = event.array();
        event.end();
        this.listener?.enter?.(serial, surface, keys);
        return;
      }
      case 2: {
        const serial = event.uint();
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        event.end();
        this.listener?.leave?.(serial, surface);
        return;
      }
      case 3: {
        const serial = event.uint();
        const time = event.uint();
        const key = event.uint();
        const state = event.uint();
        event.end();
        this.listener?.key?.(serial, time, key, state);
        return;
      }
      case 4: {
        const serial = event.uint();
        const modsDepressed = event.uint();
        const modsLatched = event.uint();
        const modsLocked = event.uint();
        const group = event.uint();
        event.end();
        this.listener?.modifiers?.(serial, modsDepressed, modsLatched, modsLocked, group);
        return;
      }
      case 5: {
        const rate = event.int();
        const delay = event.int();
        event.end();
        this.listener?.repeatInfo?.(rate, delay);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlTouchListener {
  down?(serial: number, time: number, surface: WlSurface | null, id: number, x: number, y: number): void;
  up?(serial: number, time: number, id: number): void;
  motion?(time: number, id: number, x: number, y: number): void;
  frame?(): void;
  cancel?(): void;
  /** Since version 6. */
  shape?(id: number, major: number, minor: number): void;
  /** Since version 6. */
  orientation?(id: number, orientation: number): void;
}

export class WlTouch extends WaylandObject {
  static readonly interface = wl_touch;
  declare listener: WlTouchListener | null;

  override get interface(): typeof wl_touch {
    return wl_touch;
  }

  /** Since version 3. */
  release(): void {
    const out = this.request(0, 8, 3);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const serial = event.uint();
        const time = event.uint();
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        const id = event.int();
        const x = event.fixed();
        const y = event.fixed();
        event.end();
        this.listener?.down?.(serial, time, surface, id, x, y);
        return;
      }
      case 1: {
        const serial = event.uint();
        const time = event.uint();
        const id = event.int();
        event.end();
        this.listener?.up?.(serial, time, id);
        return;
      }
      case 2: {
        const time = event.uint();
        const id = event.int();
        const x = event.fixed();
        const y = event.fixed();
        event.end();
        this.listener?.motion?.(time, id, x, y);
        return;
      }
      case 3: {
        event.end();
        this.listener?.frame?.();
        return;
      }
      case 4: {
        event.end();
        this.listener?.cancel?.();
        return;
      }
      case 5: {
        const id = event.int();
        const major = event.fixed();
        const minor = event.fixed();
        event.end();
        this.listener?.shape?.(id, major, minor);
        return;
      }
      case 6: {
        const id = event.int();
        const orientation = event.fixed();
        event.end();
        this.listener?.orientation?.(id, orientation);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlOutputListener {
  geometry?(x: number, y: number, physicalWidth: number, physicalHeight: number, subpixel: OrLater<WlOutputSubpixel>, make: string, model: string, transform: OrLater<WlOutputTransform>): void;
  mode?(flags: number, width: number, height: number, refresh: number): void;
  /** Since version 2. */
  done?(): void;
  /** Since version 2. */
  scale?(factor: number): void;
  /** Since version 4. */
  name?(name: string): void;
  /** Since version 4. */
  description?(description: string): void;
}

export class WlOutput extends WaylandObject {
  static readonly interface = wl_output;
  declare listener: WlOutputListener | null;

  override get interface(): typeof wl_output {
    return wl_output;
  }

  /** Since version 3. */
  release(): void {
    const out = this.request(0, 8, 3);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const x = event.int();
        const y = event.int();
        const physicalWidth = event.int();
        const physicalHeight = event.int();
        const subpixel = event.int();
        const make = event.string();
        const model = event.string();
        const transform = event.int();
        event.end();
        this.listener?.geometry?.(x, y, physicalWidth, physicalHeight, subpixel, make, model, transform);
        return;
      }
      case 1: {
        const flags = event.uint();
        const width = event.int();
        const height = event.int();
        const refresh = event.int();
        event.end();
        this.listener?.mode?.(flags, width, height, refresh);
        return;
      }
      case 2: {
        event.end();
        this.listener?.done?.();
        return;
      }
      case 3: {
        const factor = event.int();
        event.end();
        this.listener?.scale?.(factor);
        return;
      }
      case 4: {
        const name = event.string();
        event.end();
        this.listener?.name?.(name);
        return;
      }
      case 5: {
        const description = event.string();
        event.end();
        this.listener?.description?.(description);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export class WlRegion extends WaylandObject {
  static readonly interface = wl_region;

  override get interface(): typeof wl_region {
    return wl_region;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  add(x: number, y: number, width: number, height: number): void {
    const out = this.request(1, 24);
    out.int(x);
    out.int(y);
    out.int(width);
    out.int(height);
    out.end();
  }

  subtract(x: number, y: number, width: number, height: number): void {
    const out = this.request(2, 24);
    out.int(x);
    out.int(y);
    out.int(width);
    out.int(height);
    out.end();
  }
}

export class WlSubcompositor extends WaylandObject {
  static readonly interface = wl_subcompositor;

  override get interface(): typeof wl_subcompositor {
    return wl_subcompositor;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  getSubsurface(surface: WlSurface, parent: WlSurface): WlSubsurface {
    const out = this.request(1, 20);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.uint(this.connection.objects.idOf(parent));
    out.end();
    return this.connection.objects.create(WlSubsurface, this.version);
  }
}

export class WlSubsurface extends WaylandObject {
  static readonly interface = wl_subsurface;

  override get interface(): typeof wl_subsurface {
    return wl_subsurface;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  setPosition(x: number, y: number): void {
    const out = this.request(1, 16);
    out.int(x);
    out.int(y);
    out.end();
  }

  placeAbove(sibling: WlSurface): void {
    const out = this.request(2, 12);
    out.uint(this.connection.objects.idOf(sibling));
    out.end();
  }

  placeBelow(sibling: WlSurface): void {
    const out = this.request(3, 12);
    out.uint(this.connection.objects.idOf(sibling));
    out.end();
  }

  setSync(): void {
    const out = this.request(4, 8);
    out.end();
  }

  setDesync(): void {
    const out = this.request(5, 8);
    out.end();
  }
}

export class WlDataDeviceManager extends WaylandObject {
  static readonly interface = wl_data_device_manager;

  override get interface(): typeof wl_data_device_manager {
    return wl_data_device_manager;
  }

  createDataSource(): WlDataSource {
    const out = this.request(0, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WlDataSource, this.version);
  }

  getDataDevice(seat: WlSeat): WlDataDevice {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(seat));
    out.end();
    return this.connection.objects.create(WlDataDevice, this.version);
  }
}

export interface WlDataDeviceListener {
  dataOffer?(id: WlDataOffer): void;
  enter?(serial: number, surface: WlSurface | null, x: number, y: number, id: WlDataOffer | null): void;
  leave?(): void;
  motion?(time: number, x: number, y: number): void;
  drop?(): void;
  selection?(id: WlDataOffer | null): void;
}

export class WlDataDevice extends WaylandObject {
  static readonly interface = wl_data_device;
  declare listener: WlDataDeviceListener | null;

  override get interface(): typeof wl_data_device {
    return wl_data_device;
  }

  startDrag(source: WlDataSource | null, origin: WlSurface, icon: WlSurface | null, serial: number): void {
    const out = this.request(0, 24);
    out.uint(this.connection.objects.idOf(source));
    out.uint(this.connection.objects.idOf(origin));
    out.uint(this.connection.objects.idOf(icon));
    out.uint(serial);
    out.end();
  }

  setSelection(source: WlDataSource | null, serial: number): void {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.idOf(source));
    out.uint(serial);
    out.end();
  }

  /** Since version 2. */
  release(): void {
    const out = this.request(2, 8, 2);
    out.end();
    this.retire();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const id = this.connection.objects.adopt(WlDataOffer, event.uint(), this.version);
        event.end();
        if (this.listener?.dataOffer) this.listener.dataOffer(id);
        else id[Symbol.dispose]();
        return;
      }
      case 1: {
        const serial = event.uint();
        const surface = this.connection.objects.resolve(WlSurface, event.uint());
        const x = event.fixed();
        const y = event.fixed();
        const id = this.connection.objects.resolveNullable(WlDataOffer, event.uint());
        event.end();
        this.listener?.enter?.(serial, surface, x, y, id);
        return;
      }
      case 2: {
        event.end();
        this.listener?.leave?.();
        return;
      }
      case 3: {
        const time = event.uint();
        const x = event.fixed();
        const y = event.fixed();
        event.end();
        this.listener?.motion?.(time, x, y);
        return;
      }
      case 4: {
        event.end();
        this.listener?.drop?.();
        return;
      }
      case 5: {
        const id = this.connection.objects.resolveNullable(WlDataOffer, event.uint());
        event.end();
        this.listener?.selection?.(id);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlDataSourceListener {
  target?(mimeType: string | null): void;
  send?(mimeType: string, fd: OwnedFd): void;
  cancelled?(): void;
  /** Since version 3. */
  dndDropPerformed?(): void;
  /** Since version 3. */
  dndFinished?(): void;
  /** Since version 3. */
  action?(dndAction: number): void;
}

export class WlDataSource extends WaylandObject {
  static readonly interface = wl_data_source;
  declare listener: WlDataSourceListener | null;

  override get interface(): typeof wl_data_source {
    return wl_data_source;
  }

  offer(mimeType: string): void {
    const out = this.request(0, 8 + stringSize(mimeType));
    out.string(mimeType);
    out.end();
  }

  destroy(): void {
    const out = this.request(1, 8);
    out.end();
    this.retire();
  }

  /** Since version 3. */
  setActions(dndActions: number): void {
    const out = this.request(2, 12, 3);
    out.uint(dndActions);
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const mimeType = event.nullableString();
        event.end();
        this.listener?.target?.(mimeType);
        return;
      }
      case 1: {
        const mimeType = event.string();
        const fd = event.fd();
        event.end();
        if (this.listener?.send) this.listener.send(mimeType, fd);
        else fd[Symbol.dispose]();
        return;
      }
      case 2: {
        event.end();
        this.listener?.cancelled?.();
        return;
      }
      case 3: {
        event.end();
        this.listener?.dndDropPerformed?.();
        return;
      }
      case 4: {
        event.end();
        this.listener?.dndFinished?.();
        return;
      }
      case 5: {
        const dndAction = event.uint();
        event.end();
        this.listener?.action?.(dndAction);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WlDataOfferListener {
  offer?(mimeType: string): void;
  /** Since version 3. */
  sourceActions?(sourceActions: number): void;
  /** Since version 3. */
  action?(dndAction: number): void;
}

export class WlDataOffer extends WaylandObject {
  static readonly interface = wl_data_offer;
  declare listener: WlDataOfferListener | null;

  override get interface(): typeof wl_data_offer {
    return wl_data_offer;
  }

  accept(serial: number, mimeType: string | null): void {
    const out = this.request(0, 12 + stringSize(mimeType));
    out.uint(serial);
    out.string(mimeType);
    out.end();
  }

  receive(mimeType: string, fd: BorrowedFd): void {
    const out = this.request(1, 8 + stringSize(mimeType));
    out.string(mimeType);
    out.fd(fd);
    out.end();
  }

  destroy(): void {
    const out = this.request(2, 8);
    out.end();
    this.retire();
  }

  /** Since version 3. */
  finish(): void {
    const out = this.request(3, 8, 3);
    out.end();
  }

  /** Since version 3. */
  setActions(dndActions: number, preferredAction: number): void {
    const out = this.request(4, 16, 3);
    out.uint(dndActions);
    out.uint(preferredAction);
    out.end();
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const mimeType = event.string();
        event.end();
        this.listener?.offer?.(mimeType);
        return;
      }
      case 1: {
        const sourceActions = event.uint();
        event.end();
        this.listener?.sourceActions?.(sourceActions);
        return;
      }
      case 2: {
        const dndAction = event.uint();
        event.end();
        this.listener?.action?.(dndAction);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
