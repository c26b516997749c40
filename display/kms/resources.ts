import {
  CONNECTOR_STATUS_CONNECTED,
  CONNECTOR_TYPE_NAMES,
  DRM_IOCTL_MODE_GETCONNECTOR,
  DRM_IOCTL_MODE_GETENCODER,
  DRM_IOCTL_MODE_GETPLANE,
  DRM_IOCTL_MODE_GETPLANERESOURCES,
  DRM_IOCTL_MODE_GETRESOURCES,
  drm_mode_card_res,
  drm_mode_get_connector,
  drm_mode_get_encoder,
  drm_mode_get_plane,
  drm_mode_get_plane_res,
  drm_mode_modeinfo,
  DRM_MODE_OBJECT_CONNECTOR,
  DRM_MODE_OBJECT_CRTC,
  DRM_MODE_OBJECT_PLANE,
} from '../../protocols/drm-mode.ts';
import type { FormatSet } from '../../src/core/framebuffer.ts';
import type { Monitor } from '../../src/core/monitor.ts';
import type { KmsDevice } from './device.ts';
import type { ConnectorId, CrtcId, PlaneId } from './ids.ts';
import { type Mode, readMode } from './mode.ts';
import { planeFormats } from './plane-formats.ts';
import { Properties, readBlob } from './properties.ts';
import { queryLists, u32List } from './query.ts';

/** What turns a picture into a signal. `mask` is its bit in the others' `possibleCrtcs`. */
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

/** Whether the same monitor is plugged in, or still none. */
export function sameConnector(a: Connector, b: Connector): boolean {
  const bytes = ({ edid, modes }: Connector): Uint8Array[] => [edid ?? new Uint8Array(0), ...modes.map(({ info }) => info)];
  return a.isConnected === b.isConnected && a.modes.length === b.modes.length && Buffer.compare(Buffer.concat(bytes(a)), Buffer.concat(bytes(b))) === 0;
}

/** The monitor plugged in, shown in one of its modes. */
export function monitorOf({ name, widthMm, heightMm, edid }: Connector, { width, height, refreshMhz }: Mode): Monitor {
  return { name, width, height, refreshMhz, widthMm, heightMm, ...(edid && { edid }) };
}

/** What lays one framebuffer into the picture. `type` is DRM_PLANE_TYPE_*. */
export interface Plane {
  readonly id: PlaneId;
  readonly type: number;
  readonly possibleCrtcs: number;
  readonly formats: FormatSet;
  readonly properties: Properties;
}

export interface Resources {
  readonly crtcs: readonly Crtc[];
  readonly connectors: readonly Connector[];
  readonly planes: readonly Plane[];
}

/** Everything the device has. Asks the monitors anew, which takes the time of reading their EDIDs. */
export function readResources(device: KmsDevice): Resources {
  const { lists } = queryLists(device.fd, DRM_IOCTL_MODE_GETRESOURCES, 'DRM_IOCTL_MODE_GETRESOURCES', drm_mode_card_res, {}, [
    { pointer: 'crtc_id_ptr', count: 'count_crtcs', elementSize: 4 },
    { pointer: 'connector_id_ptr', count: 'count_connectors', elementSize: 4 },
    { pointer: 'encoder_id_ptr', count: 'count_encoders', elementSize: 4 },
  ]);
  const [crtcs, connectors, encoders] = lists.map(u32List) as [number[], number[], number[]];
  const encoderCrtcs = new Map(encoders.map((id) => [id, readPossibleCrtcs(device, id)]));
  return {
    crtcs: crtcs.map((id, index) => ({ id: id as CrtcId, mask: 1 << index, properties: Properties.read(device, id, DRM_MODE_OBJECT_CRTC) })),
    connectors: connectors.map((id) => readConnector(device, id, encoderCrtcs)),
    planes: readPlanes(device),
  };
}

function readPossibleCrtcs(device: KmsDevice, encoder: number): number {
  const argument = drm_mode_get_encoder.encode({ encoder_id: encoder });
  device.ioctl(DRM_IOCTL_MODE_GETENCODER, 'DRM_IOCTL_MODE_GETENCODER', argument);
  return drm_mode_get_encoder.decode(argument).possible_crtcs;
}

function readConnector(device: KmsDevice, id: number, encoderCrtcs: ReadonlyMap<number, number>): Connector {
  const { value, lists } = queryLists(device.fd, DRM_IOCTL_MODE_GETCONNECTOR, 'DRM_IOCTL_MODE_GETCONNECTOR', drm_mode_get_connector, { connector_id: id }, [
    { pointer: 'encoders_ptr', count: 'count_encoders', elementSize: 4 },
    { pointer: 'modes_ptr', count: 'count_modes', elementSize: drm_mode_modeinfo.size },
  ]);
  const modes = lists[1]!;
  const properties = Properties.read(device, id, DRM_MODE_OBJECT_CONNECTOR);
  return {
    id: id as ConnectorId,
    name: `${CONNECTOR_TYPE_NAMES[value.connector_type] ?? 'Unknown'}-${value.connector_type_id}`,
    isConnected: value.connection === CONNECTOR_STATUS_CONNECTED,
    modes: Array.from({ length: value.count_modes }, (_, i) => readMode(modes.slice(i * drm_mode_modeinfo.size, (i + 1) * drm_mode_modeinfo.size))),
    possibleCrtcs: u32List(lists[0]!).reduce((mask, encoder) => mask | (encoderCrtcs.get(encoder) ?? 0), 0),
    widthMm: value.mm_width,
    heightMm: value.mm_height,
    edid: readBlob(device, properties.value('EDID')),
    properties,
  };
}

function readPlanes(device: KmsDevice): Plane[] {
  const { lists } = queryLists(device.fd, DRM_IOCTL_MODE_GETPLANERESOURCES, 'DRM_IOCTL_MODE_GETPLANERESOURCES', drm_mode_get_plane_res, {}, [
    { pointer: 'plane_id_ptr', count: 'count_planes', elementSize: 4 },
  ]);
  return u32List(lists[0]!).map((id) => {
    const plane = queryLists(device.fd, DRM_IOCTL_MODE_GETPLANE, 'DRM_IOCTL_MODE_GETPLANE', drm_mode_get_plane, { plane_id: id }, [
      { pointer: 'format_type_ptr', count: 'count_format_types', elementSize: 4 },
    ]);
    const properties = Properties.read(device, id, DRM_MODE_OBJECT_PLANE);
    return {
      id: id as PlaneId,
      type: properties.value('type'),
      possibleCrtcs: plane.value.possible_crtcs,
      formats: planeFormats(u32List(plane.lists[0]!), readBlob(device, properties.value('IN_FORMATS'))),
      properties,
    };
  });
}
