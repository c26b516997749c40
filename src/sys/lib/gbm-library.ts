/**
 * The functions of libgbm.so.1; internal to gbm.ts. Structs and out-parameters are byte arrays that
 * the callee reads or writes in place. A failure is 0 for a pointer and negative for an int, with
 * `errno()` set.
 */
import koffi from 'koffi';
import type { Fourcc, Modifier } from '../../../protocols/drm-fourcc.ts';

/* Addresses of C objects; 0 is none. */
export type GbmDevicePointer = number & { readonly __brand: 'gbm_device *' };
export type GbmBoPointer = number & { readonly __brand: 'gbm_bo *' };
/** Passed unchanged from gbm_bo_map to gbm_bo_unmap. */
export type GbmMapData = number & { readonly __brand: 'gbm map_data' };

type PlaneCount = (device: GbmDevicePointer, format: Fourcc, modifier: Modifier) => number;
type CreateWithModifiers2 = (
  device: GbmDevicePointer,
  width: number,
  height: number,
  format: Fourcc,
  modifiers: Uint8Array,
  count: number,
  usage: number,
) => GbmBoPointer;
type FdForPlane = (bo: GbmBoPointer, plane: number) => number;

export interface GbmLibrary {
  readonly createDevice: (fd: number) => GbmDevicePointer;
  readonly destroyDevice: (device: GbmDevicePointer) => void;
  readonly backendName: (device: GbmDevicePointer) => string;
  readonly isFormatSupported: (device: GbmDevicePointer, format: Fourcc, usage: number) => number;
  readonly create: (
    device: GbmDevicePointer,
    width: number,
    height: number,
    format: Fourcc,
    usage: number,
  ) => GbmBoPointer;
  readonly import: (device: GbmDevicePointer, type: number, data: Uint8Array, usage: number) => GbmBoPointer;
  readonly destroy: (bo: GbmBoPointer) => void;
  readonly width: (bo: GbmBoPointer) => number;
  readonly height: (bo: GbmBoPointer) => number;
  readonly format: (bo: GbmBoPointer) => number;
  readonly modifier: (bo: GbmBoPointer) => number | bigint;
  readonly planeCount: (bo: GbmBoPointer) => number;
  readonly offset: (bo: GbmBoPointer, plane: number) => number;
  readonly stride: (bo: GbmBoPointer, plane: number) => number;
  readonly handle: (bo: GbmBoPointer, plane: number) => number;
  readonly fd: (bo: GbmBoPointer) => number;
  readonly map: (
    bo: GbmBoPointer,
    x: number,
    y: number,
    width: number,
    height: number,
    flags: number,
    stride: Uint8Array,
    mapData: Uint8Array,
  ) => number;
  readonly unmap: (bo: GbmBoPointer, mapData: GbmMapData) => void;
  /** A buffer to scan out. */
  readonly createWithModifiers: (
    device: GbmDevicePointer,
    width: number,
    height: number,
    format: Fourcc,
    modifiers: Uint8Array,
    count: number,
  ) => GbmBoPointer;
  /* Null if the library is too old: the latter two came with Mesa 21, and Debian 11 is older. */
  readonly modifierPlaneCount: PlaneCount | null;
  readonly createWithModifiers2: CreateWithModifiers2 | null;
  readonly fdForPlane: FdForPlane | null;
}

/** Throws if the library, or a function that is not optional, is missing. */
function bindLibrary(): GbmLibrary {
  const library = koffi.load('libgbm.so.1');
  const bind = (name: string, result: string, parameters: string[]): unknown => library.func(name, result, parameters);
  const optional = (name: string, result: string, parameters: string[]): unknown => {
    try {
      return bind(name, result, parameters);
    } catch {
      return null;
    }
  };
  const ofBo = ['uintptr_t'];
  const ofPlane = ['uintptr_t', 'int'];
  return {
    createDevice: bind('gbm_create_device', 'uintptr_t', ['int']),
    destroyDevice: bind('gbm_device_destroy', 'void', ['uintptr_t']),
    backendName: bind('gbm_device_get_backend_name', 'str', ['uintptr_t']),
    isFormatSupported: bind('gbm_device_is_format_supported', 'int', ['uintptr_t', 'uint32_t', 'uint32_t']),
    create: bind('gbm_bo_create', 'uintptr_t', ['uintptr_t', 'uint32_t', 'uint32_t', 'uint32_t', 'uint32_t']),
    import: bind('gbm_bo_import', 'uintptr_t', ['uintptr_t', 'uint32_t', 'void *', 'uint32_t']),
    destroy: bind('gbm_bo_destroy', 'void', ofBo),
    width: bind('gbm_bo_get_width', 'uint32_t', ofBo),
    height: bind('gbm_bo_get_height', 'uint32_t', ofBo),
    format: bind('gbm_bo_get_format', 'uint32_t', ofBo),
    modifier: bind('gbm_bo_get_modifier', 'uint64_t', ofBo),
    planeCount: bind('gbm_bo_get_plane_count', 'int', ofBo),
    offset: bind('gbm_bo_get_offset', 'uint32_t', ofPlane),
    stride: bind('gbm_bo_get_stride_for_plane', 'uint32_t', ofPlane),
    // Returns a 64-bit union in a register; the handle is its lower half.
    handle: bind('gbm_bo_get_handle_for_plane', 'int32_t', ofPlane),
    fd: bind('gbm_bo_get_fd', 'int', ofBo),
    map: bind('gbm_bo_map', 'uintptr_t', [
      'uintptr_t',
      'uint32_t',
      'uint32_t',
      'uint32_t',
      'uint32_t',
      'uint32_t',
      'void *',
      'void *',
    ]),
    unmap: bind('gbm_bo_unmap', 'void', ['uintptr_t', 'uintptr_t']),
    modifierPlaneCount: optional('gbm_device_get_format_modifier_plane_count', 'int', [
      'uintptr_t',
      'uint32_t',
      'uint64_t',
    ]),
    createWithModifiers: bind('gbm_bo_create_with_modifiers', 'uintptr_t', [
      'uintptr_t',
      'uint32_t',
      'uint32_t',
      'uint32_t',
      'void *',
      'uint',
    ]),
    createWithModifiers2: optional('gbm_bo_create_with_modifiers2', 'uintptr_t', [
      'uintptr_t',
      'uint32_t',
      'uint32_t',
      'uint32_t',
      'void *',
      'uint',
      'uint32_t',
    ]),
    fdForPlane: optional('gbm_bo_get_fd_for_plane', 'int', ofPlane),
  } as GbmLibrary;
}

let loaded: GbmLibrary | Error | undefined;

/** The library, loaded once, or the reason why it cannot be loaded. */
export function loadGbm(): GbmLibrary | Error {
  if (loaded === undefined) {
    try {
      loaded = bindLibrary();
    } catch (error) {
      loaded = error as Error;
    }
  }
  return loaded;
}
