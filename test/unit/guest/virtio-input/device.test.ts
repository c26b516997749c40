import { expect, test, vi } from 'vitest';
import {
  ABS,
  BTN,
  BUS_VIRTUAL,
  EV,
  INPUT_PROP_DIRECT,
  KEY_MICMUTE,
  LED,
  REL,
} from '../../../../protocols/input-event-codes.ts';
import * as wire from '../../../../protocols/virtio-input.ts';
import { AXIS_MAX, KeyboardPointer } from '../../../../src/guest/virtio-input/keyboard-pointer.ts';
import type { Chain } from '../../../../src/guest/virtio/chain.ts';
import type { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import { Touchscreen } from '../../../../src/guest/virtio-input/touchscreen.ts';

const keyboardPointer = new KeyboardPointer(() => undefined);
const touchscreen = new Touchscreen();
type Device = typeof keyboardPointer | typeof touchscreen;

/** Asks as Linux does: one byte, then the other; then as QEMU passes it on, which writes the whole space each time. */
function ask(device: Device, select: number, subsel = 0): Uint8Array {
  const space = device.config.slice();
  space[0] = select;
  device.writeConfig(0, space);
  space.set(device.config);
  space[1] = subsel;
  device.writeConfig(0, space);
  const { size, u } = wire.virtio_input_config.decode(device.config);
  expect(u.subarray(size).every((byte) => byte === 0)).toBe(true);
  return u.subarray(0, size);
}

function bits(device: Device, select: number, subsel = 0): number[] {
  return [...ask(device, select, subsel)].flatMap((byte, index) =>
    Array.from({ length: 8 }, (_, bit) => index * 8 + bit).filter((bit) => ((byte >> (bit & 7)) & 1) === 1),
  );
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

test('config space: describes the keyboard and pointer', () => {
  expect(text(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_ID_NAME))).toBe('scanout-bridge keyboard and pointer');
  expect(text(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_ID_SERIAL))).toBe('keyboard-pointer');
  expect(wire.virtio_input_devids.decode(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_ID_DEVIDS))).toEqual({
    bustype: BUS_VIRTUAL,
    vendor: 0,
    product: 1,
    version: 1,
  });
  expect(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_PROP_BITS)).toHaveLength(0);
  const keys = bits(keyboardPointer, wire.VIRTIO_INPUT_CFG_EV_BITS, EV.KEY);
  expect([keys[0], keys[KEY_MICMUTE - 1], keys[KEY_MICMUTE], keys.at(-1)]).toEqual([
    1,
    KEY_MICMUTE,
    BTN.LEFT,
    BTN.TASK,
  ]);
  expect(bits(keyboardPointer, wire.VIRTIO_INPUT_CFG_EV_BITS, EV.REL)).toEqual(Object.values(REL));
  expect(bits(keyboardPointer, wire.VIRTIO_INPUT_CFG_EV_BITS, EV.ABS)).toEqual([ABS.X, ABS.Y]);
  expect(bits(keyboardPointer, wire.VIRTIO_INPUT_CFG_EV_BITS, EV.LED)).toEqual(Object.values(LED));
  expect(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_EV_BITS, EV.REP)).not.toHaveLength(0);
  expect(wire.virtio_input_absinfo.decode(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_ABS_INFO, ABS.Y))).toEqual({
    min: 0,
    max: AXIS_MAX,
    fuzz: 0,
    flat: 0,
    res: 0,
  });
});

test('config space: describes the touchscreen', () => {
  expect(bits(touchscreen, wire.VIRTIO_INPUT_CFG_PROP_BITS)).toEqual([INPUT_PROP_DIRECT]);
  expect(bits(touchscreen, wire.VIRTIO_INPUT_CFG_EV_BITS, EV.KEY)).toEqual([BTN.TOUCH]);
  expect(bits(touchscreen, wire.VIRTIO_INPUT_CFG_EV_BITS, EV.ABS)).toEqual(
    Object.values(ABS).filter((axis) => axis >= ABS.MT_SLOT),
  );
  expect(wire.virtio_input_absinfo.decode(ask(touchscreen, wire.VIRTIO_INPUT_CFG_ABS_INFO, ABS.MT_SLOT))).toMatchObject(
    { min: 0, max: 15 },
  );
});

test('config space: an unknown selection has size 0', () => {
  expect(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_UNSET)).toHaveLength(0);
  expect(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_EV_BITS, 0xff)).toHaveLength(0);
  expect(ask(keyboardPointer, wire.VIRTIO_INPUT_CFG_ABS_INFO, ABS.MT_SLOT)).toHaveLength(0);
  expect(ask(keyboardPointer, 0xff, 0xff)).toHaveLength(0);
});

test('config space: the selection may be written byte by byte, and other bytes are ignored', () => {
  keyboardPointer.writeConfig(0, Uint8Array.of(wire.VIRTIO_INPUT_CFG_EV_BITS));
  keyboardPointer.writeConfig(1, Uint8Array.of(EV.ABS));
  keyboardPointer.writeConfig(2, new Uint8Array(300).fill(0xaa));
  keyboardPointer.writeConfig(200, Uint8Array.of(1));
  keyboardPointer.writeConfig(0, new Uint8Array(0));

  expect(keyboardPointer.config.subarray(0, 9)).toEqual(
    Uint8Array.of(wire.VIRTIO_INPUT_CFG_EV_BITS, EV.ABS, 1, 0, 0, 0, 0, 0, 3),
  );
  expect(keyboardPointer.config).toHaveLength(wire.virtio_input_config.size);
});

test.each([0, 1])(
  'queue %d: goes on once in the next turn, however often a driver kicks that keeps its ring full',
  (index) => {
    const device = new KeyboardPointer(() => undefined);
    // Buffers that are too small for an event, without end.
    const chain = { read: () => 0, write: () => 0 } as Partial<Chain> as Chain;
    const queue: Partial<Virtqueue> = { size: 4, pop: () => chain, push: () => undefined, callAgain: () => undefined };
    device.queueStarted(index, queue as Virtqueue);
    using scheduled = vi.spyOn(globalThis, 'setImmediate').mockReturnValue({} as NodeJS.Immediate);
    device.key(30, true);
    device.frame();
    for (let i = 0; i < 5; i++) device.kicked(index);
    expect(scheduled).toHaveBeenCalledTimes(1);
  },
);

test.each([0, 1])('queue %d: reports an unexpected error to the transport', (index) => {
  const device = new KeyboardPointer(() => undefined);
  const failed = vi.fn();
  device.attached({ configChanged: () => true, failed });
  const error = new RangeError('thrown on purpose');
  const pop = (): never => {
    throw error;
  };
  device.queueStarted(index, { size: 4, pop } as Partial<Virtqueue> as Virtqueue);
  device.key(30, true);
  device.frame();
  device.kicked(index);
  expect(failed).toHaveBeenCalledWith(error);
});
