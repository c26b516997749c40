import { setImmediate } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { ExportedDisplay } from '../../../../display/export/import.ts';
import {
  EXPORT_EVENT,
  EXPORT_KIND,
  EXPORT_NO_SCANOUT,
  PRODUCER_READY,
  PRODUCER_RESULT,
  producer_ready,
  producer_released,
} from '../../../../protocols/export.ts';
import { DRM_FORMAT } from '../../../../protocols/drm-fourcc.ts';
import { virtio_gpu_resp_resource_uuid } from '../../../../protocols/virtio-gpu.ts';
import { Bridge } from '../../../../src/bridge/bridge.ts';
import { formatBufferId } from '../../../../src/core/buffer-id.ts';
import { connectUnix, UnixConnection } from '../../../../src/sys/socket.ts';
import * as request from '../../guest/virtio-gpu/requests.ts';
import { GpuRig, HEAP } from '../../guest/virtio-gpu/rig.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { encode } from './raw-consumer.ts';
import { ExportRig } from './rig.ts';
import { eventually } from '../../../rig/eventually.ts';

expectNoLeaks();

const { FRAME, EXPORTED, GONE, IMPORTED, REVOKED, ERROR } = EXPORT_EVENT;
const { RELEASED, NO_SUCH_RESOURCE, BAD_LAYOUT, BUSY } = PRODUCER_RESULT;
const LENGTH = 64 * 48 * 4;
const rig = new ExportRig();

let gpu: GpuRig;
let display: ReturnType<ExportRig['open']>;

beforeEach(() => {
  display = rig.open({ channel: rig.channel });
  gpu = rig.use(new GpuRig({}, false));
  rig
    .use(new Bridge(gpu.gpu, { buffers: display.buffers, log: (level, line) => rig.log.push(`${level}: ${line}`) }))
    .show(0, display.outputs[0]!);
});

/** Makes a blob with its own memory and exports it, as the driver does. The id that the device gave it. */
function exportBlob(resource: number, length = LENGTH): Uint8Array {
  gpu.ask(request.createBlob(resource, length, request.contiguous(length, HEAP + resource * 2 ** 20)));
  return virtio_gpu_resp_resource_uuid.decode(gpu.ask(request.assignUuid(resource))).uuid;
}

/** The guest's end of its virtio-serial port. */
class Program implements Disposable {
  readonly #connection = UnixConnection.adopt(connectUnix(rig.channel));
  #bytes = Buffer.alloc(0);

  ready(resource: number, change: Partial<ReturnType<typeof producer_ready.get>> = {}): void {
    this.send(
      encode(PRODUCER_READY, producer_ready, {
        resource,
        fourcc: DRM_FORMAT.XRGB8888,
        width: 64,
        height: 48,
        offset: 0,
        stride: 256,
        serial: 7n,
        ...change,
      }),
    );
  }

  send(bytes: Uint8Array): void {
    this.#connection.send(bytes);
  }

  async answer(): Promise<ReturnType<typeof producer_released.get>> {
    const chunk = new Uint8Array(4096);
    while (this.#bytes.length < producer_released.size) {
      const count = this.#connection.recv(chunk, 0, chunk.length);
      if (count === 0) throw new Error('the channel was closed');
      if (count > 0) this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(0, count)]);
      else await setImmediate();
    }
    const answer = producer_released.decode(this.#bytes);
    this.#bytes = this.#bytes.subarray(producer_released.size);
    return answer;
  }

  async isClosed(): Promise<boolean> {
    const chunk = new Uint8Array(4096);
    for (;;) {
      const count = this.#connection.recv(chunk, 0, chunk.length);
      if (count === 0) return true;
      await setImmediate();
    }
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }
}

