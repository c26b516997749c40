import { isAbsolute, join } from 'node:path';
import { OwnedFd } from '../../../src/sys/fd.ts';
import { connectUnix } from '../../../src/sys/socket.ts';
import { WaylandError } from './errors.ts';

/**
 * A socket to the compositor: at `name`, a path or a name below XDG_RUNTIME_DIR. Without one as
 * the environment says: WAYLAND_SOCKET, a connected socket we inherited, which is taken out of
 * `env`; WAYLAND_DISPLAY; `wayland-0`. WaylandError `connect`.
 */
export function openSocket(name: string | undefined, env: NodeJS.ProcessEnv): OwnedFd {
  if (name === undefined && env.WAYLAND_SOCKET !== undefined) return inheritSocket(env);
  const path = socketPath(name, env);
  try {
    return connectUnix(path);
  } catch (error) {
    throw new WaylandError('connect', `no Wayland compositor at ${path}: ${String(error)}`, { cause: error });
  }
}

function inheritSocket(env: NodeJS.ProcessEnv): OwnedFd {
  const value = env.WAYLAND_SOCKET!;
  // Whoever comes next, a child for one, must not take it again.
  delete env.WAYLAND_SOCKET;
  try {
    if (!/^\d+$/.test(value)) throw new RangeError('not a number');
    return OwnedFd.inherit(Number(value));
  } catch (error) {
    throw new WaylandError('connect', `WAYLAND_SOCKET=${value} is no open file descriptor: ${String(error)}`, { cause: error });
  }
}

function socketPath(name: string | undefined, env: NodeJS.ProcessEnv): string {
  const display = name ?? (env.WAYLAND_DISPLAY || 'wayland-0');
  if (isAbsolute(display)) return display;
  const directory = env.XDG_RUNTIME_DIR ?? '';
  if (!isAbsolute(directory)) {
    const is = directory === '' ? 'is not set' : `is no absolute path (${directory})`;
    throw new WaylandError('connect', `no Wayland compositor: ${display} is looked for in XDG_RUNTIME_DIR, which ${is}; set it, or give the socket's full path`);
  }
  return join(directory, display);
}
