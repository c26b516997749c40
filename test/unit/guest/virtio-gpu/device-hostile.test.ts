import { describe, expect, it, vi } from 'vitest';
import {
  VIRTIO_GPU_CMD,
  VIRTIO_GPU_RESP,
  virtio_gpu_ctrl_hdr,
  virtio_gpu_get_capset,
  virtio_gpu_get_capset_info,
} from '../../../../protocols/virtio-gpu.ts';
import { VirtioGpu } from '../../../../src/guest/virtio-gpu/device.ts';
import type { Chain } from '../../../../src/guest/virtio/chain.ts';
import type { Virtqueue } from '../../../../src/guest/virtio/queue.ts';
import * as request from './requests.ts';
import { GpuRig, HEAP, PAGE, RAM, RAM_SIZE, openThings } from './rig.ts';

const { ERR_UNSPEC, ERR_OUT_OF_MEMORY, ERR_INVALID_SCANOUT_ID, ERR_INVALID_RESOURCE_ID, ERR_INVALID_PARAMETER } =
  VIRTIO_GPU_RESP;
const U32 = 2 ** 32 - 1;
const PICTURE = { width: 64, height: 64, stride: 256, offset: 0 };

/**
 * What every hostile command meets: resource 1, 64x64 with a backing, on scanout 0; resource 2
 * without a backing; blob 3 of 64x64 on scanout 1.
 */
function populated(): GpuRig {
  const rig = new GpuRig({ scanouts: 2 });
  const steps = [
    request.create2d(1, 64, 64),
    request.attach(1, request.contiguous(16384)),
    request.setScanout(0, 1, 0, 0, 64, 64),
    request.create2d(2, 64, 64),
    request.createBlob(3, 16384, request.contiguous(16384, HEAP + 16384)),
    request.setScanoutBlob(1, 3, PICTURE),
  ];
  for (const step of steps) expect(rig.type(step)).toBe(VIRTIO_GPU_RESP.OK_NODATA);
  rig.sink.takeCalls();
  return rig;
}

/** Everything a guest's command could have changed. */
function stateOf(rig: GpuRig): unknown {
  const { resources, storeBytes, flushes, transfers } = rig.gpu.stats;
  return {
    resources,
    storeBytes,
    flushes,
    transfers,
    used: rig.gpu.budget.used,
    config: [...rig.gpu.config],
    shown: [...rig.sink.shown.entries()],
    calls: rig.sink.calls.length,
    broken: [...rig.broken],
    ...openThings(),
  };
}

const entry = (addr: number, length: number): request.Entry[] => [{ addr, length }];

