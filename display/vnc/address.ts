import { BlockList, isIP } from 'node:net';

/** Where viewers connect: a Unix socket, or TCP at an address of this machine. */
export type VncAddress = { readonly path: string } | { readonly host: string; readonly port: number };

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

const MAX_PORT = 65_535;

/** Parses `127.0.0.1:5900`, `[::1]:5900`, `localhost:5900` or the path of a socket, which has a slash. Null for anything else. */
export function parseVncAddress(text: string): VncAddress | null {
  if (text.includes('/')) return text.includes('\0') ? null : { path: text };
  const [, six, other = '', port = ''] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = other === 'localhost' ? '127.0.0.1' : (six ?? other);
  if (isIP(host) !== (six === undefined ? 4 : 6) || Number(port) < 1 || Number(port) > MAX_PORT) return null;
  return { host, port: Number(port) };
}

/** Whether only this machine can connect. */
export function isLocal(address: VncAddress): boolean {
  return 'path' in address || loopback.check(address.host, isIP(address.host) === 6 ? 'ipv6' : 'ipv4');
}

export function formatVncAddress(address: VncAddress): string {
  if ('path' in address) return address.path;
  const { host, port } = address;
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
