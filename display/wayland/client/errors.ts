import { ScanoutError } from '../../../src/sys/errors.ts';

/**
 * `connect`: there is no compositor where we looked. Why a connection ended: `closed`, by our own
 * dispose; `gone`, the compositor hung up; `stalled`, it stopped reading; `system`, a system call
 * failed (`cause`). `destroyed`: an object was used after its end.
 */
export class WaylandError extends ScanoutError<'connect' | 'closed' | 'gone' | 'stalled' | 'system' | 'destroyed'> {}

/** A request the bound version of its interface does not have: check `object.version` first. */
export class WaylandVersionError extends ScanoutError<'version'> {
  readonly interface: string;
  readonly request: string;
  readonly needed: number;
  readonly bound: number;

  constructor(interfaceName: string, request: string, needed: number, bound: number) {
    super('version', `${interfaceName}.${request} came with version ${needed}; this object has version ${bound}`);
    this.interface = interfaceName;
    this.request = request;
    this.needed = needed;
    this.bound = bound;
  }
}

/** About which object, and what of it, a protocol error is. Null where the wire does not tell. */
export interface ProtocolErrorDetails {
  readonly interface: string | null;
  readonly objectId: number;
  /** Of the interface's error enum. */
  readonly errorCode?: number;
  readonly errorName?: string | null;
  /** The request sent to that object last. */
  readonly request?: string | null;
}

/**
 * The connection ended because one side broke the protocol: `refused`, we did, says the
 * compositor (wl_display.error); `malformed`, what it sent cannot be read.
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

/** Inside the client: the message being read is not what the protocol says. */
export class Malformed extends Error {}
