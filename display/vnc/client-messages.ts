import { RFB_CLIENT, RFB_FENCE_MAX_PAYLOAD, RFB_QEMU_EXTENDED_KEY } from '../../protocols/rfb.ts';
import type { Rect, Size } from '../../src/core/geometry.ts';
import { VncError } from './errors.ts';
import { decodePixelFormat, type PixelFormat } from './pixel-format.ts';

/** What a viewer says after the greeting. Buffers are valid during the call. */
export interface ClientMessageHandler {
  setPixelFormat(format: PixelFormat, hasColourMap: boolean): void;
  setEncodings(encodings: readonly number[]): void;
  requestUpdate(isIncremental: boolean, area: Rect): void;
  /** `keysym` as of X11; `qnum` is QEMU's number of the key, 0 if the viewer does not know it. */
  key(isPressed: boolean, keysym: number, qnum: number): void;
  pointer(buttons: number, x: number, y: number): void;
  /** Null: only on request from now on. */
  continuousUpdates(area: Rect | null): void;
  fence(flags: number, payload: Buffer): void;
  /** `screen` is the id of the only screen; null if there are none or several, or it is not all of the desktop. */
  setDesktopSize(size: Size, screen: number | null): void;
  /** After each message. */
  handled(): void;
}

const HEADS: ReadonlyMap<number, number> = new Map([
  [RFB_CLIENT.SET_PIXEL_FORMAT, 20],
  [RFB_CLIENT.SET_ENCODINGS, 4],
  [RFB_CLIENT.FRAMEBUFFER_UPDATE_REQUEST, 10],
  [RFB_CLIENT.KEY_EVENT, 8],
  [RFB_CLIENT.POINTER_EVENT, 6],
  [RFB_CLIENT.CLIENT_CUT_TEXT, 8],
  [RFB_CLIENT.ENABLE_CONTINUOUS_UPDATES, 10],
  [RFB_CLIENT.FENCE, 9],
  [RFB_CLIENT.SET_DESKTOP_SIZE, 8],
  [RFB_CLIENT.QEMU, 12],
]);
const SCREEN_LENGTH = 16;
/** There are some hundred. */
const MAX_ENCODINGS = 1024;

/** Reads the messages of a viewer from a stream that may be cut anywhere. Between `next` and `add` it keeps at most one message, of 4 KiB. */
export class ClientMessages {
  readonly #handler: ClientMessageHandler;
  #rest: Buffer = Buffer.alloc(0);
  /** Bytes to come that are not looked at: what the viewer has on its clipboard. */
  #skipped = 0;

  constructor(handler: ClientMessageHandler) {
    this.#handler = handler;
  }

  /** Adds what has arrived. Only after `next` has returned false. */
  add(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
  }

  /**
   * Handles the next message; false if it has not arrived yet. Throws VncError `protocol` or `unsupported`, after which the
   * stream is useless.
   */
  next(): boolean {
    const skipped = Math.min(this.#skipped, this.#rest.length);
    this.#skipped -= skipped;
    const rest = this.#rest.subarray(skipped);
    const length = rest.length > 0 ? lengthOf(rest) : Infinity;
    if (length > rest.length) {
      // A copy, because the whole chunk would be kept otherwise.
      this.#rest = Buffer.from(rest);
      return false;
    }
    this.#rest = rest.subarray(length);
    this.#handle(rest);
    this.#handler.handled();
    return true;
  }

  #handle(m: Buffer): void {
    const handler = this.#handler;
    switch (m[0]) {
      case RFB_CLIENT.SET_PIXEL_FORMAT:
        handler.setPixelFormat(decodePixelFormat(m, 4), m[7] === 0);
        return;
      case RFB_CLIENT.SET_ENCODINGS:
        handler.setEncodings(Array.from({ length: m.readUInt16BE(2) }, (_, i) => m.readInt32BE(4 + i * 4)));
        return;
      case RFB_CLIENT.FRAMEBUFFER_UPDATE_REQUEST:
        handler.requestUpdate(m[1] !== 0, rectAt(m));
        return;
      case RFB_CLIENT.KEY_EVENT:
        handler.key(m[1] !== 0, m.readUInt32BE(4), 0);
        return;
      case RFB_CLIENT.POINTER_EVENT:
        handler.pointer(m[1]!, m.readUInt16BE(2), m.readUInt16BE(4));
        return;
      case RFB_CLIENT.CLIENT_CUT_TEXT:
        this.#skipped = m.readUInt32BE(4);
        return;
      case RFB_CLIENT.ENABLE_CONTINUOUS_UPDATES:
        handler.continuousUpdates(m[1] === 0 ? null : rectAt(m));
        return;
      case RFB_CLIENT.FENCE:
        if (m[8]! > RFB_FENCE_MAX_PAYLOAD) throw new VncError('protocol', `a fence with ${m[8]!} bytes`);
        handler.fence(m.readUInt32BE(4), m.subarray(9, 9 + m[8]!));
        return;
      case RFB_CLIENT.SET_DESKTOP_SIZE: {
        const size = { width: m.readUInt16BE(2), height: m.readUInt16BE(4) };
        handler.setDesktopSize(size, onlyScreen(m, size));
        return;
      }
      default:
        if (m[1] !== RFB_QEMU_EXTENDED_KEY) throw new VncError('protocol', `QEMU message ${m[1]!} was not offered`);
        handler.key(m.readUInt16BE(2) !== 0, m.readUInt32BE(4), m.readUInt32BE(8));
    }
  }
}

/** Of the first message, or of as much of it as has to be there to tell. */
function lengthOf(m: Buffer): number {
  const head = HEADS.get(m[0]!);
  if (head === undefined) throw new VncError('protocol', `a message of type ${m[0]!}`);
  if (m.length < head) return head;
  switch (m[0]) {
    case RFB_CLIENT.SET_ENCODINGS: {
      const count = m.readUInt16BE(2);
      if (count > MAX_ENCODINGS) throw new VncError('protocol', `${count} encodings, of at most ${MAX_ENCODINGS}`);
      return head + count * 4;
    }
    case RFB_CLIENT.FENCE:
      return head + m[8]!;
    case RFB_CLIENT.SET_DESKTOP_SIZE:
      return head + m[6]! * SCREEN_LENGTH;
    default:
      return head;
  }
}

/** Of a request for updates, or of continuous ones. */
function rectAt(m: Buffer): Rect {
  return { x: m.readUInt16BE(2), y: m.readUInt16BE(4), width: m.readUInt16BE(6), height: m.readUInt16BE(8) };
}

function onlyScreen(m: Buffer, { width, height }: Size): number | null {
  const isWhole =
    m[6] === 1 && m.readUInt32BE(12) === 0 && m.readUInt16BE(16) === width && m.readUInt16BE(18) === height;
  return isWhole ? m.readUInt32BE(8) : null;
}