const HOSTILE: readonly (readonly [name: string, request: Uint8Array, error: number])[] = [
  ['a 2D resource 0', request.create2d(0, 64, 64), ERR_INVALID_RESOURCE_ID],
  ['a 2D resource that exists', request.create2d(1, 64, 64), ERR_INVALID_RESOURCE_ID],
  ['a 2D resource without width', request.create2d(9, 0, 64), ERR_INVALID_PARAMETER],
  ['a 2D resource without height', request.create2d(9, 64, 0), ERR_INVALID_PARAMETER],
  ['a huge 2D resource', request.create2d(9, 16385, 16385), ERR_INVALID_PARAMETER],
  ['a 2D resource whose stride overflows', request.create2d(9, 0x4000_0001, 1), ERR_INVALID_PARAMETER],
  ['a 2D resource whose size overflows', request.create2d(9, 0x8000, 0x8000), ERR_INVALID_PARAMETER],
  ['a 2D resource of the largest numbers', request.create2d(9, U32, U32), ERR_INVALID_PARAMETER],
  ['a 2D resource of format 0', request.create2d(9, 64, 64, 0), ERR_INVALID_PARAMETER],
  ['a 2D resource of an unknown format', request.create2d(9, 64, 64, 9999), ERR_INVALID_PARAMETER],
  ['unref of a resource that does not exist', request.unref(9), ERR_INVALID_RESOURCE_ID],
  ['unref of resource 0', request.unref(0), ERR_INVALID_RESOURCE_ID],
  [
    'a backing for a resource that does not exist',
    request.attach(9, request.contiguous(16384)),
    ERR_INVALID_RESOURCE_ID,
  ],
  ['a backing without entries', request.attach(2, []), ERR_INVALID_PARAMETER],
  ['a backing that claims 2^32-1 entries', request.attach(2, entry(HEAP, 16384), U32), ERR_INVALID_PARAMETER],
  ['a backing that claims one entry more than it has', request.attach(2, entry(HEAP, 16384), 2), ERR_INVALID_PARAMETER],
  [
    'a backing of more entries than the limit',
    request.attach(
      2,
      Array.from({ length: 16385 }, () => ({ addr: HEAP, length: PAGE })),
    ),
    ERR_INVALID_PARAMETER,
  ],
  ['a backing below memory', request.attach(2, entry(RAM - PAGE, PAGE)), ERR_INVALID_PARAMETER],
  ['a backing above memory', request.attach(2, entry(RAM + RAM_SIZE, PAGE)), ERR_INVALID_PARAMETER],
  [
    'a backing that ends outside memory',
    request.attach(2, entry(RAM + RAM_SIZE - PAGE, 2 * PAGE)),
    ERR_INVALID_PARAMETER,
  ],
  ['a backing that wraps around', request.attach(2, entry(2 ** 64 - 2 ** 12, 2 ** 13)), ERR_INVALID_PARAMETER],
  [
    'a backing whose last entry is bad',
    request.attach(2, [...request.scattered(3), { addr: 0, length: PAGE }]),
    ERR_INVALID_PARAMETER,
  ],
  [
    'a backing with an empty entry',
    request.attach(2, [...request.scattered(3), { addr: HEAP, length: 0 }]),
    ERR_INVALID_PARAMETER,
  ],
  ['a second backing', request.attach(1, request.contiguous(16384)), ERR_UNSPEC],
  ['a second backing for a blob', request.attach(3, request.contiguous(16384)), ERR_UNSPEC],
  ['detaching from a resource that does not exist', request.detach(9), ERR_INVALID_RESOURCE_ID],
  ['detaching a backing where there is none', request.detach(2), ERR_INVALID_RESOURCE_ID],
  ['a scanout that does not exist', request.setScanout(2, 1, 0, 0, 64, 64), ERR_INVALID_SCANOUT_ID],
  ['the largest scanout', request.setScanout(U32, 1, 0, 0, 64, 64), ERR_INVALID_SCANOUT_ID],
  ['turning off a scanout that does not exist', request.setScanout(2, 0, 0, 0, 0, 0), ERR_INVALID_SCANOUT_ID],
  ['a resource that does not exist on a scanout', request.setScanout(0, 9, 0, 0, 64, 64), ERR_INVALID_RESOURCE_ID],
  ['a scanout wider than its resource', request.setScanout(0, 1, 0, 0, 65, 64), ERR_INVALID_PARAMETER],
  ['a scanout that starts outside its resource', request.setScanout(0, 1, 65, 0, 1, 1), ERR_INVALID_PARAMETER],
  ['a scanout whose rectangle wraps around', request.setScanout(0, 1, U32, U32, 2, 2), ERR_INVALID_PARAMETER],
  ['a scanout without pixels', request.setScanout(0, 1, 0, 0, 0, 0), ERR_INVALID_PARAMETER],
  ['a blob on SET_SCANOUT', request.setScanout(0, 3, 0, 0, 64, 64), ERR_INVALID_RESOURCE_ID],
  ['a transfer to a resource that does not exist', request.transfer(9, 0, 0, 64, 64, 0), ERR_INVALID_RESOURCE_ID],
  ['a transfer without a backing', request.transfer(2, 0, 0, 64, 64, 0), ERR_INVALID_RESOURCE_ID],
  ['a transfer outside the resource', request.transfer(1, 1, 0, 64, 64, 4), ERR_INVALID_PARAMETER],
  ['a transfer whose rectangle wraps around', request.transfer(1, 2, 2, U32, U32, 0), ERR_INVALID_PARAMETER],
  ['a flush of a resource that does not exist', request.flush(9, 0, 0, 64, 64), ERR_INVALID_RESOURCE_ID],
  ['a flush outside the resource', request.flush(1, 0, 1, 64, 64), ERR_INVALID_PARAMETER],
  ['a flush whose rectangle wraps around', request.flush(1, U32, U32, U32, U32), ERR_INVALID_PARAMETER],
  ['a blob 0', request.createBlob(0, PAGE, request.contiguous(PAGE)), ERR_INVALID_RESOURCE_ID],
  ['a blob that exists', request.createBlob(3, PAGE, request.contiguous(PAGE)), ERR_INVALID_RESOURCE_ID],
  ['a blob of no bytes', request.createBlob(9, 0, request.contiguous(PAGE)), ERR_INVALID_PARAMETER],
  ['a blob of 2^63 bytes', request.createBlob(9, 2 ** 63, request.contiguous(PAGE)), ERR_INVALID_PARAMETER],
  ['a blob larger than its backing', request.createBlob(9, PAGE + 1, request.contiguous(PAGE)), ERR_INVALID_PARAMETER],
  ['a blob without entries', request.createBlob(9, PAGE, []), ERR_INVALID_PARAMETER],
  [
    'a blob that claims 2^32-1 entries',
    request.createBlob(9, PAGE, request.contiguous(PAGE), 1, U32),
    ERR_INVALID_PARAMETER,
  ],
  ['a blob outside memory', request.createBlob(9, PAGE, entry(0, PAGE)), ERR_INVALID_PARAMETER],
  ['a blob of invalid memory', request.createBlob(9, PAGE, request.contiguous(PAGE), 0), ERR_INVALID_PARAMETER],
  ['a blob in host memory', request.createBlob(9, PAGE, request.contiguous(PAGE), 2), ERR_INVALID_PARAMETER],
  ['a blob scanout that does not exist', request.setScanoutBlob(2, 3, PICTURE), ERR_INVALID_SCANOUT_ID],
  ['a blob that does not exist on a scanout', request.setScanoutBlob(0, 9, PICTURE), ERR_INVALID_RESOURCE_ID],
  ['a 2D resource on SET_SCANOUT_BLOB', request.setScanoutBlob(0, 1, PICTURE), ERR_INVALID_RESOURCE_ID],
  [
    'a blob picture of an unknown format',
    request.setScanoutBlob(0, 3, { ...PICTURE, format: 3000 }),
    ERR_INVALID_PARAMETER,
  ],
  ['a blob picture without pixels', request.setScanoutBlob(0, 3, { ...PICTURE, width: 0 }), ERR_INVALID_PARAMETER],
  ['a blob picture that is too tall', request.setScanoutBlob(0, 3, { ...PICTURE, height: 65 }), ERR_INVALID_PARAMETER],
  [
    'a blob picture that starts too late',
    request.setScanoutBlob(0, 3, { ...PICTURE, offset: 4 }),
    ERR_INVALID_PARAMETER,
  ],
  [
    'a blob picture at the largest offset',
    request.setScanoutBlob(0, 3, { ...PICTURE, offset: U32 - 3 }),
    ERR_INVALID_PARAMETER,
  ],
  [
    'a blob picture with too wide a stride',
    request.setScanoutBlob(0, 3, { ...PICTURE, stride: 260 }),
    ERR_INVALID_PARAMETER,
  ],
  [
    'a blob picture with the largest stride',
    request.setScanoutBlob(0, 3, { ...PICTURE, stride: U32 - 3 }),
    ERR_INVALID_PARAMETER,
  ],
  [
    'a blob picture with rows that overlap',
    request.setScanoutBlob(0, 3, { ...PICTURE, stride: 252 }),
    ERR_INVALID_PARAMETER,
  ],
  ['a blob picture with no stride', request.setScanoutBlob(0, 3, { ...PICTURE, stride: 0 }), ERR_INVALID_PARAMETER],
  [
    'a blob picture of half pixels',
    request.setScanoutBlob(0, 3, { ...PICTURE, height: 8, offset: 2 }),
    ERR_INVALID_PARAMETER,
  ],
  [
    'a blob scanout outside its picture',
    request.setScanoutBlob(0, 3, PICTURE, { x: 1, y: 0, width: 64, height: 64 }),
    ERR_INVALID_PARAMETER,
  ],
  ['an EDID of a scanout that does not exist', request.getEdid(2), ERR_INVALID_SCANOUT_ID],
  ['a UUID for a resource that does not exist', request.assignUuid(9), ERR_INVALID_RESOURCE_ID],
  ['an unknown command', request.only(0x0999), ERR_UNSPEC],
  ['command 0', request.only(0), ERR_UNSPEC],
  ['a cursor command on the control queue', request.moveCursor(0, 1, 1), ERR_UNSPEC],
  ['mapping a blob', request.only(VIRTIO_GPU_CMD.RESOURCE_MAP_BLOB), ERR_UNSPEC],
  ['unmapping a blob', request.only(VIRTIO_GPU_CMD.RESOURCE_UNMAP_BLOB), ERR_UNSPEC],
  ['a 3D context', request.only(VIRTIO_GPU_CMD.CTX_CREATE), ERR_UNSPEC],
  ['3D work', request.only(VIRTIO_GPU_CMD.SUBMIT_3D), ERR_UNSPEC],
  ['a request shorter than a header', request.only(VIRTIO_GPU_CMD.GET_DISPLAY_INFO).subarray(0, 23), ERR_UNSPEC],
  ['a request of one byte', new Uint8Array(1), ERR_UNSPEC],
  ['a request shorter than its struct', request.create2d(9, 64, 64).subarray(0, 39), ERR_INVALID_PARAMETER],
];

