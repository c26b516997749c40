/* Kernel modesetting identifies everything by a number; these types keep them apart. 0 means none. */
export type CrtcId = number & { readonly __brand: 'CrtcId' };
export type ConnectorId = number & { readonly __brand: 'ConnectorId' };
export type PlaneId = number & { readonly __brand: 'PlaneId' };
export type PropertyId = number & { readonly __brand: 'PropertyId' };
export type BlobId = number & { readonly __brand: 'BlobId' };
export type FbId = number & { readonly __brand: 'FbId' };
export type { GemHandle } from '../../src/sys/lib/gbm.ts';
