import {
  DRM_IOCTL_MODE_CREATEPROPBLOB,
  DRM_IOCTL_MODE_DESTROYPROPBLOB,
  DRM_IOCTL_MODE_GETPROPBLOB,
  DRM_IOCTL_MODE_GETPROPERTY,
  DRM_IOCTL_MODE_OBJ_GETPROPERTIES,
  drm_mode_create_blob,
  drm_mode_destroy_blob,
  drm_mode_get_blob,
  drm_mode_get_property,
  drm_mode_obj_get_properties,
} from '../../protocols/drm-mode.ts';
import { NativeBuffer } from '../../src/sys/native-buffer.ts';
import type { KmsDevice } from './device.ts';
import type { BlobId, PropertyId } from './ids.ts';
import { queryLists, u32List } from './query.ts';

/** C's idea of a text: up to the first zero. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString('latin1');
}

/** The properties of one object (CRTC, connector, plane), names looked up once, values as of reading. */
export class Properties {
  readonly #byName: ReadonlyMap<string, { readonly id: PropertyId; readonly value: bigint }>;

  private constructor(byName: ReadonlyMap<string, { id: PropertyId; value: bigint }>) {
    this.#byName = byName;
  }

  static read(device: KmsDevice, objectId: number, objectType: number): Properties {
    const { lists } = queryLists(
      device.fd, DRM_IOCTL_MODE_OBJ_GETPROPERTIES, 'DRM_IOCTL_MODE_OBJ_GETPROPERTIES', drm_mode_obj_get_properties,
      { obj_id: objectId, obj_type: objectType },
      [{ pointer: 'props_ptr', count: 'count_props', elementSize: 4 }, { pointer: 'prop_values_ptr', count: 'count_props', elementSize: 8 }],
    );
    const values = new DataView(lists[1]!.buffer);
    return new Properties(new Map(u32List(lists[0]!).map((id, i) => [propertyName(device, id), { id: id as PropertyId, value: values.getBigUint64(i * 8, true) }])));
  }

  /** 0: the object has no such property. */
  id(name: string): PropertyId {
    return this.#byName.get(name)?.id ?? (0 as PropertyId);
  }

  /** Signed, as positions are; 0 for one it does not have. */
  value(name: string): number {
    return Number(BigInt.asIntN(64, this.#byName.get(name)?.value ?? 0n));
  }
}

function propertyName(device: KmsDevice, id: number): string {
  const argument = drm_mode_get_property.encode({ prop_id: id });
  device.ioctl(DRM_IOCTL_MODE_GETPROPERTY, 'DRM_IOCTL_MODE_GETPROPERTY', argument);
  return textOf(drm_mode_get_property.decode(argument).name);
}

/** The bytes of a blob property; null for blob 0, which is none. */
export function readBlob(device: KmsDevice, id: number): Uint8Array | null {
  if (id === 0) return null;
  const { lists } = queryLists(
    device.fd, DRM_IOCTL_MODE_GETPROPBLOB, 'DRM_IOCTL_MODE_GETPROPBLOB', drm_mode_get_blob,
    { blob_id: id }, [{ pointer: 'data', count: 'length', elementSize: 1 }],
  );
  return lists[0]!;
}

/** The kernel copies the bytes. Once no commit will name it again the blob may be destroyed: states keep it alive. */
export function createBlob(device: KmsDevice, bytes: Uint8Array): BlobId {
  using copy = NativeBuffer.allocate(bytes.length);
  copy.bytes.set(bytes);
  const argument = drm_mode_create_blob.encode({ data: copy.address, length: bytes.length });
  device.ioctl(DRM_IOCTL_MODE_CREATEPROPBLOB, 'DRM_IOCTL_MODE_CREATEPROPBLOB', argument);
  return drm_mode_create_blob.decode(argument).blob_id as BlobId;
}

export function destroyBlob(device: KmsDevice, id: BlobId): void {
  device.ioctl(DRM_IOCTL_MODE_DESTROYPROPBLOB, 'DRM_IOCTL_MODE_DESTROYPROPBLOB', drm_mode_destroy_blob.encode({ blob_id: id }));
}