const HOSTILE_CURSOR: typeof HOSTILE = [
  ['a cursor on a scanout that does not exist', request.updateCursor(2, 1, 0, 0), ERR_INVALID_SCANOUT_ID],
  ['moving a cursor on a scanout that does not exist', request.moveCursor(U32, 0, 0), ERR_INVALID_SCANOUT_ID],
  ['a cursor of a resource that does not exist', request.updateCursor(0, 9, 0, 0), ERR_INVALID_RESOURCE_ID],
  ['a control command on the cursor queue', request.create2d(9, 64, 64), ERR_UNSPEC],
  ['a short cursor command', request.updateCursor(0, 1, 0, 0).subarray(0, 55), ERR_INVALID_PARAMETER],
];

describe('VirtioGpu: answers with an error, and changes nothing, for', () => {
  it.each(HOSTILE)('%s', (_name, bytes, error) => {
    using rig = populated();
    const before = stateOf(rig);
    expect(rig.type(bytes)).toBe(error);
    expect(stateOf(rig)).toEqual(before);
    expect(rig.gpu.stats.errors).toBe(1);
    expect(rig.log).toHaveLength(1);
  });

  it.each(HOSTILE_CURSOR)('%s', (_name, bytes, error) => {
    using rig = populated();
    const before = stateOf(rig);
    expect(rig.type(bytes, 1)).toBe(error);
    expect(stateOf(rig)).toEqual(before);
  });

  it('a cursor too large for any hardware', () => {
    using rig = new GpuRig();
    rig.type(request.create2d(1, 513, 8));
    expect(rig.type(request.updateCursor(0, 1, 0, 0), 1)).toBe(ERR_INVALID_PARAMETER);
    expect(rig.sink.calls).toEqual([]);
  });

  it('more resources than the limit', () => {
    using rig = new GpuRig();
    for (let id = 1; id <= 4096; id++) rig.send(request.create2d(id, 1, 1));
    const used = rig.gpu.budget.used;
    expect(rig.type(request.create2d(5000, 1, 1))).toBe(ERR_OUT_OF_MEMORY);
    expect(rig.gpu.stats.resources).toBe(4096);
    expect(rig.gpu.budget.used).toBe(used);
  });

  it('resources and entries beyond the memory budget', () => {
    using rig = new GpuRig({ maxGuestMemory: 2000 });
    rig.type(request.create2d(1, 64, 64));
    const used = rig.gpu.budget.used;
    expect(rig.type(request.attach(1, request.scattered(64)))).toBe(ERR_OUT_OF_MEMORY);
    expect(rig.gpu.budget.used).toBe(used);
    expect(rig.type(request.createBlob(2, 64 * PAGE, request.scattered(64)))).toBe(ERR_OUT_OF_MEMORY);
    expect(rig.gpu.budget.used).toBe(used);
    expect(rig.gpu.stats.resources).toBe(1);
  });

  it('a store beyond the memory budget, keeping the picture', () => {
    using rig = new GpuRig({ maxGuestMemory: 10_000 });
    rig.type(request.create2d(1, 64, 64));
    rig.type(request.attach(1, request.contiguous(16384)));
    rig.type(request.setScanout(0, 1, 0, 0, 64, 64));
    const before = stateOf(rig);
    expect(rig.type(request.detach(1))).toBe(ERR_OUT_OF_MEMORY);
    expect(rig.type(request.transfer(1, 0, 1, 64, 1, 0))).toBe(ERR_OUT_OF_MEMORY);
    expect(stateOf(rig)).toEqual(before);
    expect(rig.type(request.transfer(1, 0, 0, 64, 64, 0))).toBe(VIRTIO_GPU_RESP.OK_NODATA);
  });

  it('an unaligned backing beyond the memory budget', () => {
    using rig = new GpuRig({ maxGuestMemory: 10_000 });
    rig.type(request.create2d(1, 64, 64));
    const before = stateOf(rig);
    expect(rig.type(request.attach(1, request.contiguous(16384, HEAP + 16)))).toBe(ERR_OUT_OF_MEMORY);
    expect(stateOf(rig)).toEqual(before);
  });

  it('blobs when they are not offered', () => {
    using rig = new GpuRig({ blobs: false });
    expect(rig.gpu.features & 8n).toBe(0n);
    expect(rig.type(request.createBlob(1, PAGE, request.contiguous(PAGE)))).toBe(ERR_UNSPEC);
    expect(rig.gpu.stats.resources).toBe(0);
  });
});

