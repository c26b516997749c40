import { ScanoutError } from '../../../src/sys/errors.ts';

/**
 * Codes: `connect`, no compositor could be reached. As a close reason: `closed`, the display was disposed; `gone`, the
 * compositor hung up; `stalled`, it stopped reading, or confirming that objects are destroyed; `system`, a system call
 * failed (see `cause`); `listener`, the listener of an event threw (its `cause`). Thrown by requests: `destroyed`, the object was destroyed before; `closed`, the connection has ended (its reason is the `cause`).
 */
export class WaylandError extends ScanoutError<
  'connect' | 'closed' | 'gone' | 'stalled' | 'system' | 'listener' | 'destroyed'
> {}

/** Thrown by a request that the bound version of the interface does not have: check `object.version` before. */
export class WaylandVersionError extends ScanoutError<'version'> {
  readonly interface: string;
  readonly request: string;
  /** The version that added the request. */
  readonly needed: number;
  /** The version of the object. */
  readonly bound: number;

  constructor(interfaceName: string, request: string, needed: number, bound: number) {
    super('version', `${interfaceName}.${request} needs version ${needed}, but this object has version ${bound}`);
    this.interface = interfaceName;
    this.request = request;
    this.needed = needed;
    this.bound = bound;
  }
}

/** What a protocol error is about; null where the wire does not say. */
export interface ProtocolErrorDetails {
  readonly interface: string | null;
  readonly objectId: number;
  /** A value of the interface's error enum, and its name. */
  readonly errorCode?: number;
  readonly errorName?: string | null;
  /** The last request that was sent to the object. */
  readonly request?: string | null;
}

/**
 * The connection ended because one side broke the protocol. `refused`: this client did, according to the compositor
 * (wl_display.error). `malformed`: the compositor did, by an event that cannot be read.
 */
export class WaylandProtocolError extends ScanoutError<'refused' | 'malformed'> {
  readonly interface: string | null;
  readonly objectId: number;
  readonly errorCode: number | null;
  readonly errorName: string | null;
  readonly request: string | null;

  constructor(code: 'refused' | 'malformed', message: string, details: ProtocolErrorDetails) {
    super(code, message);
    this.interface = details.interface;
    this.objectId = details.objectId;
    this.errorCode = details.errorCode ?? null;
    this.errorName = details.errorName ?? null;
    this.request = details.request ?? null;
  }
}

/** Why a connection ended. */
export type WaylandCloseReason = WaylandError | WaylandProtocolError;

/** Text of a compositor for people: control characters are escaped, because it must not control their terminal. */
export function escaped(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** Thrown inside the client while an event is read that breaks the protocol; completes "malformed event x: ...". */
export class Malformed extends Error {}
