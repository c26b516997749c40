/** Buffers of guest pages for other processes: by udmabuf, without a copy. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { transformSync } from 'esbuild';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ExportDisplay } from '../../display/export/display.ts';
import { ExportedDisplay } from '../../display/export/import.ts';
import { virtio_gpu_resp_resource_uuid } from '../../protocols/virtio-gpu.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { MemoryBudget } from '../../src/core/budget.ts';
import { formatBufferId } from '../../src/core/buffer-id.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { asNobody } from '../rig/as-nobody.ts';
import { eventually } from '../rig/eventually.ts';
import { expectPictureSoon, isSamePicture } from '../rig/picture.ts';
import { Vgem } from '../rig/vgem.ts';
import { skipWithoutWeston, startWeston, type Weston } from '../rig/weston.ts';
import { GuestPicture } from '../unit/bridge/fakes.ts';
import * as request from '../unit/guest/virtio-gpu/requests.ts';
import { GpuRig, HEAP, PAGE } from '../unit/guest/virtio-gpu/rig.ts';
import { ExportConsumer, shaOf } from './export-consumer.ts';
import { FlippingGuest } from './flipping-guest.ts';
import { expectNothingLeft, skipWithoutUdmabuf } from './machine.ts';

const ROOT = join(import.meta.dirname, '../..');
const [WIDTH, HEIGHT] = [320, 200];

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'export-'));
  path = join(directory, 'export.sock');
});
afterEach(() => rmSync(directory, { recursive: true }));

function open(): ExportDisplay {
  return ExportDisplay.open({ path, scanouts: 1, budget: new MemoryBudget(2 ** 28) });
}

/** Two pictures of a guest, as scattered pages. */
function pictures(): [GuestPicture, GuestPicture] {
  const made = [new GuestPicture(WIDTH, HEIGHT), new GuestPicture(WIDTH, HEIGHT)] as const;
  made.forEach((picture, i) => picture.noise(i + 1));
  return [...made];
}

/** Resolves when both sides have handled what was sent before. */
async function roundTrip(client: ExportedDisplay): Promise<void> {
  await expect(client.import(new Uint8Array(16).fill(0xff))).rejects.toMatchObject({ code: 'no-such-buffer' });
}

describe.skipIf(skipWithoutUdmabuf())('an exported guest', () => {
  expectNothingLeft();

  test("is seen by another process in the guest's own pages, with nothing copied", async () => {
    const [a, b] = pictures();
    const guest = new FlippingGuest();
    {
      using display = open();
      using bridge = new Bridge(guest);
      bridge.show(0, display.outputs[0]!);
      await using consumer = new ExportConsumer(path);
      await eventually(() => expect(display.stats.consumers.length).toBe(1));
      const uuids = new Set<string>();
      for (let i = 0; i < 10; i++) {
        const picture = i % 2 === 0 ? a : b;
        // The consumer has released it, or the flip would not be done.
        picture.fill(i, i, 5, 5, 0xff00ff - i);
        await guest.flip(picture.framebuffer);
        const { kind, uuid, sha } = await consumer.next();
        expect([kind, sha]).toEqual(['dmabuf', shaOf(picture.rgb)]);
        uuids.add(uuid);
      }
      expect(uuids.size).toBe(2);
      expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'udmabuf', copiedBytes: 0, imports: 2 });
      await consumer[Symbol.asyncDispose]();
      guest.destroy(a.framebuffer);
      guest.destroy(b.framebuffer);
    }
    a[Symbol.dispose]();
    b[Symbol.dispose]();
  });

  test('is refused to another user unless its own bridge, and no other process, widened the mode of the socket', async () => {
    chmodSync(directory, 0o755);
    for (const widened of [{}, { mode: 0o666 }]) {
      using display = ExportDisplay.open({ path, scanouts: 1, budget: new MemoryBudget(2 ** 28), ...widened });
      chmodSync(path, 0o666);
      const connecting = ((): Promise<ExportedDisplay> => {
        using _ = asNobody();
        return ExportedDisplay.connect(path);
      })();
      if (widened.mode === undefined) await expect(connecting).rejects.toMatchObject({ code: 'forbidden' });
      else (await connecting)[Symbol.dispose]();
    }
  });

  test('hands out a buffer on no monitor by the UUID that the guest has for it: the same pages', async () => {
    using gpu = new GpuRig({}, false);
    using display = open();
    using bridge = new Bridge(gpu.gpu, { buffers: display.buffers });
    bridge.show(0, display.outputs[0]!);
    gpu.ask(request.createBlob(5, 3 * PAGE, request.scattered(3)));
    const { uuid } = virtio_gpu_resp_resource_uuid.decode(gpu.ask(request.assignUuid(5)));
    using client = await ExportedDisplay.connect(path);
    await eventually(() => expect([...client.buffers]).toEqual([[formatBufferId(uuid), 3 * PAGE]]));
    const buffer = await client.import(uuid);
    expect(buffer).toMatchObject({ kind: 'dmabuf', byteLength: 3 * PAGE });
    // Seen through the guest's memory and through the dma-buf, in both directions.
    const { addr } = request.scattered(3)[0]!;
    gpu.at(addr, PAGE).fill(0x5a);
    expect(buffer.read((bytes) => bytes[17])).toBe(0x5a);
    using writable = Mapping.file(buffer.fd, 0, 3 * PAGE, 'read-write');
    writable.bytes[18] = 0xa5;
    expect(gpu.at(addr, PAGE)[18]).toBe(0xa5);
    // Only what is imported is pinned.
    expect(gpu.gpu.budget.used).toBeGreaterThanOrEqual(3 * PAGE);
    gpu.ask(request.unref(5));
    expect(gpu.gpu.budget.used).toBe(0);
    await eventually(() => expect(client.buffers.size).toBe(0));
  });

  test('has the UUID of the guest on a monitor too', async () => {
    using gpu = new GpuRig({}, false);
    using display = open();
    using bridge = new Bridge(gpu.gpu, { buffers: display.buffers });
    bridge.show(0, display.outputs[0]!);
    using client = await ExportedDisplay.connect(path);
    const length = 64 * 48 * 4;
    gpu.ask(request.createBlob(5, length, request.contiguous(length, HEAP)));
    const { uuid } = virtio_gpu_resp_resource_uuid.decode(gpu.ask(request.assignUuid(5)));
    gpu.at(HEAP, length).fill(0x33);
    gpu.ask(request.setScanoutBlob(0, 5, { width: 64, height: 48, stride: 256, offset: 0 }));
    gpu.send(request.flush(5, 0, 0, 64, 48));
    for await (const frame of client) {
      using held = frame;
      if (!held.primary) continue;
      expect(held.primary.buffer).toMatchObject({ uuid: formatBufferId(uuid), kind: 'dmabuf', byteLength: length });
      expect([...held.picture()!.data.subarray(0, 4)]).toEqual([0x33, 0x33, 0x33, 255]);
      break;
    }
  });

  test('waits for fences on both sides: a frame for that of the guest, its buffer for that of the consumer', async () => {
    const [a, b] = pictures();
    const guest = new FlippingGuest();
    {
      using vgem = new Vgem();
      using drawing = vgem.begin();
      using reading = vgem.begin();
      using display = open();
      using bridge = new Bridge(guest);
      bridge.show(0, display.outputs[0]!);
      using client = await ExportedDisplay.connect(path);
      const frames = client[Symbol.asyncIterator]();
      let isShown = false;
      const flip = guest.flip(a.framebuffer, 0, { acquire: drawing.fence });
      const arriving = frames.next().then((result) => {
        isShown = true;
        return result;
      });
      await eventually(() => expect(display.stats.consumers[0]!.frames).toBe(1));
      await roundTrip(client);
      expect(isShown).toBe(false);
      drawing.end();
      const { value: first } = await arriving;
      await flip;
      first!.releaseAt(reading.fence);
      let isDone = false;
      const next = guest.flip(b.framebuffer).then(() => (isDone = true));
      (await frames.next()).value![Symbol.dispose]();
      await eventually(() => expect(bridge.stats[0]!.screens[0]!.frames).toBe(2));
      await roundTrip(client);
      expect(isDone).toBe(false);
      reading.end();
      await next;
      guest.destroy(a.framebuffer);
      guest.destroy(b.framebuffer);
    }
    a[Symbol.dispose]();
    b[Symbol.dispose]();
  });
});

