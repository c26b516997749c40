import { SysError } from '../sys/errors.ts';
import type { OwnedFd } from '../sys/fd.ts';
import { connectUnix, socketPair } from '../sys/socket.ts';
import { KeyboardController } from './keyboard-controller.ts';
import { Qmp, QmpError } from './qmp.ts';

/** QEMU greets a client of its QMP socket at once, unless another has it. */
const QMP_MS = 5000;
/** The name by which QEMU keeps the descriptor between two commands. */
const FD_NAME = 'scanout-bridge-dbus';
/** As `QMP_MS`, while a key waits. */
const QMP_FOR_KEYS_MS = 1000;
/** The QMP socket is left to other programs when no key has come for this long. */
const IDLE_MS = 1000;
/** One that another program has is not asked again for this long. */
const BUSY_MS = 30_000;

/**
 * The `connect` of `QemuDbusGuest` for a QEMU with `-display dbus,p2p=yes` and a QMP socket at `path`, which is used for a
 * moment only. Rejects with SysError ENOENT or ECONNREFUSED if there is no QEMU, and with QmpError.
 */
export function dbusByQmp(path: string): () => Promise<OwnedFd> {
  return async () => {
    using qmp = await Qmp.open(connectUnix(path), { timeoutMs: QMP_MS });
    return await passDisplaySocket(qmp);
  };
}

/**
 * The `keysRead` of `QemuDbusGuest` for a QEMU with a QMP socket at `path`, which is used until no key has come for a
 * second. Without QMP, because there is no QEMU or another program has the socket, it does not wait.
 */
export function keysReadByQmp(path: string): () => Promise<void> {
  let open: Promise<Qmp> | null = null;
  let closing: NodeJS.Timeout | undefined;
  let askAgainMs = -Infinity;
  const keyboard = new KeyboardController(() => (open ??= Qmp.open(connectUnix(path), { timeoutMs: QMP_FOR_KEYS_MS })));
  const close = (): void => {
    void open?.then((qmp) => qmp[Symbol.dispose]()).catch(() => undefined);
    open = null;
  };
  const keysRead = async (): Promise<void> => {
    if (performance.now() < askAgainMs) return;
    clearTimeout(closing);
    const isKept = open !== null;
    try {
      await keyboard.emptied();
      closing = setTimeout(close, IDLE_MS).unref();
    } catch (error) {
      if (!(error instanceof QmpError || error instanceof SysError)) throw error;
      close();
      // The connection was that of a QEMU that is gone; there may be another one.
      if (isKept) return keysRead();
      askAgainMs = performance.now() + BUSY_MS;
    }
  };
  return keysRead;
}

/** Hands QEMU one end of a new socket as a client of its D-Bus display, and resolves with the other. Rejects with QmpError. */
export async function passDisplaySocket(qmp: Qmp): Promise<OwnedFd> {
  const [ours, theirs] = socketPair();
  using passed = theirs;
  try {
    await qmp.command('getfd', { fdname: FD_NAME }, [passed]);
    await qmp.command('add_client', { protocol: '@dbus-display', fdname: FD_NAME });
    return ours;
  } catch (error) {
    ours[Symbol.dispose]();
    throw error;
  }
}
