// Made from presentation-time.xml by protocols/wayland/scanner: npm run generate:wayland
import { wp_presentation, wp_presentation_feedback } from '../../../../protocols/wayland/generated/presentation-time.ts';
import type { Incoming } from '../incoming.ts';
import { WaylandObject } from '../object.ts';
import { WlOutput, type WlSurface } from './wayland.ts';

export { WpPresentationError, WpPresentationFeedbackKind } from '../../../../protocols/wayland/generated/presentation-time.ts';

export interface WpPresentationListener {
  clockId?(clkId: number): void;
}

export class WpPresentation extends WaylandObject {
  static readonly interface = wp_presentation;
  declare listener: WpPresentationListener | null;

  override get interface(): typeof wp_presentation {
    return wp_presentation;
  }

  destroy(): void {
    const out = this.request(0, 8);
    out.end();
    this.retire();
  }

  feedback(surface: WlSurface): WpPresentationFeedback {
    const out = this.request(1, 16);
    out.uint(this.connection.objects.idOf(surface));
    out.uint(this.connection.objects.nextId);
    out.end();
    return this.connection.objects.create(WpPresentationFeedback, this.version);
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const clkId = event.uint();
        event.end();
        this.listener?.clockId?.(clkId);
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}

export interface WpPresentationFeedbackListener {
  syncOutput?(output: WlOutput | null): void;
  presented?(tvSecHi: number, tvSecLo: number, tvNsec: number, refresh: number, seqHi: number, seqLo: number, flags: number): void;
  discarded?(): void;
}

export class WpPresentationFeedback extends WaylandObject {
  static readonly interface = wp_presentation_feedback;
  declare listener: WpPresentationFeedbackListener | null;

  override get interface(): typeof wp_presentation_feedback {
    return wp_presentation_feedback;
  }

  override dispatch(opcode: number, event: Incoming): void {
    switch (opcode) {
      case 0: {
        const output = this.connection.objects.resolve(WlOutput, event.uint());
        event.end();
        this.listener?.syncOutput?.(output);
        return;
      }
      case 1: {
        const tvSecHi = event.uint();
        const tvSecLo = event.uint();
        const tvNsec = event.uint();
        const refresh = event.uint();
        const seqHi = event.uint();
        const seqLo = event.uint();
        const flags = event.uint();
        event.end();
        const { listener } = this;
        this.retire();
        listener?.presented?.(tvSecHi, tvSecLo, tvNsec, refresh, seqHi, seqLo, flags);
        return;
      }
      case 2: {
        event.end();
        const { listener } = this;
        this.retire();
        listener?.discarded?.();
        return;
      }
      default:
        super.dispatch(opcode, event);
    }
  }
}
