import { statSync, writeFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  EXPORT_ERROR,
  EXPORT_EVENT,
  EXPORT_FRAME_NEW_CURSOR,
  EXPORT_KIND,
  EXPORT_RELEASE_FENCE,
  EXPORT_REQUEST,
  EXPORT_VERSION,
  export_header,
  export_import,
  export_release,
} from '../../../../protocols/export.ts';
import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { bufferSource, formatBufferId } from '../../../../src/core/buffer-id.ts';
import { Damage } from '../../../../src/core/damage.ts';
import { DmabufImportRefused, type Handle, type Shadow } from '../../../../src/core/output.ts';
import { waitReadable } from '../../../../src/sys/dma-buf.ts';
import { EventFd } from '../../../../src/sys/eventfd.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd, F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, getSeals } from '../../../../src/sys/memfd.ts';
import { eventually } from '../../../rig/eventually.ts';
import { openFds } from '../../../rig/process-resources.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { encode, RawConsumer } from './raw-consumer.ts';
import { ExportRig, Listener } from './rig.ts';

expectNoLeaks();

const { HELLO, FRAME, GONE, REVOKED, IMPORTED, ERROR } = EXPORT_EVENT;
const NOTHING = new Uint8Array(16);
const rig = new ExportRig();

function makeShadow(fill: number): Shadow {
  const shadow = display.outputs[0]!.createShadow(64, 48, DRM_FORMAT.XRGB8888);
  shadow.pixels.bytes.fill(fill);
  return rig.use(shadow);
}

let display: ReturnType<ExportRig['open']>;

/** A display with one listener. */
function open(options: Parameters<ExportRig['open']>[0] = {}): Listener {
  display = rig.open(options);
  const listener = new Listener();
  rig.use(display.outputs[0]!.attach(listener));
  return listener;
}

