import { beforeAll, describe, expect, test } from 'vitest';
import * as dmaBuf from '../../../protocols/dma-buf.ts';
import * as drm from '../../../protocols/drm.ts';
import * as drmMode from '../../../protocols/drm-mode.ts';
import {
  DRM_FORMAT,
  DRM_FORMAT_BIG_ENDIAN,
  DRM_FORMAT_INVALID,
  DRM_FORMAT_MOD_VENDOR,
  NAMED_MODIFIERS,
} from '../../../protocols/drm-fourcc.ts';
import * as gbm from '../../../protocols/gbm.ts';
import * as inputCodes from '../../../protocols/input-event-codes.ts';
import { type Struct, iow, struct, u32 } from '../../../protocols/layout.ts';
import * as libseat from '../../../protocols/libseat.ts';
import * as linuxEpoll from '../../../protocols/linux-epoll.ts';
import * as linuxSocket from '../../../protocols/linux-socket.ts';
import * as syncFile from '../../../protocols/sync-file.ts';
import * as udmabuf from '../../../protocols/udmabuf.ts';
import * as vhostUser from '../../../protocols/vhost-user.ts';
import * as virtioGpu from '../../../protocols/virtio-gpu.ts';
import * as virtioInput from '../../../protocols/virtio-input.ts';
import * as ring from '../../../protocols/virtio-ring.ts';
import {
  type HeaderComparison,
  type HeaderRow,
  compareWithHeaders,
  evaluate,
  hasHeader,
  prefixed,
  preprocess,
  skipWithoutC,
} from '../../rig/c-headers.ts';

type AnyStruct = Struct<any>; // eslint-disable-line @typescript-eslint/no-explicit-any

function structsOf(module: Readonly<Record<string, unknown>>): AnyStruct[] {
  return Object.values(module).filter(
    (value): value is AnyStruct => typeof value === 'object' && value !== null && 'fields' in value,
  );
}

/** The exported numbers of a module whose names match. */
function numbersOf(module: Readonly<Record<string, unknown>>, names: RegExp): Record<string, number> {
  return Object.fromEntries(
    Object.entries(module).filter(
      (entry): entry is [string, number] => typeof entry[1] === 'number' && names.test(entry[0]),
    ),
  );
}

/** To check another header, add a row. */
const rows: HeaderRow[] = [
  {
    headers: ['linux/virtio_gpu.h'],
    structs: structsOf(virtioGpu),
    constants: {
      ...prefixed('VIRTIO_GPU_F_', virtioGpu.VIRTIO_GPU_F),
      ...prefixed('VIRTIO_GPU_CMD_', virtioGpu.VIRTIO_GPU_CMD),
      ...prefixed('VIRTIO_GPU_RESP_', virtioGpu.VIRTIO_GPU_RESP),
      ...prefixed('VIRTIO_GPU_FORMAT_', virtioGpu.VIRTIO_GPU_FORMAT),
      ...numbersOf(virtioGpu, /^VIRTIO_GPU_(?!CONFIG_BLOB)/),
    },
    newer: ['VIRTIO_GPU_F_BLOB_ALIGNMENT'],
  },
  {
    headers: ['linux/virtio_input.h'],
    structs: structsOf(virtioInput),
    constants: numbersOf(virtioInput, /^VIRTIO_INPUT_/),
  },
  {
    headers: ['linux/input.h'],
    constants: {
      ...prefixed('EV_', inputCodes.EV),
      ...prefixed('KEY_', inputCodes.KEY),
      ...prefixed('BTN_', inputCodes.BTN),
      ...prefixed('REL_', inputCodes.REL),
      ...prefixed('ABS_', inputCodes.ABS),
      ...prefixed('MT_TOOL_', inputCodes.MT_TOOL),
      ...prefixed('LED_', inputCodes.LED),
      ...numbersOf(inputCodes, /^(SYN|KEY|INPUT|BUS)_/),
    },
  },
  {
    headers: ['linux/virtio_ids.h', 'linux/virtio_config.h', 'linux/virtio_ring.h'],
    structs: structsOf(ring),
    constants: numbersOf(ring, /^(VIRTIO_|VRING_)/),
  },
  {
    headers: ['linux/vhost_types.h'],
    structs: [vhostUser.vhost_vring_state, vhostUser.vhost_vring_addr],
  },
  { headers: ['linux/udmabuf.h'], structs: structsOf(udmabuf), constants: numbersOf(udmabuf, /^UDMABUF_/) },
  {
    headers: ['linux/dma-buf.h'],
    structs: structsOf(dmaBuf),
    constants: numbersOf(dmaBuf, /^DMA_BUF_/),
    newer: ['DMA_BUF_IOCTL_EXPORT_SYNC_FILE', 'struct dma_buf_export_sync_file'],
  },
  { headers: ['linux/sync_file.h'], structs: structsOf(syncFile), constants: numbersOf(syncFile, /^SYNC_/) },
  {
    headers: ['fcntl.h', 'libdrm/drm.h', 'libdrm/drm_mode.h'],
    cflags: ['-I/usr/include/libdrm'],
    structs: [...structsOf(drm), ...structsOf(drmMode)],
    constants: { ...numbersOf(drm, /^DRM_/), ...numbersOf(drmMode, /^DRM_(?!PLANE_TYPE_)/) },
    newer: ['DRM_IOCTL_SYNCOBJ_EVENTFD', 'struct drm_syncobj_eventfd'],
  },
  { headers: ['sys/epoll.h'], constants: numbersOf(linuxEpoll, /^EPOLL(?!_EVENT_SIZE)/) },
  {
    headers: ['sys/socket.h', 'sys/un.h', 'sys/uio.h'],
    structs: structsOf(linuxSocket),
    // SCM_MAX_FD is in no header that programs can include.
    constants: numbersOf(linuxSocket, /^(AF|SOCK|SOL|SCM|MSG)_(?!MAX_FD)/),
  },
  { headers: ['libseat.h'], structs: structsOf(libseat) },
  { headers: ['gbm.h'], structs: structsOf(gbm), constants: numbersOf(gbm, /^GBM_/) },
];

