import { beforeAll, describe, expect, test } from 'vitest';
import * as asmIoctls from '../../../protocols/asm-ioctls.ts';
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
import * as libinput from '../../../protocols/libinput.ts';
import * as libseat from '../../../protocols/libseat.ts';
import * as grp from '../../../protocols/grp.ts';
import * as linuxAio from '../../../protocols/linux-aio.ts';
import { ERRNO } from '../../../protocols/linux-errno.ts';
import * as linuxEpoll from '../../../protocols/linux-epoll.ts';
import * as linuxKd from '../../../protocols/linux-kd.ts';
import * as linuxPoll from '../../../protocols/linux-poll.ts';
import * as linuxLandlock from '../../../protocols/linux-landlock.ts';
import * as linuxPrctl from '../../../protocols/linux-prctl.ts';
import * as linuxSeccomp from '../../../protocols/linux-seccomp.ts';
import * as linuxSocket from '../../../protocols/linux-socket.ts';
import { CLONE_THREAD, NR_GENERIC, NR_X86_64, RWF_NOWAIT } from '../../../protocols/linux-syscall.ts';
import { VT_ACTIVATE } from '../../../protocols/linux-vt.ts';
import * as syncFile from '../../../protocols/sync-file.ts';
import * as udmabuf from '../../../protocols/udmabuf.ts';
import * as vdAgent from '../../../protocols/vd-agent.ts';
import * as vfio from '../../../protocols/vfio.ts';
import * as vhostUser from '../../../protocols/vhost-user.ts';
import * as virtioGpu from '../../../protocols/virtio-gpu.ts';
import * as virtioInput from '../../../protocols/virtio-input.ts';
import { PIXMAN_FORMAT, pixman_box32, pixman_region32 } from '../../../protocols/pixman.ts';
import * as ring from '../../../protocols/virtio-ring.ts';
import * as uinput from '../../rig/uinput.ts';
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
      ...numbersOf(inputCodes, /^(SYN_|KEY_|INPUT_|BUS_|EVIOCS)/),
    },
  },
  { headers: ['linux/uinput.h'], structs: structsOf(uinput), constants: numbersOf(uinput, /^UI_/) },
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
    headers: ['pixman.h'],
    cflags: ['-I/usr/include/pixman-1'],
    structs: [pixman_box32, pixman_region32],
    constants: prefixed('PIXMAN_', PIXMAN_FORMAT),
  },
  {
    headers: ['spice/vd_agent.h'],
    cflags: ['-I/usr/include/spice-1'],
    structs: structsOf(vdAgent),
    constants: {
      ...prefixed('VD_AGENT_', vdAgent.VD_AGENT),
      ...prefixed('VD_AGENT_CAP_', vdAgent.VD_AGENT_CAP),
      ...prefixed('VD_AGENT_CLIPBOARD_', vdAgent.VD_AGENT_CLIPBOARD),
      ...numbersOf(vdAgent, /^(VDP_|VD_AGENT_(?!SELECTION_SIZE))/),
    },
  },
  { headers: ['linux/vfio.h'], structs: structsOf(vfio), constants: numbersOf(vfio, /^VFIO_/) },
  {
    headers: ['linux/dma-buf.h'],
    structs: structsOf(dmaBuf),
    constants: numbersOf(dmaBuf, /^DMA_BUF_/),
    newer: [
      'DMA_BUF_IOCTL_EXPORT_SYNC_FILE',
      'struct dma_buf_export_sync_file',
      'DMA_BUF_IOCTL_IMPORT_SYNC_FILE',
      'struct dma_buf_import_sync_file',
    ],
  },
  { headers: ['linux/sync_file.h'], structs: structsOf(syncFile), constants: numbersOf(syncFile, /^SYNC_/) },
  {
    headers: ['fcntl.h', 'libdrm/drm.h', 'libdrm/drm_mode.h'],
    cflags: ['-I/usr/include/libdrm'],
    structs: [...structsOf(drm), ...structsOf(drmMode)],
    constants: { ...numbersOf(drm, /^DRM_/), ...numbersOf(drmMode, /^DRM_(?!PLANE_TYPE_)/) },
    newer: [
      'DRM_IOCTL_SYNCOBJ_EVENTFD',
      'struct drm_syncobj_eventfd',
      'DRM_IOCTL_MODE_CLOSEFB',
      'struct drm_mode_closefb',
    ],
  },
  { headers: ['linux/aio_abi.h'], structs: structsOf(linuxAio), constants: numbersOf(linuxAio, /^IOCB_/) },
  { headers: ['linux/fs.h'], constants: { RWF_NOWAIT } },
  { headers: ['sys/epoll.h'], constants: numbersOf(linuxEpoll, /^EPOLL(?!_EVENT_SIZE)/) },
  { headers: ['errno.h'], constants: ERRNO },
  { headers: ['grp.h'], structs: structsOf(grp) },
  { headers: ['poll.h'], structs: structsOf(linuxPoll), constants: numbersOf(linuxPoll, /^POLL/) },
  {
    headers: ['sys/socket.h', 'sys/un.h', 'sys/uio.h', 'linux/netlink.h'],
    // For struct ucred.
    cflags: ['-D_GNU_SOURCE'],
    structs: structsOf(linuxSocket),
    // SCM_MAX_FD is in no header that programs can include.
    constants: numbersOf(linuxSocket, /^(AF|SOCK|SO|SOL|SCM|MSG)_(?!MAX_FD)/),
  },
  {
    headers: ['linux/seccomp.h', 'linux/filter.h', 'linux/audit.h'],
    structs: structsOf(linuxSeccomp),
    constants: numbersOf(linuxSeccomp, /^(SECCOMP|AUDIT|BPF)_/),
  },
  {
    headers: ['linux/landlock.h'],
    structs: structsOf(linuxLandlock),
    constants: numbersOf(linuxLandlock, /^LANDLOCK_/),
    newer: [
      'struct landlock_ruleset_attr.handled_access_net',
      'struct landlock_ruleset_attr.scoped',
      'struct landlock_net_port_attr',
      'LANDLOCK_ACCESS_FS_TRUNCATE',
      'LANDLOCK_ACCESS_FS_IOCTL_DEV',
      'LANDLOCK_RULE_NET_PORT',
      'LANDLOCK_ACCESS_NET_BIND_TCP',
      'LANDLOCK_ACCESS_NET_CONNECT_TCP',
      'LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET',
      'LANDLOCK_SCOPE_SIGNAL',
    ],
  },
  { headers: ['linux/kd.h'], constants: numbersOf(linuxKd, /^K/) },
  { headers: ['linux/vt.h'], constants: { VT_ACTIVATE } },
  { headers: ['linux/prctl.h'], constants: numbersOf(linuxPrctl, /^PR_/) },
  { headers: ['asm/termbits.h', 'asm/ioctls.h'], structs: structsOf(asmIoctls), constants: numbersOf(asmIoctls, /./) },
  { headers: ['linux/sched.h'], constants: { CLONE_THREAD } },
  ...(process.arch === 'x64'
    ? [{ headers: ['asm/unistd_64.h'], constants: prefixed<number>('__NR_', NR_X86_64) }]
    : []),
  {
    // What arm64's asm/unistd.h defines before it includes the generic list.
    headers: ['asm-generic/unistd.h'],
    cflags: ['NEW_STAT', 'SET_GET_RLIMIT', 'SYS_CLONE3'].map((name) => `-D__ARCH_WANT_${name}`),
    constants: prefixed<number>('__NR_', NR_GENERIC),
  },
  { headers: ['libinput.h'], structs: structsOf(libinput), constants: numbersOf(libinput, /^LIBINPUT_/) },
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