describe('ExportDisplay', () => {
  test('greets a consumer with version, scanouts and the source of its ids', async () => {
    rig.open({ scanouts: 3 });
    const consumer = rig.use(new RawConsumer(rig.path));

    expect(await consumer.take(HELLO)).toMatchObject({ version: EXPORT_VERSION, scanouts: 3, source: bufferSource() });
  });

  test('describes each frame, and hands over its buffer by id', async () => {
    const listener = open();
    const consumer = await rig.connect();
    const shadow = makeShadow(0x5a);
    const damage = new Damage();
    damage.add(1, 2, 3, 4);
    damage.add(40, 30, 5, 6);
    const presented = listener.show(display.outputs[0]!, shadow, { damage });

    const frame = await consumer.take(FRAME);
    expect(frame).toMatchObject({ scanout: 0, flags: EXPORT_FRAME_NEW_CURSOR, width: 64, height: 48 });
    expect(frame.primary).toMatchObject({
      fourcc: DRM_FORMAT.XRGB8888,
      modifier: DRM_FORMAT_MOD_LINEAR,
      width: 64,
      height: 48,
      planes: 1,
      offsets: [0, 0, 0, 0],
      strides: [256, 0, 0, 0],
      src: { x: 0, y: 0, width: 64, height: 48 },
      dst: { x: 0, y: 0, width: 64, height: 48 },
    });
    expect(frame.cursor.id).toEqual(NOTHING);
    expect(frame.damage.slice(0, frame.damage_count)).toEqual([
      { x: 1, y: 2, width: 3, height: 4 },
      { x: 40, y: 30, width: 5, height: 6 },
    ]);
    consumer.import(frame.primary.id);
    expect(await consumer.take(IMPORTED)).toMatchObject({
      id: frame.primary.id,
      length: 64 * 48 * 4,
      kind: EXPORT_KIND.MEMFD,
    });
    using memfd = consumer.takeFd();
    using pixels = Mapping.file(memfd, 0, 64 * 48 * 4, 'read');
    expect(pixels.bytes[1000]).toBe(0x5a);
    consumer.release(frame.primary.id, frame.serial);
    await presented;
  });

  test('gives copies that other processes can neither write nor resize', async () => {
    const listener = open();
    const consumer = await rig.connect();
    await listener.show(display.outputs[0]!, makeShadow(1));
    const { primary } = await consumer.take(FRAME);
    consumer.import(primary.id);
    await consumer.take(IMPORTED);

    using memfd = consumer.takeFd();
    expect(getSeals(memfd)).toBe(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | 1);
    expect(() => Mapping.file(memfd, 0, 4096, 'read-write')).toThrow('mmap: EPERM');
    expect(() => writeFileSync(`/proc/self/fd/${memfd.fd}`, 'x')).toThrow();
  });

  test('hands over the dma-buf that was imported, with its layout', async () => {
    const listener = open();
    const consumer = await rig.connect();
    using picture = new GuestPicture(64, 48, DRM_FORMAT.ABGR8888);
    picture.noise();
    const handle = rig.use(display.outputs[0]!.import(picture.asDmabuf) as Handle);
    await listener.show(display.outputs[0]!, handle);

    const { primary } = await consumer.take(FRAME);
    expect(primary).toMatchObject({ fourcc: DRM_FORMAT.ABGR8888, planes: 1, strides: [256, 0, 0, 0] });
    consumer.import(primary.id);
    expect(await consumer.take(IMPORTED)).toMatchObject({ kind: EXPORT_KIND.DMABUF });
    using fd = consumer.takeFd();
    const { dmabuf } = picture.asDmabuf.backing as { dmabuf: { fd: number } };
    expect(statSync(`/proc/self/fd/${fd.fd}`).ino).toBe(statSync(`/proc/self/fd/${dmabuf.fd}`).ino);
  });

  test('uses no id twice, and all of them begin with its source', async () => {
    open();
    const ids = new Set<string>();
    for (let i = 0; i < 1000; i++) {
      using shadow = display.outputs[0]!.createShadow(1, 1, DRM_FORMAT.XRGB8888) as Shadow & { id: Uint8Array };
      ids.add(formatBufferId(shadow.id));
      expect(shadow.id.subarray(0, 8)).toEqual(bufferSource());
    }
    expect(ids.size).toBe(1000);
    expect([...ids][0]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
    await setImmediate();
  });

  test('shows a consumer that joins the frame of now, with all of its damage', async () => {
    const listener = open();
    const [first, second] = [makeShadow(1), makeShadow(2)];
    await listener.show(display.outputs[0]!, first);
    await listener.show(display.outputs[0]!, second, { damage: new Damage() });

    const consumer = await rig.connect();
    const frame = await consumer.take(FRAME);
    expect(frame.damage.slice(0, frame.damage_count)).toEqual([{ x: 0, y: 0, width: 64, height: 48 }]);
    expect(frame.primary.id).toEqual((second as unknown as { id: Uint8Array }).id);
  });

  test('says that a scanout is off, and that a buffer is gone', async () => {
    const listener = open();
    const consumer = await rig.connect();
    const shadow = makeShadow(1);
    await listener.show(display.outputs[0]!, shadow);
    const shown = await consumer.take(FRAME);
    await listener.show(display.outputs[0]!, null);

    const dark = await consumer.take(FRAME);
    expect(dark).toMatchObject({ width: 0, height: 0, primary: { id: NOTHING } });
    consumer.release(shown.primary.id, shown.serial);
    await eventually(() => expect(listener.events).toContain('released '));
    shadow[Symbol.dispose]();
    expect(await consumer.take(GONE)).toMatchObject({ id: shown.primary.id });
    consumer.import(shown.primary.id);
    expect(await consumer.take(ERROR)).toMatchObject({
      code: EXPORT_ERROR.NO_SUCH_BUFFER,
      request: EXPORT_REQUEST.IMPORT,
      id: shown.primary.id,
    });
  });
});

describe('A frame of an ExportOutput', () => {
  test('is held until every consumer has released it', async () => {
    const listener = open();
    const [one, other] = [await rig.connect(), await rig.connect()];
    const [first, second] = [makeShadow(1), makeShadow(2)];
    await listener.show(display.outputs[0]!, first);
    await listener.show(display.outputs[0]!, second);
    const [a, b] = [await one.take(FRAME), await other.take(FRAME)];

    one.release(a.primary.id, a.serial);
    await setImmediate();
    await setImmediate();
    expect(first.isHeld).toBe(true);
    other.release(b.primary.id, b.serial);
    await eventually(() => expect(first.isHeld).toBe(false));
    expect(listener.events).toEqual(['presented', 'presented', 'released ']);
    expect(second.isHeld).toBe(true);
  });

  test('is released when its consumer is gone', async () => {
    const listener = open();
    const consumer = await rig.connect();
    const [first, second] = [makeShadow(1), makeShadow(2)];
    await listener.show(display.outputs[0]!, first);
    await listener.show(display.outputs[0]!, second);
    await consumer.take(FRAME);

    consumer[Symbol.dispose]();
    await eventually(() => expect(first.isHeld).toBe(false));
    expect(display.stats.consumers).toEqual([]);
  });

  test('is taken back from a consumer that has stopped, which is told, and gets no more until it releases some', async () => {
    const listener = open();
    const output = display.outputs[0]!;
    const consumer = await rig.connect();
    const [first, second, third] = [makeShadow(1), makeShadow(2), makeShadow(3)];
    await listener.show(output, first);
    await listener.show(output, second);
    const frames = [await consumer.take(FRAME), await consumer.take(FRAME)];
    await listener.show(output, third);
    expect([first.isHeld, second.isHeld]).toEqual([true, true]);

    expect(await consumer.take(REVOKED)).toMatchObject({ serial: frames[0]!.serial });
    expect(await consumer.take(REVOKED)).toMatchObject({ serial: frames[1]!.serial });
    expect([first.isHeld, second.isHeld, third.isHeld]).toEqual([false, false, true]);
    await listener.show(output, first);
    expect(consumer.takeNow()).toEqual([]);
    // Nothing waits for it any more.
    await listener.show(output, second);
    expect([first.isHeld, third.isHeld]).toEqual([false, false]);
    consumer.release(frames[0]!.primary.id, frames[0]!.serial);
    const next = await consumer.take(FRAME);
    expect(next.primary.id).toEqual(frames[1]!.primary.id);
    expect(display.stats.consumers).toMatchObject([{ pid: process.pid, frames: 3, held: 2 }]);
  });

  test('is taken back a second after it was replaced, not with an earlier one', async () => {
    display = rig.open({ scanouts: 2 });
    const [screen, other] = [new Listener(), new Listener()];
    rig.use(display.outputs[0]!.attach(screen));
    rig.use(display.outputs[1]!.attach(other));
    const consumer = await rig.connect();
    const shadows = [makeShadow(1), makeShadow(2), makeShadow(3)];
    await screen.show(display.outputs[0]!, shadows[0]!);
    await screen.show(display.outputs[0]!, shadows[1]!);
    const serials = [(await consumer.take(FRAME)).serial, (await consumer.take(FRAME)).serial];
    // Some refreshes later.
    for (let i = 0; i < 50; i++) await other.show(display.outputs[1]!, null);
    consumer.takeNow();
    await screen.show(display.outputs[0]!, shadows[2]!);

    const revoked: number[] = [];
    while (!serials.every((serial) => revoked.includes(serial))) revoked.push((await consumer.take(REVOKED)).serial);
    expect(revoked.indexOf(serials[0]!)).toBeLessThan(revoked.indexOf(serials[1]!));
  });

  test('is skipped by a slow consumer, whose next one has its damage', async () => {
    const listener = open();
    const output = display.outputs[0]!;
    const consumer = await rig.connect();
    const shadows = [makeShadow(1), makeShadow(2), makeShadow(3)];
    const at = (x: number): { damage: Damage } => {
      const damage = new Damage();
      damage.add(x, 0, 1, 1);
      return { damage };
    };
    for (let i = 0; i < 3; i++) await listener.show(output, shadows[i]!, at(10 * i));
    await listener.show(output, shadows[2]!, at(30));
    const first = await consumer.take(FRAME);
    await consumer.take(FRAME);
    expect(consumer.takeNow()).toEqual([]);

    consumer.release(first.primary.id, first.serial);
    const newest = await consumer.take(FRAME);
    expect(newest.damage.slice(0, newest.damage_count)).toEqual([
      { x: 20, y: 0, width: 1, height: 1 },
      { x: 30, y: 0, width: 1, height: 1 },
    ]);
  });
});

describe('A consumer', () => {
  test.each<[string, Uint8Array]>([
    ['a message that is too short', Uint8Array.of(7, 0, 0, 0, 1, 1, 0, 0)],
    ['one that is too long', Uint8Array.of(1, 16, 0, 0, 9, 9, 0, 0)],
    ['an import of another size', encode(EXPORT_REQUEST.IMPORT, export_release, {})],
    ['a release that lacks its fence', encode(EXPORT_REQUEST.RELEASE, export_release, { flags: EXPORT_RELEASE_FENCE })],
  ])('that sends %s is told so and disconnected, and others are not', async (_, bytes) => {
    rig.open();
    const [wrong, right] = [await rig.connect(), await rig.connect()];

    wrong.send(bytes);
    expect(await wrong.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.MALFORMED });
    await wrong.ended();
    right.import(NOTHING);
    expect(await right.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.NO_SUCH_BUFFER });
    expect(rig.log.filter((line) => line.includes('disconnected:'))).toHaveLength(1);
  });

  test('that leaves in the middle of a message leaves nothing behind', async () => {
    rig.open();
    const consumer = await rig.connect();
    consumer.send(encode(EXPORT_REQUEST.IMPORT, export_import, { id: NOTHING }).subarray(0, 13));
    consumer[Symbol.dispose]();
    await eventually(() => expect(rig.log.at(-1)).toContain('it left in the middle of a message'));
  });

  test('that is killed before it has read everything is gone at once', async () => {
    const display = rig.open();
    const consumer = await rig.connect();
    consumer.import(NOTHING);
    // Its answer is not read: the end of the connection is an error, which a poll reports once.
    await eventually(() => expect(waitReadable(consumer.connection, 0)).toBe(true));
    consumer.send(Uint8Array.of(32));
    consumer[Symbol.dispose]();
    await eventually(() => expect(display.stats.consumers).toEqual([]));
  });

  test('may send requests in pieces of any size', async () => {
    rig.open();
    const consumer = await rig.connect();
    const request = encode(EXPORT_REQUEST.IMPORT, export_import, { id: NOTHING });
    for (let cut = 1; cut < request.length; cut++) {
      consumer.send(request.subarray(0, cut));
      await setImmediate();
      consumer.send(request.subarray(cut));
      expect(await consumer.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.NO_SUCH_BUFFER });
    }
  });

  test('is told of requests and serials that do not exist, and may go on', async () => {
    const listener = open();
    const consumer = await rig.connect();
    await listener.show(display.outputs[0]!, makeShadow(1));
    const { primary, serial } = await consumer.take(FRAME);

    consumer.send(encode(0x7777, export_header, {}));
    expect(await consumer.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.UNKNOWN_REQUEST, request: 0x7777 });
    consumer.release(primary.id, serial + 1);
    expect(await consumer.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.NO_SUCH_FRAME, serial: serial + 1 });
    consumer.release(NOTHING, serial);
    expect(await consumer.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.NO_SUCH_FRAME, serial });
    consumer.release(primary.id, serial);
    consumer.release(primary.id, serial);
    expect(await consumer.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.NO_SUCH_FRAME, serial, id: primary.id });
  });

  test.each(['an eventfd', 'a file', 'a memfd'])('whose release fence is %s is disconnected', async (kind) => {
    const listener = open();
    const consumer = await rig.connect();
    await listener.show(display.outputs[0]!, makeShadow(1));
    const { primary, serial } = await consumer.take(FRAME);
    using event = EventFd.create();
    using memfd = createMemfd('fence', 1);

    consumer.release(primary.id, serial, EXPORT_RELEASE_FENCE, [
      kind === 'an eventfd' ? event : kind === 'a memfd' ? memfd : { fd: 0 },
    ]);
    expect(await consumer.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.MALFORMED });
    await consumer.ended();
  });

  test('that sends descriptors which no request carries is disconnected, and they are closed', async () => {
    rig.open();
    const consumer = await rig.connect();
    const before = openFds().size;
    using memfd = createMemfd('surplus', 1);
    for (let i = 0; i < 9; i++)
      consumer.send(encode(EXPORT_REQUEST.IMPORT, export_import, { id: NOTHING }), [memfd, memfd]);
    await consumer.ended();
    await eventually(() => expect(openFds().size).toBeLessThanOrEqual(before + 1));
  });

  test('that does not read its answers is not read either, and goes on when it does', async () => {
    rig.open();
    const consumer = await rig.connect();
    const requests = 40_000;
    const request = encode(EXPORT_REQUEST.IMPORT, export_import, { id: NOTHING });
    for (let i = 0; i < requests; i++) consumer.send(request);
    // Until the display takes no more.
    for (let left = Infinity, turns = 0; turns < 100; turns++) {
      const { queuedBytes } = consumer.connection;
      if (queuedBytes < left) turns = 0;
      left = queuedBytes;
      await setImmediate();
    }
    expect(consumer.connection.queuedBytes).toBeGreaterThan(0);

    let answers = 0;
    while (answers < requests) {
      answers += consumer.takeNow().length;
      await setImmediate();
    }
    expect([answers, consumer.isOver]).toEqual([requests, false]);
  });

  test('beyond the sixteenth is refused', async () => {
    rig.open();
    for (let i = 0; i < 16; i++) await rig.connect();
    const refused = rig.use(new RawConsumer(rig.path));

    expect(await refused.take(ERROR)).toMatchObject({ code: EXPORT_ERROR.TOO_MANY_CONSUMERS });
    await refused.ended();
    expect(rig.log.at(-1)).toContain('16 are connected already');
  });
});

describe("The export socket's file", () => {
  test('has mode 0600, and goes with the display', () => {
    {
      using exported = rig.open();
      expect(statSync(rig.path).mode & 0o777).toBe(0o600);
      expect(exported.stats).toEqual({ buffers: 0, guestBuffers: 0, consumers: [] });
    }
    expect(() => statSync(rig.path)).toThrow('ENOENT');
  });

  test('has the mode and the group that are asked for', () => {
    rig.open({ mode: 0o660, gid: process.getgid!() });
    const { mode, gid } = statSync(rig.path);
    expect([mode & 0o777, gid]).toEqual([0o660, process.getgid!()]);
  });

  test('is not taken from a display that uses it', () => {
    rig.open();
    expect(() => rig.open()).toThrow(`bind: EADDRINUSE (${rig.path})`);
  });

  test('is refused where there is a file already', () => {
    writeFileSync(rig.path, '');
    expect(() => rig.open()).toThrow('bind: EADDRINUSE');
  });
});

test('ExportOutput.import refuses guest pages', () => {
  display = rig.open();
  using picture = new GuestPicture(4, 4);
  expect(display.outputs[0]!.import(picture.framebuffer)).toBeInstanceOf(DmabufImportRefused);
});