const skip = skipWithoutC();

describe.skipIf(skip).each(rows)('protocols against $headers', (row) => {
  let comparison: HeaderComparison;

  beforeAll(() => {
    comparison = compareWithHeaders(row);
    for (const name of comparison.absent) console.info(`${row.headers.join(', ')}: no ${name} on this machine`);
  });

  test('sizes, offsets and numbers are equal', () => {
    expect(comparison.differences).toEqual([]);
    expect(comparison.compared).toBeGreaterThan(0);
  });

  test('every name exists, except those newer than the header', () => {
    expect(comparison.absent.filter((name) => !row.newer?.includes(name))).toEqual([]);
  });
});

/** linux-libc-dev has the kernel's copy, except on Debian; libdrm-dev has libdrm's. */
const fourccHeaders = ['drm/drm_fourcc.h', 'libdrm/drm_fourcc.h'].filter((header) =>
  hasHeader(header, ['-I/usr/include/libdrm']),
);

test.skipIf(skip)('protocols: a drm_fourcc.h is installed to compare with', () => {
  expect(fourccHeaders).not.toEqual([]);
});

describe.each(fourccHeaders)('drm-fourcc.ts against %s', (header) => {
  const cflags = ['-I/usr/include/libdrm'];
  /** Only macros without parameters: those with parameters make modifiers of fields. */
  const macros = [...preprocess([header], cflags).matchAll(/^#define (\w+) /gm)].map((match) => match[1]!);

  function valuesOf(names: string[]): Map<string, bigint> {
    const values = evaluate([header], names, cflags);
    return new Map(names.map((name, i) => [name, values[i]!]));
  }

  test('every DRM_FORMAT_* is equal', () => {
    const theirs = valuesOf(macros.filter((name) => /^DRM_FORMAT_(?!MOD_|RESERVED)/.test(name)));
    const ours = prefixed<number>('DRM_FORMAT_', {
      ...DRM_FORMAT,
      BIG_ENDIAN: DRM_FORMAT_BIG_ENDIAN,
      INVALID: DRM_FORMAT_INVALID,
    });
    expect(theirs.size).toBeGreaterThan(90);
    expect([...theirs].filter(([name, value]) => BigInt(ours[name] ?? -1) !== value)).toEqual([]);
  });

  test('every named modifier is equal', () => {
    const aliases = ['DRM_FORMAT_MOD_NONE', 'DRM_FORMAT_MOD_GENERIC_16_16_TILE'];
    const names = macros.filter(
      (name) => /^(I915|DRM)_FORMAT_MOD_(?!VENDOR_|ARM_TYPE_)/.test(name) && !aliases.includes(name),
    );
    const theirs = valuesOf(names);
    expect(theirs.size).toBeGreaterThan(30);
    expect([...theirs].filter(([name, value]) => NAMED_MODIFIERS.get(name) !== value)).toEqual([]);
  });

  test('every vendor is equal', () => {
    const theirs = valuesOf(macros.filter((name) => name.startsWith('DRM_FORMAT_MOD_VENDOR_')));
    const ours = prefixed<number>('DRM_FORMAT_MOD_VENDOR_', DRM_FORMAT_MOD_VENDOR);
    expect([...theirs].filter(([name, value]) => BigInt(ours[name] ?? -1) !== value)).toEqual([]);
  });
});

describe.skipIf(skip)('compareWithHeaders', () => {
  const headers = ['linux/udmabuf.h'];

  test('reports a wrong offset, a wrong size and a wrong number', () => {
    const udmabuf_create = struct('udmabuf_create', { memfd: u32, offset: u32 });
    const { differences } = compareWithHeaders({
      headers,
      structs: [udmabuf_create],
      constants: { UDMABUF_CREATE: iow('u', 0x42, udmabuf_create) },
    });
    expect(differences).toEqual([
      'sizeof(struct udmabuf_create): ours 8, header 24',
      'offsetof(struct udmabuf_create, offset): ours 4, header 8',
      'sizeof(((struct udmabuf_create *)0)->offset): ours 4, header 8',
      `UDMABUF_CREATE: ours ${iow('u', 0x42, { size: 8 })}, header ${iow('u', 0x42, { size: 24 })}`,
    ]);
  });

  test('reports a name that the header does not have', () => {
    expect(
      compareWithHeaders({
        headers,
        structs: [struct('udmabuf_nonsense', { a: u32 })],
        constants: { UDMABUF_NONSENSE: 1 },
      }).absent,
    ).toEqual(['struct udmabuf_nonsense', 'UDMABUF_NONSENSE']);
  });
});
