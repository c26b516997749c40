import {
  DRM_FORMAT_MOD_INVALID,
  DRM_FORMAT_MOD_LINEAR,
  type Fourcc,
  type Modifier,
} from '../../protocols/drm-fourcc.ts';
import {
  CONNECTOR_STATUS_CONNECTED,
  CONNECTOR_TYPE_NAMES,
  drm_format_modifier,
  drm_format_modifier_blob,
  DRM_IOCTL_MODE_CREATEPROPBLOB,
  DRM_IOCTL_MODE_DESTROYPROPBLOB,
  DRM_IOCTL_MODE_GETCONNECTOR,
  DRM_IOCTL_MODE_GETENCODER,
  DRM_IOCTL_MODE_GETPLANE,
  DRM_IOCTL_MODE_GETPLANERESOURCES,
  DRM_IOCTL_MODE_GETPROPBLOB,
  DRM_IOCTL_MODE_GETPROPERTY,
  DRM_IOCTL_MODE_GETRESOURCES,
  DRM_IOCTL_MODE_OBJ_GETPROPERTIES,
  drm_mode_card_res,
  drm_mode_create_blob,
  drm_mode_destroy_blob,
  DRM_MODE_FLAG_DBLSCAN,
  DRM_MODE_FLAG_INTERLACE,
  drm_mode_get_blob,
  drm_mode_get_connector,
  drm_mode_get_encoder,
  drm_mode_get_plane,
  drm_mode_get_plane_res,
  drm_mode_get_property,
  drm_mode_modeinfo,
  drm_mode_obj_get_properties,
  DRM_MODE_OBJECT_CONNECTOR,
  DRM_MODE_OBJECT_CRTC,
  DRM_MODE_OBJECT_PLANE,
  DRM_MODE_TYPE_PREFERRED,
  drm_plane_size_hint,
  DRM_PLANE_TYPE_CURSOR,
  DRM_PLANE_TYPE_OVERLAY,
  DRM_PLANE_TYPE_PRIMARY,
} from '../../protocols/drm-mode.ts';
import type { ValueOf } from '../../protocols/layout.ts';
import { FormatSet } from '../../src/core/framebuffer.ts';
import type { Size } from '../../src/core/geometry.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import { tryIoctlBytes } from '../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import { type KmsDevice, queryLists, u32List } from './device.ts';
import type { BlobId, ConnectorId, CrtcId, PlaneId, PropertyId } from './ids.ts';

/** A timing a connector offers. */
export interface Mode {
  readonly width: number;
  readonly height: number;
  /** Vertical refresh in millihertz. */
  readonly refreshMhz: number;
  readonly isPreferred: boolean;
  /** struct drm_mode_modeinfo, as read from the kernel. */
  readonly info: Uint8Array;
}

/** A mode that the user asked for; with any refresh rate if `refreshMhz` is absent. */
export interface WantedMode {
  readonly width: number;
  readonly height: number;
  readonly refreshMhz?: number;
}

/** Monitors report 59.94 Hz where people say 60. */
const REFRESH_TOLERANCE_MHZ = 1000;

export function readMode(info: Uint8Array): Mode {
  const m = drm_mode_modeinfo.decode(info);
  return {
    width: m.hdisplay,
    height: m.vdisplay,
    refreshMhz: refresh(m),
    isPreferred: (m.type & DRM_MODE_TYPE_PREFERRED) !== 0,
    info,
  };
}

function refresh(m: ValueOf<typeof drm_mode_modeinfo>): number {
  let millihertz = (m.clock * 1_000_000) / (m.htotal * m.vtotal);
  if ((m.flags & DRM_MODE_FLAG_INTERLACE) !== 0) millihertz *= 2;
  if ((m.flags & DRM_MODE_FLAG_DBLSCAN) !== 0) millihertz /= 2;
  if (m.vscan > 1) millihertz /= m.vscan;
  return Math.round(millihertz);
}

/**
 * The modes to try, best first: those that match `wanted`, nearest refresh rate first; or, without
 * a wish, the monitor's preferred one, then larger and faster ones first.
 */
