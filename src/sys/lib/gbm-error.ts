import { ScanoutError } from '../errors.ts';

export type GbmErrorCode =
  /** libgbm.so.1 is not installed. */
  | 'library-missing'
  /** No driver of libgbm takes the device. */
  | 'device-refused'
  /** No such buffer: format, size, usage or modifiers. */
  | 'buffer-refused'
  | 'import-refused'
  | 'export-refused'
  | 'map-refused';

/** libgbm cannot do what was asked. `cause` is a SysError with what it left in errno. */
export class GbmError extends ScanoutError<GbmErrorCode> {}