describe('A buffer that a guest program exports', () => {
  test('is announced with the UUID that the guest was given, also to those who come later', async () => {
    const early = await rig.connect();
    const uuid = exportBlob(5);

    expect(await early.take(EXPORTED)).toMatchObject({ id: uuid, length: LENGTH });
    const late = await rig.connect();
    expect(await late.take(EXPORTED)).toMatchObject({ id: uuid, length: LENGTH });
    expect(display.stats).toMatchObject({ buffers: 1, guestBuffers: 1 });
    gpu.ask(request.unref(5));
    expect(await early.take(GONE)).toMatchObject({ id: uuid });
    early.import(uuid);
    expect((await early.take(ERROR)).id).toEqual(uuid);
    expect(rig.budget.used).toBe(0);
  });

  test('has one UUID, however often the guest asks', () => {
    const uuid = exportBlob(5);
    expect(virtio_gpu_resp_resource_uuid.decode(gpu.ask(request.assignUuid(5))).uuid).toEqual(uuid);
    expect(display.stats.guestBuffers).toBe(1);
  });

  test('reaches consumers by its UUID when the program says that it is drawn, and may be drawn into when all have released it', async () => {
    const [one, other] = [await rig.connect(), await rig.connect()];
    using program = new Program();
    const uuid = exportBlob(5);
    gpu.at(HEAP + 5 * 2 ** 20, LENGTH).fill(0x42);
    await one.take(EXPORTED);
    await other.take(EXPORTED);
    program.ready(5, { serial: 2n ** 63n });

    const frame = await one.take(FRAME);
    expect(frame).toMatchObject({ scanout: EXPORT_NO_SCANOUT, width: 64, height: 48 });
    expect(frame.primary).toMatchObject({ id: uuid, fourcc: DRM_FORMAT.XRGB8888, planes: 1, strides: [256, 0, 0, 0] });
    const second = await other.take(FRAME);
    one.import(uuid);
    expect(await one.take(IMPORTED)).toMatchObject({ id: uuid, length: LENGTH, kind: EXPORT_KIND.MEMFD });
    one.takeFd()[Symbol.dispose]();
    one.release(uuid, frame.serial);
    let answered = false;
    const answer = program.answer().finally(() => (answered = true));
    for (let i = 0; i < 5; i++) await setImmediate();
    expect(answered).toBe(false);
    other.release(uuid, second.serial);
    expect(await answer).toMatchObject({ resource: 5, result: RELEASED, serial: 2n ** 63n });
  });

  test('shows its pixels in ExportedDisplay', async () => {
    using client = await ExportedDisplay.connect(rig.path);
    using program = new Program();
    const uuid = exportBlob(5);
    const bytes = Uint8Array.from({ length: LENGTH }, (_, i) => (i % 4 === 3 ? 0 : (i * 11) >> 3));
    gpu.at(HEAP + 5 * 2 ** 20, LENGTH).set(bytes);
    program.ready(5);

    for await (const frame of client) {
      using held = frame;
      expect([held.scanout, held.primary!.buffer.uuid]).toEqual([null, formatBufferId(uuid)]);
      const { data } = held.picture()!;
      expect(data.length).toBe(LENGTH);
      expect([data[400], data[401], data[402]]).toEqual([bytes[402], bytes[401], bytes[400]]);
      break;
    }
    expect([...client.buffers]).toEqual([[formatBufferId(uuid), LENGTH]]);
    expect(await program.answer()).toMatchObject({ result: RELEASED });
  });

  test('is released at once where there are no consumers', async () => {
    using program = new Program();
    exportBlob(5);
    program.ready(5);
    expect(await program.answer()).toMatchObject({ result: RELEASED });
  });

  test('is given back to a program whose consumer has stopped', async () => {
    const consumer = await rig.connect();
    using program = new Program();
    exportBlob(5);
    await consumer.take(EXPORTED);
    program.ready(5);
    const { serial } = await consumer.take(FRAME);

    expect(await consumer.take(REVOKED)).toMatchObject({ serial });
    expect(await program.answer()).toMatchObject({ result: PRODUCER_RESULT.REVOKED });
    // The consumer has not answered, so it gets no more of this buffer.
    program.ready(5);
    expect(await program.answer()).toMatchObject({ result: RELEASED });
    expect(consumer.takeNow()).toEqual([]);
  });

  test('that goes while a consumer reads it leaves nothing behind', async () => {
    const consumer = await rig.connect();
    using program = new Program();
    const uuid = exportBlob(5);
    await consumer.take(EXPORTED);
    program.ready(5);
    const { serial } = await consumer.take(FRAME);
    gpu.ask(request.unref(5));

    expect(await consumer.take(GONE)).toMatchObject({ id: uuid });
    expect(await program.answer()).toMatchObject({ result: NO_SUCH_RESOURCE });
    consumer.release(uuid, serial);
    await eventually(() => expect(display.stats.consumers[0]!.held).toBe(0));
    expect(rig.budget.used).toBe(0);
  });
});

describe('A guest program', () => {
  test.each<[string, number, Partial<ReturnType<typeof producer_ready.get>>, number]>([
    ['a resource that it did not export', 9, {}, NO_SUCH_RESOURCE],
    ['a picture beyond the end', 5, { offset: 4 }, BAD_LAYOUT],
    ['rows that are too short', 5, { stride: 255 }, BAD_LAYOUT],
    ['no pixels', 5, { width: 0 }, BAD_LAYOUT],
    ['a huge picture', 5, { width: 2 ** 32 - 1, height: 2 ** 32 - 1, stride: 2 ** 32 - 1 }, BAD_LAYOUT],
    ['an unknown format', 5, { fourcc: 0x12345678 }, BAD_LAYOUT],
    ['a format of several planes', 5, { fourcc: DRM_FORMAT.NV12 }, BAD_LAYOUT],
  ])('that announces %s is told so', async (_, resource, change, result) => {
    using program = new Program();
    exportBlob(5);
    program.ready(resource, change);
    expect(await program.answer()).toMatchObject({ resource, result });
  });

  test('that announces a picture before the last one is released is told so', async () => {
    const consumer = await rig.connect();
    using program = new Program();
    exportBlob(5);
    program.ready(5);
    program.ready(5);
    expect(await program.answer()).toMatchObject({ result: BUSY });
    expect(consumer.isOver).toBe(false);
  });

  test.each([
    ['nonsense', Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)],
    ['a message of another type', encode(0x999, producer_ready, {})],
  ])('that sends %s is disconnected, and may connect again', async (_, bytes) => {
    exportBlob(5);
    {
      using program = new Program();
      program.send(bytes);
      expect(await program.isClosed()).toBe(true);
    }
    using program = new Program();
    program.ready(5);
    expect(await program.answer()).toMatchObject({ result: RELEASED });
    expect(rig.log.some((line) => line.startsWith('warn: export: the channel of the guest is disconnected'))).toBe(
      true,
    );
  });

  test('is one at a time', async () => {
    using program = new Program();
    exportBlob(5);
    program.ready(5);
    await program.answer();
    using second = new Program();
    expect(await second.isClosed()).toBe(true);
  });

  test('that is gone is not answered, and what it showed is released', async () => {
    const consumer = await rig.connect();
    const uuid = exportBlob(5);
    await consumer.take(EXPORTED);
    const program = new Program();
    program.ready(5);
    const { serial } = await consumer.take(FRAME);
    program[Symbol.dispose]();
    consumer.release(uuid, serial);
    await eventually(() => expect(display.stats.consumers[0]!.held).toBe(0));
  });
});