export function rankModes(modes: readonly Mode[], wanted: WantedMode | null): Mode[] {
  if (!wanted) {
    return modes.toSorted(
      (a, b) =>
        Number(b.isPreferred) - Number(a.isPreferred) ||
        b.width * b.height - a.width * a.height ||
        b.refreshMhz - a.refreshMhz,
    );
  }
  const { refreshMhz } = wanted;
  const fitting = modes.filter((m) => m.width === wanted.width && m.height === wanted.height);
  if (refreshMhz === undefined) return fitting.toSorted((a, b) => b.refreshMhz - a.refreshMhz);
  const distance = (m: Mode): number => Math.abs(m.refreshMhz - refreshMhz);
  return fitting.filter((m) => distance(m) <= REFRESH_TOLERANCE_MHZ).toSorted((a, b) => distance(a) - distance(b));
}

/** `1920x1080@59.94` */
export function describeMode({ width, height, refreshMhz }: WantedMode): string {
  return `${width}x${height}${refreshMhz === undefined ? '' : `@${Number((refreshMhz / 1000).toFixed(2))}`}`;
}

/**
 * What a plane scans out: its IN_FORMATS blob, or without one every listed format, linear. Buffers
 * without a modifier are accepted, too, with the layout that the driver assumes.
 */
export function planeFormats(listed: readonly number[], inFormats: Uint8Array | null): FormatSet {
  const pairs: (readonly [Fourcc, Modifier])[] = inFormats
    ? readInFormats(inFormats)
    : listed.map((format) => [format as Fourcc, DRM_FORMAT_MOD_LINEAR]);
  return new FormatSet([...pairs, ...listed.map((format) => [format as Fourcc, DRM_FORMAT_MOD_INVALID] as const)]);
}

function readInFormats(blob: Uint8Array): (readonly [Fourcc, Modifier])[] {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const head = drm_format_modifier_blob.get(view, 0);
  const pairs: (readonly [Fourcc, Modifier])[] = [];
  for (let m = 0; m < head.count_modifiers; m++) {
    const { formats, offset, modifier } = drm_format_modifier.get(
      view,
      head.modifiers_offset + m * drm_format_modifier.size,
    );
    for (let bit = 0; bit < 64 && offset + bit < head.count_formats; bit++) {
      if (((formats >> BigInt(bit)) & 1n) === 0n) continue;
      pairs.push([view.getUint32(head.formats_offset + (offset + bit) * 4, true) as Fourcc, modifier as Modifier]);
    }
  }
  return pairs;
}

/** Of the blob SIZE_HINTS. */
export function readSizeHints(blob: Uint8Array | null): Size[] {
  if (!blob) return [];
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const count = Math.floor(blob.length / drm_plane_size_hint.size);
  return Array.from({ length: count }, (_, i) => drm_plane_size_hint.get(view, i * drm_plane_size_hint.size));
}

/** A C string: up to the first zero. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('latin1');
}

/** The properties of one object (CRTC, connector, plane). Names are looked up once; values are as of reading. */
export class Properties {
  readonly #byName: ReadonlyMap<string, { readonly id: PropertyId; readonly value: bigint }>;

  private constructor(byName: ReadonlyMap<string, { id: PropertyId; value: bigint }>) {
    this.#byName = byName;
  }

  static read(device: KmsDevice, objectId: number, objectType: number): Properties {
    const { lists } = queryLists(
      device.fd,
      DRM_IOCTL_MODE_OBJ_GETPROPERTIES,
      'DRM_IOCTL_MODE_OBJ_GETPROPERTIES',
      drm_mode_obj_get_properties,
      { obj_id: objectId, obj_type: objectType },
      [
        { pointer: 'props_ptr', count: 'count_props', elementSize: 4 },
        { pointer: 'prop_values_ptr', count: 'count_props', elementSize: 8 },
      ],
    );
    const values = new DataView(lists[1]!.buffer);
    return new Properties(
      new Map(
        u32List(lists[0]!).map((id, i) => [
          propertyName(device, id),
          { id: id as PropertyId, value: values.getBigUint64(i * 8, true) },
        ]),
      ),
    );
  }

