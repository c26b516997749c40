/**
 * Drives a VNC output with viewers that send anything, straight or by WebSocket: greetings, well-formed and malformed messages in any order, cut
 * anywhere, that read or do not, and leave at any point. A guest shows frames meanwhile. Everything follows from one seed.
 */
import { connect, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { RAW, TIGHT, ZRLE } from './rfb-viewer.ts';
import { VncRig } from '../unit/display/vnc/rig.ts';
import { eventually } from './eventually.ts';
import type { Random } from './random.ts';

export interface VncFuzzResult {
  messages: number;
  viewers: number;
  /** Viewers whose greeting was right. */
  greeted: number;
  /** Bytes that viewers got. */
  received: number;
  /** Connections that the server ended. */
  ended: number;
  frames: number;
  /** What must not happen and did. */
  readonly faults: string[];
}

const PASSWORDLESS = 1;
/** What a browser sends before a WebSocket's frames. */
const UPGRADE = [
  'GET /websockify HTTP/1.1',
  'Host: localhost',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  '\r\n',
].join('\r\n');
const ENCODINGS = [RAW, TIGHT, ZRLE, -223, -224, -239, -247, -256, -258, -308, -312, -313];

/** Sends at least `messages` messages. */
export async function fuzzVnc(random: Random, messages: number): Promise<VncFuzzResult> {
  const result: VncFuzzResult = { messages: 0, viewers: 0, greeted: 0, received: 0, ended: 0, frames: 0, faults: [] };
  using rig = await VncRig.open();
  const viewers: HostileViewer[] = [];
  let size = { width: 64, height: 48 };
  while (result.messages < messages && rig.messages.every((line) => !line.startsWith('error'))) {
    if (viewers.length < 1 + random.below(10)) viewers.push(new HostileViewer(rig.path, random, result));
    for (const viewer of viewers) viewer.act();
    if (random.chance(0.3)) {
      if (random.chance(0.1)) size = { width: 1 + random.below(300), height: 1 + random.below(200) };
      if (random.chance(0.05)) await rig.turnOff();
      else if (random.chance(0.2))
        await rig.showCursor(
          random.chance(0.3) ? null : random.below(2 ** 32),
          random.below(100),
          random.below(100),
          1 + random.below(64),
          random.below(80),
        );
      else
        await rig.show(size.width, size.height, new Uint32Array(size.width * size.height).fill(random.below(2 ** 24)));
      result.frames++;
      rig.forgetShadows();
    }
    await turn();
    for (let i = viewers.length - 1; i >= 0; i--)
      if (viewers[i]!.isOver || random.chance(0.02)) viewers.splice(i, 1)[0]![Symbol.dispose]();
  }
  for (const viewer of viewers) viewer[Symbol.dispose]();
  result.faults.push(...rig.messages.filter((line) => line.startsWith('error')));
  await eventually(() => {
    if (rig.output.stats.viewers > 0) throw new Error(`${rig.output.stats.viewers} viewers are left`);
  });
  // It still serves one that does nothing wrong.
  await rig.showCursor(null);
  await rig.show(70, 50, new Uint32Array(70 * 50).fill(0x123456));
  const honest = await rig.connect({ encodings: [TIGHT] });
  await honest.update();
  if (honest.pixels.some((pixel) => pixel !== 0x123456)) result.faults.push('an honest viewer got another picture');
  honest.key(true, 0x61);
  await honest.until(() => rig.input.lines.includes('key 30 down'));
  return result;
}

class HostileViewer implements Disposable {
  isOver = false;
  readonly #socket: Socket;
  readonly #random: Random;
  readonly #result: VncFuzzResult;
  readonly #isWeb: boolean;
  #isGreeted = false;

  constructor(path: string, random: Random, result: VncFuzzResult) {
    this.#random = random;
    this.#result = result;
    result.viewers++;
    const version = random.pick(['003.003', '003.007', '003.008', '003.889']);
    const minor = version === '003.003' ? 3 : 7;
    const isRight = random.chance(0.95);
    this.#isGreeted = isRight;
    if (isRight) result.greeted++;
    const greeting = Buffer.concat([
      Buffer.from(`RFB ${version}\n`),
      Buffer.from(minor === 3 ? [] : [PASSWORDLESS]),
      Buffer.of(random.below(2)),
    ]);
    this.#isWeb = random.chance(0.2);
    this.#socket = connect(path);
    this.#socket.on('data', (bytes) => (result.received += bytes.length));
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      if (!this.isOver) result.ended++;
      this.isOver = true;
    });
    if (this.#isWeb) this.#socket.write(random.chance(0.9) ? UPGRADE : UPGRADE.slice(0, random.below(UPGRADE.length)));
    this.#write(isRight ? greeting : Buffer.from(random.bytes(random.below(40))));
  }

  act(): void {
    if (this.isOver) return;
    const random = this.#random;
    if (random.chance(0.1)) {
      if (this.#socket.isPaused()) this.#socket.resume();
      else this.#socket.pause();
    }
    const messages = Array.from({ length: 1 + random.below(4) }, () => this.#message());
    this.#result.messages += messages.length;
    const bytes = Buffer.concat(messages);
    // What does not fit now is for later, as of a program that does not wait.
    if (this.#socket.writableLength > 2 ** 20) return;
    const cut = random.chance(0.3) ? random.below(bytes.length) : 0;
    this.#write(bytes.subarray(0, cut));
    this.#write(bytes.subarray(cut));
  }

  /** As they are, or as the payload of a WebSocket's frame, which now and then is another one than it should be. */
  #write(bytes: Buffer): void {
    if (!this.#isWeb) {
      this.#socket.write(bytes);
      return;
    }
    const random = this.#random;
    const opcode = random.chance(0.01) ? random.below(256) : 0x82;
    const claimed = random.chance(0.003) ? random.below(2 ** 16) : bytes.length;
    const head = Buffer.from([opcode, 0x80 | 126, claimed >> 8, claimed, 0, 0, 0, 0]);
    this.#socket.write(
      Buffer.concat([claimed < 126 ? Buffer.from([opcode, 0x80 | claimed, 0, 0, 0, 0]) : head, bytes]),
    );
  }

  [Symbol.dispose](): void {
    this.isOver = true;
    this.#socket.destroy();
  }

  #message(): Buffer {
    const random = this.#random;
    // One in some hundred ends the connection.
    if (!this.#isGreeted || random.chance(0.003)) return Buffer.from(random.bytes(1 + random.below(64)));
    const m = Buffer.from(random.bytes(100));
    const rect = (at: number): void => {
      const whole = random.chance(0.6);
      m.writeUInt16BE(whole ? 0 : random.below(400), at);
      m.writeUInt16BE(whole ? 0 : random.below(400), at + 2);
      m.writeUInt16BE(whole ? 0xffff : random.below(400), at + 4);
      m.writeUInt16BE(whole ? 0xffff : random.below(400), at + 6);
    };
    const kind = random.pick([0, 2, 3, 3, 3, 4, 5, 6, 150, 248, 251, 255]);
    m[0] = kind;
    switch (kind) {
      case 0: {
        const format = random.pick([
          [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0],
          [32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16],
          [16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0],
          [8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 5, 2, 0],
          [8, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ]);
        m.set(format, 4);
        return m.subarray(0, 20);
      }
      case 2: {
        const count = random.below(12);
        m.writeUInt16BE(count, 2);
        for (let i = 0; i < count; i++)
          m.writeInt32BE(random.chance(0.9) ? random.pick(ENCODINGS) : random.below(2 ** 32) | 0, 4 + i * 4);
        return m.subarray(0, 4 + count * 4);
      }
      case 3:
        m[1] = random.below(2);
        rect(2);
        return m.subarray(0, 10);
      case 4:
        return m.subarray(0, 8);
      case 5:
        return m.subarray(0, 6);
      case 6: {
        const length = random.below(90);
        m.writeUInt32BE(length, 4);
        return m.subarray(0, 8 + length);
      }
      case 150:
        m[1] = random.below(2);
        rect(2);
        return m.subarray(0, 10);
      case 248: {
        m[8] = random.below(65);
        return m.subarray(0, 9 + m[8]);
      }
      case 251: {
        const screens = random.below(3);
        m.writeUInt16BE(random.below(1000), 2);
        m.writeUInt16BE(random.below(1000), 4);
        m[6] = screens;
        return m.subarray(0, 8 + screens * 16);
      }
      default:
        m[1] = 0;
        return m.subarray(0, 12);
    }
  }
}
