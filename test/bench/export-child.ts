/**
 * One process of the benchmark `export`: node export-child.js ROLE SOCKET. A sender shows FRAMES frames of
 * a guest at 60 Hz to the receiver of the same kind, and prints the microseconds of processor time that it took for them;
 * so does the receiver when it has them all.
 */
import { PageRuns } from '../../src/sys/page-runs.ts';
import { ExportDisplay } from '../../display/export/display.ts';
import { ExportedDisplay } from '../../display/export/import.ts';
import { VmmDisplay } from '../../display/vmm/display.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../protocols/drm-fourcc.ts';
import { export_frame, export_release } from '../../protocols/export.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { MemoryBudget } from '../../src/core/budget.ts';
import { type Framebuffer, newFramebufferId } from '../../src/core/framebuffer.ts';
import type { Output } from '../../src/core/output.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { createMemfd } from '../../src/sys/memfd.ts';
import { Poll } from '../../src/sys/poll.ts';
import { acceptUnix, connectUnix, listenUnix, UnixConnection } from '../../src/sys/socket.ts';
import { FlippingGuest } from '../kernel/flipping-guest.ts';
import { FRAMES, WARM_UP } from './export.ts';
import { displayInfoReply, FakeVmm, featuresReply } from '../unit/display/vmm/fake-vmm.ts';

const [WIDTH, HEIGHT] = [1920, 1080];
const STRIDE = WIDTH * 4;
const BYTES = STRIDE * HEIGHT;
const PERIOD_MS = 1000 / 60;

/** Two framebuffers that the guest flips between. `isDmabuf`: outputs share them, by the descriptors of their memory. */
function framebuffers(isDmabuf: boolean): readonly Framebuffer[] {
  return [0, 1].map(() => {
    const memfd = createMemfd('picture', BYTES);
    const pixels = Mapping.file(memfd, 0, BYTES, 'read-write');
    pixels.bytes.fill(0x55);
    return {
      id: newFramebufferId(),
      width: WIDTH,
      height: HEIGHT,
      format: DRM_FORMAT.XRGB8888,
      modifier: DRM_FORMAT_MOD_LINEAR,
      planes: [{ offset: 0, stride: STRIDE }],
      backing: isDmabuf
        ? { kind: 'dmabuf', dmabuf: memfd }
        : {
            kind: 'pages',
            isBlob: true,
            ranges: PageRuns.of([{ memfd, offset: 0, length: BYTES }]),
            pixels: () => pixels,
          },
    };
  });
}

/** Flips at 60 Hz; prints what the counted frames cost. */
async function flip(output: Output, isDmabuf: boolean): Promise<void> {
  const guest = new FlippingGuest();
  const bridge = new Bridge(guest);
  bridge.show(0, output);
  const pictures = framebuffers(isDmabuf);
  await paced((frame) => guest.flip(pictures[frame % 2]!));
}

async function paced(show: (frame: number) => Promise<void>): Promise<void> {
  const start = performance.now();
  let before = process.cpuUsage();
  for (let frame = 0; frame < WARM_UP + FRAMES; frame++) {
    if (frame === WARM_UP) before = process.cpuUsage();
    const due = start + frame * PERIOD_MS - performance.now();
    if (due > 0) await new Promise((resolve) => setTimeout(resolve, due));
    await show(frame);
  }
  report(before);
}

function report(before: NodeJS.CpuUsage): void {
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(`${user + system}\n`);
}

/** Counts frames as they come; prints what those after the warm-up cost. */
class Receiver {
  #frames = 0;
  #before = process.cpuUsage();

  got(): void {
    this.#frames++;
    if (this.#frames === WARM_UP) this.#before = process.cpuUsage();
    if (this.#frames === WARM_UP + FRAMES) report(this.#before);
  }
}

const ROLES: Readonly<Record<string, (socket: string) => Promise<void>>> = {
  async 'export-sender'(path) {
    const display = ExportDisplay.open({ path, scanouts: 1, budget: new MemoryBudget(Infinity) });
    process.stdout.write('ready\n');
    while (display.stats.consumers.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await flip(display.outputs[0]!, true);
  },
  async 'export-receiver'(path) {
    const receiver = new Receiver();
    const display = await ExportedDisplay.connect(path);
    for await (const frame of display) {
      frame[Symbol.dispose]();
      receiver.got();
    }
  },
  /** What a consumer's process costs that does nothing with the messages. */
  async 'bare-sender'(path) {
    const connection = await accepted(path);
    const message = new Uint8Array(export_frame.size);
    await paced((): Promise<void> => {
      connection.send(message);
      return Promise.resolve();
    });
  },
  async 'bare-receiver'(path) {
    const connection = UnixConnection.adopt(connectUnix(path));
    const receiver = new Receiver();
    const message = new Uint8Array(export_frame.size);
    const answer = new Uint8Array(export_release.size);
    await new Promise<void>((resolve) => {
      Poll.readable(connection, () => {
        if (connection.recv(message, 0, message.length) === 0) {
          resolve();
          return;
        }
        connection.send(answer);
        receiver.got();
      });
    });
  },
  /** Pixels through a socket, with nothing in between. */
  async 'pixels-sender'(path) {
    const connection = await accepted(path);
    const pixels = new Uint8Array(BYTES).fill(0x55);
    await paced(async () => {
      connection.send(pixels);
      while (connection.queuedBytes > 0) await new Promise<void>((resolve) => (connection.onDrained = resolve));
    });
  },
  async 'pixels-receiver'(path) {
    await receive(UnixConnection.adopt(connectUnix(path)));
  },
  /** What a VMM gets of `--output vmm`. */
  async 'vmm-sender'(path) {
    const listener = listenUnix(path);
    process.stdout.write('ready\n');
    let fd = acceptUnix(listener);
    for (; !fd; fd = acceptUnix(listener)) await new Promise((resolve) => setTimeout(resolve, 10));
    const display = await VmmDisplay.open({ socket: fd, scanouts: 1 });
    await flip(display.outputs[0]!, false);
  },
  async 'vmm-receiver'(path) {
    const vmm = new FakeVmm(connectUnix(path));
    // The requests for features and for monitors, and the choice of features.
    await vmm.take(12);
    vmm.reply(featuresReply(0));
    await vmm.take(20 + 12);
    vmm.reply(displayInfoReply([{ width: WIDTH, height: HEIGHT }]));
    await receive(vmm.connection);
  },
};

/** The first connection to a path. */
async function accepted(path: string): Promise<UnixConnection> {
  using listener = listenUnix(path);
  process.stdout.write('ready\n');
  let fd = acceptUnix(listener);
  for (; !fd; fd = acceptUnix(listener)) await new Promise((resolve) => setTimeout(resolve, 10));
  return UnixConnection.adopt(fd);
}

/** Reads pixels into one buffer, as a program does that shows them. */
async function receive(connection: UnixConnection): Promise<void> {
  const receiver = new Receiver();
  const picture = new Uint8Array(BYTES);
  let total = 0;
  await new Promise<void>((resolve) => {
    Poll.readable(connection, () => {
      for (;;) {
        const at = total % BYTES;
        const count = connection.recv(picture, at, Math.min(65536, BYTES - at));
        if (count < 0) return;
        if (count === 0) {
          resolve();
          return;
        }
        const before = Math.floor(total / BYTES);
        total += count;
        if (Math.floor(total / BYTES) > before) receiver.got();
      }
    });
  });
}

const [role, socket] = process.argv.slice(2);
await ROLES[role!]!(socket!);
