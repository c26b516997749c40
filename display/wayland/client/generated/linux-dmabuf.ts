// Made from linux-dmabuf-v1.xml by protocols/wayland/scanner: npm run generate:wayland
import { zwp_linux_buffer_params_v1, zwp_linux_dmabuf_feedback_v1, zwp_linux_dmabuf_v1 } from '../../../../protocols/wayland/generated/linux-dmabuf.ts';
import type { BorrowedFd, OwnedFd } from '../../../../src/sys/fd.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import { WlBuffer, type WlSurface } from './wayland.ts';

export { ZwpLinuxBufferParamsV1Error, ZwpLinuxBufferParamsV1Flags, ZwpLinuxDmabufFeedbackV1TrancheFlags } from '../../../../protocols/wayland/generated/linux-dmabuf.ts';

export interface ZwpLinuxDmabufV1Listener {
  format?(format: number): void;
  /** Since version 3. */
  modifier?(format: number, modifierHi: number, modifierLo: number): void;
}

export class ZwpLinuxDmabufV1 extends WaylandObject {
  static readonly interface = zwp_linux_dmabuf_v1;
  declare listener: ZwpLinuxDmabufV1Listener | null;

  override get interface(): typeof zwp_linux_dmabuf_v1 {
    return zwp_linux_dmabuf_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  createParams(): ZwpLinuxBufferParamsV1 {
    const out = this.request(1, 12);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(ZwpLinuxBufferParamsV1, this.version);
  }

  /** Since version 4. */
  getDefaultFeedback(): ZwpLinuxDmabufFeedbackV1 {
    const out = this.request(2, 12, 4);
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(ZwpLinuxDmabufFeedbackV1, this.version);
  }

  /** Since version 4. */
  getSurfaceFeedback(surface: WlSurface): ZwpLinuxDmabufFeedbackV1 {
    const out = this.request(3, 16, 4);
    out.uint(this.connection.objects.nextId);
    out.uint(this.connection.objects.idOf(surface));
    out.end();
    return this.connection.objects.create(ZwpLinuxDmabufFeedbackV1, this.version);
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const format = event.uint();
        event.end();
        this.listener?.format?.(format);
        return;
      }
      case 1: {
        const format = event.uint();
        const modifierHi = event.uint();
        const modifierLo = event.uint();
        event.end();
        this.listener?.modifier?.(format, modifierHi, modifierLo);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpLinuxBufferParamsV1Listener {
  created?(buffer: WlBuffer): void;
  failed?(): void;
}

export class ZwpLinuxBufferParamsV1 extends WaylandObject {
  static readonly interface = zwp_linux_buffer_params_v1;
  declare listener: ZwpLinuxBufferParamsV1Listener | null;

  override get interface(): typeof zwp_linux_buffer_params_v1 {
    return zwp_linux_buffer_params_v1;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  add(fd: BorrowedFd, planeIdx: number, offset: number, stride: number, modifierHi: number, modifierLo: number): void {
    const out = this.request(1, 28);
    out.uint(planeIdx);
    out.uint(offset);
    out.uint(stride);
    out.uint(modifierHi);
    out.uint(modifierLo);
    out.fd(fd);
    out.end();
  }

  create(width: number, height: number, format: number, flags: number): void {
    const out = this.request(2, 24);
    out.int(width);
    out.int(height);
    out.uint(format);
    out.uint(flags);
    out.end();
  }

  /** Since version 2. */
  createImmed(width: number, height: number, format: number, flags: number): WlBuffer {
    const out = this.request(3, 28, 2);
    out.uint(this.connection.objects.nextId);
    out.int(width);
    out.int(height);
    out.uint(format);
    out.uint(flags);
    out.end();
    return this.connection.objects.create(WlBuffer, this.version);
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const buffer = this.connection.objects.adopt(WlBuffer, event.uint(), this.version);
        event.end();
        if (this.listener?.created) this.listener.created(buffer);
        else buffer[Symbol.dispose]();
        return;
      }
      case 1: {
        event.end();
        this.listener?.failed?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface ZwpLinuxDmabufFeedbackV1Listener {
  done?(): void;
  formatTable?(fd: OwnedFd, size: number): void;
  mainDevice?(device: Uint8Array): void;
  trancheDone?(): void;
  trancheTargetDevice?(device: Uint8Array): void;
  trancheFormats?(indices: Uint8Array): void;
  trancheFlags?(flags: number): void;
}

export class ZwpLinuxDmabufFeedbackV1 extends WaylandObject {
  static readonly interface = zwp_linux_dmabuf_feedback_v1;
  declare listener: ZwpLinuxDmabufFeedbackV1Listener | null;

  override get interface(): typeof zwp_linux_dmabuf_feedback_v1 {
    return zwp_linux_dmabuf_feedback_v1;
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
        this.listener?.done?.();
        return;
      }
      case 1: {
        const fd = event.fd();
        const size = event.uint();
        event.end();
        if (this.listener?.formatTable) this.listener.formatTable(fd, size);
        else fd[Symbol.dispose]();
        return;
      }
      case 2: {
        const device = event.array();
        event.end();
        this.listener?.mainDevice?.(device);
        return;
      }
      case 3: {
        event.end();
        this.listener?.trancheDone?.();
        return;
      }
      case 4: {
        const device = event.array();
        event.end();
        this.listener?.trancheTargetDevice?.(device);
        return;
      }
      case 5: {
        const indices = event.array();
        event.end();
        this.listener?.trancheFormats?.(indices);
        return;
      }
      case 6: {
        const flags = event.uint();
        event.end();
        this.listener?.trancheFlags?.(flags);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