  /** 0 if the object has no such property. */
  id(name: string): PropertyId {
    return this.#byName.get(name)?.id ?? (0 as PropertyId);
  }

  /** The value as a signed number, because positions are; 0 if the object has no such property. */
  value(name: string): number {
    return Number(BigInt.asIntN(64, this.#byName.get(name)?.value ?? 0n));
  }
}

function propertyName(device: KmsDevice, id: number): string {
  const argument = drm_mode_get_property.encode({ prop_id: id });
  device.ioctl(DRM_IOCTL_MODE_GETPROPERTY, 'DRM_IOCTL_MODE_GETPROPERTY', argument);
  return textOf(drm_mode_get_property.decode(argument).name);
}

/** The bytes of a blob; null for blob 0, which means none. */
export function readBlob(device: KmsDevice, id: number): Uint8Array | null {
  if (id === 0) return null;
  const { lists } = queryLists(
    device.fd,
    DRM_IOCTL_MODE_GETPROPBLOB,
    'DRM_IOCTL_MODE_GETPROPBLOB',
    drm_mode_get_blob,
    { blob_id: id },
    [{ pointer: 'data', count: 'length', elementSize: 1 }],
  );
  return lists[0]!;
}

/** The kernel copies the bytes. The blob may be destroyed once no commit will name it again: states keep it alive. */
export function createBlob(device: KmsDevice, bytes: Uint8Array): BlobId {
  using copy = NativeBuffer.allocate(bytes.length);
  copy.bytes.set(bytes);
  const argument = drm_mode_create_blob.encode({ data: copy.address, length: bytes.length });
  device.ioctl(DRM_IOCTL_MODE_CREATEPROPBLOB, 'DRM_IOCTL_MODE_CREATEPROPBLOB', argument);
  return drm_mode_create_blob.decode(argument).blob_id as BlobId;
}

export function destroyBlob(device: KmsDevice, id: BlobId): void {
  tryIoctlBytes(device.fd, DRM_IOCTL_MODE_DESTROYPROPBLOB, drm_mode_destroy_blob.encode({ blob_id: id }));
}

/** Sends a picture to a connector. `mask` is its bit in `possibleCrtcs` of planes and connectors. */
export interface Crtc {
  readonly id: CrtcId;
  readonly mask: number;
  readonly properties: Properties;
}

/** Where a monitor is plugged in. */
export interface Connector {
  readonly id: ConnectorId;
  /** `HDMI-A-1` */
  readonly name: string;
  readonly isConnected: boolean;
  readonly modes: readonly Mode[];
  readonly possibleCrtcs: number;
  readonly widthMm: number;
  readonly heightMm: number;
  readonly edid: Uint8Array | null;
  readonly properties: Properties;
}

/** Whether the same monitor is plugged in, or none in both. */
export function sameConnector(a: Connector, b: Connector): boolean {
  const bytes = ({ edid, modes }: Connector): Uint8Array[] => [
    edid ?? new Uint8Array(0),
    ...modes.map(({ info }) => info),
  ];
  return (
    a.isConnected === b.isConnected &&
    a.modes.length === b.modes.length &&
    Buffer.compare(Buffer.concat(bytes(a)), Buffer.concat(bytes(b))) === 0
  );
}

/** The monitor that is plugged in, in one of its modes. */
export function monitorOf({ name, widthMm, heightMm, edid }: Connector, { width, height, refreshMhz }: Mode): Monitor {
  return { name, width, height, refreshMhz, widthMm, heightMm, ...(edid && { edid }) };
}

/** Shows one framebuffer on a CRTC. `type` is DRM_PLANE_TYPE_*. */
export interface Plane {
  readonly id: PlaneId;
  readonly type: number;
  readonly possibleCrtcs: number;
  readonly formats: FormatSet;
  /** Of a cursor plane: the sizes that it takes, the driver's favourite first; empty if the driver does not say. */
  readonly sizeHints: readonly Size[];
  readonly properties: Properties;
}

export interface Resources {
  readonly crtcs: readonly Crtc[];
  readonly connectors: readonly Connector[];
  /** They write to memory what a CRTC shows, and never have a monitor. */
  readonly writebacks: readonly Connector[];
  readonly planes: readonly Plane[];
}

/** Everything that the device has. Probes the monitors, which takes as long as reading their EDIDs. */
export function readResources(device: KmsDevice): Resources {
  const { lists } = queryLists(
    device.fd,
    DRM_IOCTL_MODE_GETRESOURCES,
    'DRM_IOCTL_MODE_GETRESOURCES',
    drm_mode_card_res,
    {},
    [
      { pointer: 'crtc_id_ptr', count: 'count_crtcs', elementSize: 4 },
      { pointer: 'connector_id_ptr', count: 'count_connectors', elementSize: 4 },
      { pointer: 'encoder_id_ptr', count: 'count_encoders', elementSize: 4 },
    ],
  );
  const [crtcs, connectors, encoders] = lists.map(u32List) as [number[], number[], number[]];
  const encoderCrtcs = new Map(encoders.map((id) => [id, readPossibleCrtcs(device, id)]));
  const all = connectors.map((id) => readConnector(device, id, encoderCrtcs));
  const isWriteback = ({ name }: Connector): boolean => name.startsWith('Writeback-');
  return {
    crtcs: crtcs.map((id, index) => ({
      id: id as CrtcId,
      mask: 1 << index,
      properties: Properties.read(device, id, DRM_MODE_OBJECT_CRTC),
    })),
    connectors: all.filter((connector) => !isWriteback(connector)),
    writebacks: all.filter(isWriteback),
    planes: readPlanes(device),
  };
}

function readPossibleCrtcs(device: KmsDevice, encoder: number): number {
  const argument = drm_mode_get_encoder.encode({ encoder_id: encoder });
  device.ioctl(DRM_IOCTL_MODE_GETENCODER, 'DRM_IOCTL_MODE_GETENCODER', argument);
  return drm_mode_get_encoder.decode(argument).possible_crtcs;
}

function readConnector(device: KmsDevice, id: number, encoderCrtcs: ReadonlyMap<number, number>): Connector {
  const { value, lists } = queryLists(
    device.fd,
    DRM_IOCTL_MODE_GETCONNECTOR,
    'DRM_IOCTL_MODE_GETCONNECTOR',
    drm_mode_get_connector,
    { connector_id: id },
    [
      { pointer: 'encoders_ptr', count: 'count_encoders', elementSize: 4 },
      { pointer: 'modes_ptr', count: 'count_modes', elementSize: drm_mode_modeinfo.size },
    ],
  );
  const modes = lists[1]!;
  const properties = Properties.read(device, id, DRM_MODE_OBJECT_CONNECTOR);
  return {
    id: id as ConnectorId,
    name: `${CONNECTOR_TYPE_NAMES[value.connector_type] ?? 'Unknown'}-${value.connector_type_id}`,
    isConnected: value.connection === CONNECTOR_STATUS_CONNECTED,
    modes: Array.from({ length: value.count_modes }, (_, i) =>
      readMode(modes.slice(i * drm_mode_modeinfo.size, (i + 1) * drm_mode_modeinfo.size)),
    ),
    possibleCrtcs: u32List(lists[0]!).reduce((mask, encoder) => mask | (encoderCrtcs.get(encoder) ?? 0), 0),
    widthMm: value.mm_width,
    heightMm: value.mm_height,
    edid: readBlob(device, properties.value('EDID')),
    properties,
  };
}

function readPlanes(device: KmsDevice): Plane[] {
  const { lists } = queryLists(
    device.fd,
    DRM_IOCTL_MODE_GETPLANERESOURCES,
    'DRM_IOCTL_MODE_GETPLANERESOURCES',
    drm_mode_get_plane_res,
    {},
    [{ pointer: 'plane_id_ptr', count: 'count_planes', elementSize: 4 }],
  );
  return u32List(lists[0]!).map((id) => {
    const plane = queryLists(
      device.fd,
      DRM_IOCTL_MODE_GETPLANE,
      'DRM_IOCTL_MODE_GETPLANE',
      drm_mode_get_plane,
      { plane_id: id },
      [{ pointer: 'format_type_ptr', count: 'count_format_types', elementSize: 4 }],
    );
    const properties = Properties.read(device, id, DRM_MODE_OBJECT_PLANE);
    return {
      id: id as PlaneId,
      type: properties.value('type'),
      possibleCrtcs: plane.value.possible_crtcs,
      formats: planeFormats(u32List(plane.lists[0]!), readBlob(device, properties.value('IN_FORMATS'))),
      sizeHints: readSizeHints(readBlob(device, properties.value('SIZE_HINTS'))),
      properties,
    };
  });
}

/** The parts of a card that drive one monitor. */
export interface Pipe {
  readonly connector: Connector;
  readonly crtc: Crtc;
  readonly primary: Plane;
  readonly cursor: Plane | null;
  /** Above the primary plane, as far as the driver reports it. */
  readonly overlay: Plane | null;
}

/**
 * Assigns a CRTC and planes to each connector, out of those that `taken` leaves. Connectors for which
 * there are none are left out. A connector keeps the CRTC that drives it if possible, which saves a
 * modeset, and moves to another one if a later connector has no choice (augmenting paths of
 * bipartite matching).
 */
export function assignPipes(
  resources: Resources,
  connectors: readonly Connector[],
  taken: readonly Pipe[] = [],
): Pipe[] {
  const used = new Set<number | undefined>(
    taken.flatMap(({ crtc, primary, cursor, overlay }) => [crtc.id, primary.id, cursor?.id, overlay?.id]),
  );
  const crtcs = resources.crtcs.filter(({ id }) => !used.has(id));
  const owner = new Map<Crtc, Connector>();
  for (const connector of connectors) claim(connector, crtcs, owner, new Set());
  const free = new Set(resources.planes.filter(({ id }) => !used.has(id)));
  const pipes: Pipe[] = [];
  for (const [crtc, connector] of owner) {
    const primary = takePlane(free, crtc, DRM_PLANE_TYPE_PRIMARY);
    if (!primary) continue;
    const isAbove = ({ properties }: Plane): boolean =>
      properties.id('zpos') === 0 || properties.value('zpos') > primary.properties.value('zpos');
    pipes.push({
      connector,
      crtc,
      primary,
      cursor: takePlane(free, crtc, DRM_PLANE_TYPE_CURSOR),
      overlay: takePlane(free, crtc, DRM_PLANE_TYPE_OVERLAY, isAbove),
    });
  }
  return pipes.toSorted((a, b) => connectors.indexOf(a.connector) - connectors.indexOf(b.connector));
}

function claim(connector: Connector, crtcs: readonly Crtc[], owner: Map<Crtc, Connector>, asked: Set<Crtc>): boolean {
  const current = connector.properties.value('CRTC_ID');
  const possible = crtcs
    .filter(({ mask }) => (connector.possibleCrtcs & mask) !== 0)
    .toSorted((a, b) => Number(b.id === current) - Number(a.id === current));
  for (const crtc of possible) {
    if (asked.has(crtc)) continue;
    asked.add(crtc);
    const before = owner.get(crtc);
    if (before && !claim(before, crtcs, owner, asked)) continue;
    owner.set(crtc, connector);
    return true;
  }
  return false;
}

/** Prefers the plane that is on this CRTC now. */
function takePlane(
  free: Set<Plane>,
  crtc: Crtc,
  type: number,
  isFit: (plane: Plane) => boolean = () => true,
): Plane | null {
  const fitting = [...free].filter(
    (plane) => plane.type === type && (plane.possibleCrtcs & crtc.mask) !== 0 && isFit(plane),
  );
  const plane = fitting.find(({ properties }) => properties.value('CRTC_ID') === crtc.id) ?? fitting[0] ?? null;
  if (plane) free.delete(plane);
  return plane;
}