describe('VirtioGpu', () => {
  it('accepts a request longer than its struct', () => {
    using rig = new GpuRig();
    const long = new Uint8Array(70_000);
    long.set(request.create2d(1, 64, 64));
    expect(rig.type(long)).toBe(VIRTIO_GPU_RESP.OK_NODATA);
  });

  it('answers queries for capability sets it does not have with zeroes', () => {
    using rig = new GpuRig();
    const info = rig.ask(
      virtio_gpu_get_capset_info.encode({ hdr: request.header(VIRTIO_GPU_CMD.GET_CAPSET_INFO), capset_index: 5 }),
    );
    expect(info).toEqual(new Uint8Array([...Uint8Array.of(0x02, 0x11), ...new Uint8Array(38)]));
    const capset = rig.ask(
      virtio_gpu_get_capset.encode({
        hdr: request.header(VIRTIO_GPU_CMD.GET_CAPSET),
        capset_id: 77,
        capset_version: 1,
      }),
    );
    expect(capset).toEqual(new Uint8Array([...Uint8Array.of(0x03, 0x11), ...new Uint8Array(22)]));
  });

  it('accepts entries that overlap, and shows their page twice', () => {
    using rig = new GpuRig();
    rig.type(request.create2d(1, 1024, 2));
    rig.at(HEAP, PAGE).fill(0x5a);
    expect(
      rig.type(
        request.attach(1, [
          { addr: HEAP, length: PAGE },
          { addr: HEAP, length: PAGE },
        ]),
      ),
    ).toBe(VIRTIO_GPU_RESP.OK_NODATA);
    rig.type(request.setScanout(0, 1, 0, 0, 1024, 2));
    rig.sink.readsPixels = true;
    rig.send(request.flush(1, 0, 0, 1024, 2));
    expect(rig.sink.pictures[0]).toEqual(new Uint8Array(8192).fill(0x5a));
  });

  it('does not run a control command that leaves no room for its response', () => {
    using rig = new GpuRig();
    const written = [0, 23].map((space) => rig.answer(rig.send(request.create2d(1, 64, 64), space))?.written);
    expect(written).toEqual([0, 0]);
    expect(rig.gpu.stats).toMatchObject({ resources: 0, errors: 2 });
  });

  it('answers with an error when there is no room for the body', () => {
    using rig = new GpuRig();
    const response = rig.ask(request.only(VIRTIO_GPU_CMD.GET_DISPLAY_INFO), 407);
    expect(response).toHaveLength(virtio_gpu_ctrl_hdr.size);
    expect(new DataView(response.buffer).getUint32(0, true)).toBe(ERR_INVALID_PARAMETER);
  });

  it('logs one line for each kind of error, whatever their number', () => {
    using rig = new GpuRig();
    for (let id = 1; id < 300; id++) rig.send(request.unref(id));
    expect(rig.log).toHaveLength(1);
    for (let type = 0x1000; type < 0x1300; type++) rig.send(request.only(type));
    expect(rig.log.length).toBeLessThanOrEqual(100);
  });
});