const CARDS = '/dev/dri';

describe.skipIf(skipWithoutUdmabuf() || skipWithoutWeston())(
  'an exported guest in the window of another process',
  () => {
    let weston: Weston;

    beforeAll(async () => {
      // Mesa's software renderer maps a udmabuf itself; beside a card it would have that map it, in vain.
      if (existsSync(CARDS)) execFileSync('mount', ['-t', 'tmpfs', 'none', CARDS]);
      weston = await startWeston({ renderer: 'gl', size: [WIDTH, HEIGHT] });
    });
    afterAll(async () => {
      await weston[Symbol.asyncDispose]();
      if (existsSync(CARDS)) execFileSync('umount', [CARDS]);
    });

    test('is shown by Weston with GL in its own pages, with nothing copied in either process', async () => {
      // The example as a project beside the package would run it.
      const source = readFileSync(join(ROOT, 'examples/exported-window.ts'), 'utf8');
      const { code } = transformSync(source, { loader: 'ts', format: 'esm', target: 'node20' });
      mkdirSync(join(ROOT, 'test/output'), { recursive: true });
      const program = join(ROOT, 'test/output/exported-window.mjs');
      writeFileSync(program, code);
      const [a, b] = pictures();
      const guest = new FlippingGuest();
      using display = open();
      using bridge = new Bridge(guest);
      bridge.show(0, display.outputs[0]!);
      const consumer = spawn(process.execPath, [program, path], {
        env: weston.env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let log = '';
      consumer.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
      const ended = once(consumer, 'close');
      await eventually(() => expect(display.stats.consumers.length, log).toBe(1));

      for (let i = 0; i < 6; i++) await guest.flip((i % 2 === 0 ? a : b).framebuffer);
      await expectPictureSoon(() => weston.screenshot(), b.rgb, 'kernel-export-b');
      await guest.flip(a.framebuffer);
      await expectPictureSoon(() => weston.screenshot(), a.rgb, 'kernel-export-a');
      expect(isSamePicture(a.rgb, b.rgb)).toBe(false);
      expect(bridge.stats[0]!.screens[0]!.primary).toMatchObject({ rung: 'udmabuf', copiedBytes: 0, imports: 2 });
      expect(log).toContain("shows the guest by rung 'dmabuf'");
      consumer.kill('SIGKILL');
      await ended;
      guest.destroy(a.framebuffer);
      guest.destroy(b.framebuffer);
      a[Symbol.dispose]();
      b[Symbol.dispose]();
      rmSync(program);
    });
  },
);
