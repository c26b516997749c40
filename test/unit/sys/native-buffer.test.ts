import { expect, test } from 'vitest';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';

test('NativeBuffer: is zeroed and aligned, and cannot be used after dispose', () => {
  const buffer = NativeBuffer.allocate(40);
  const { bytes, view } = buffer;
  expect([...bytes]).toEqual(new Array(40).fill(0));
  expect(buffer.address % 16).toBe(0);
  view.setUint8(39, 1);
  expect(buffer.bytes[39]).toBe(1);
  buffer[Symbol.dispose]();
  buffer[Symbol.dispose]();
  expect(bytes.length).toBe(0);
  expect(() => view.getUint8(0)).toThrow(TypeError);
  expect(() => buffer.address).toThrow('after dispose');
  expect(() => buffer.bytes).toThrow('after dispose');
  expect(() => NativeBuffer.allocate(0)).toThrow(RangeError);
});