describe('VirtioGpu: on a ring that is always full', () => {
  it.each([0, 1])('queue %d goes on once in the next turn, however often it is kicked', (index) => {
    const gpu = new VirtioGpu();
    const chain = { readable: 0, writable: 0, read: () => 0, write: () => 0 } as Partial<Chain> as Chain;
    const queue: Partial<Virtqueue> = {
      size: 4,
      pop: () => chain,
      hasNext: () => true,
      watch: () => true,
      push: () => undefined,
    };
    gpu.queueStarted(index, queue as Virtqueue);
    using scheduled = vi.spyOn(globalThis, 'setImmediate').mockReturnValue({} as NodeJS.Immediate);
    for (let i = 0; i < 5; i++) gpu.kicked(index);
    expect(scheduled).toHaveBeenCalledTimes(1);
  });
});

describe('VirtioGpu: on a ring that throws', () => {
  it.each([0, 1])('queue %d reports the error to the transport', (index) => {
    const gpu = new VirtioGpu();
    const failed = vi.fn();
    gpu.attached({ configChanged: () => true, failed });
    const error = new RangeError('thrown on purpose');
    const pop = (): never => {
      throw error;
    };
    gpu.queueStarted(index, { size: 4, pop } as Partial<Virtqueue> as Virtqueue);
    gpu.kicked(index);
    expect(failed).toHaveBeenCalledWith(error);
  });
});

describe('VirtioGpu: on a hostile ring', () => {
  it.each<[string, (rig: GpuRig) => void]>([
    ['a descriptor loop', (rig) => rig.drivers[0]!.setDescriptor(0, HEAP, 24, 1, 0)],
    ['a descriptor of zero length', (rig) => rig.drivers[0]!.setDescriptor(0, HEAP, 0, 0, 0)],
    ['a descriptor outside memory', (rig) => rig.drivers[0]!.setDescriptor(0, 16, 24, 0, 0)],
  ])('%s breaks the queue, and only that', (_name, prepare) => {
    using rig = populated();
    const { resources } = rig.gpu.stats;
    prepare(rig);
    rig.drivers[0]!.publish(0);
    rig.kick();
    expect(rig.broken).toHaveLength(1);
    expect(rig.gpu.stats.resources).toBe(resources);
    expect(rig.type(request.moveCursor(0, 5, 5), 1)).toBe(VIRTIO_GPU_RESP.OK_NODATA);
  });
});
