import { constants, openSync } from 'node:fs';
import { DRM_IOCTL_SET_MASTER } from '../../protocols/drm.ts';
import { type BorrowedFd, OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { KmsError } from './errors.ts';

/** What a seat tells those who opened cards on it. */
export interface SeatListener {
  /** The cards are about to be somebody else's (another virtual terminal): after this returns, no ioctl on them that needs mastership. */
  paused(): void;
  /** The cards are ours again, in whatever state the others left them. */
  resumed(): void;
}

/** An open /dev/dri/card* whose master this process is while its seat is active. Dispose gives it back and closes it. */
export interface Card extends Disposable {
  readonly fd: BorrowedFd;
}

/** Who hands out the screens of this machine. Dispose after the cards. */
export interface Seat extends Disposable {
  /** For logs: `none`, or the name libseat gives, for example `seat0`. */
  readonly name: string;
  readonly isActive: boolean;
  /** Non-blocking. KmsError `card-missing`, `card-forbidden`, `not-master`. */
  openCard(path: string): Card;
  /** Tells `listener` from now on, beside those told already. */
  listen(listener: SeatListener): void;
}

/** No seat at all: the process opens the node and becomes DRM master by itself, and nobody asks it to make way. */
export class PlainSeat implements Seat {
  readonly name = 'none';
  readonly isActive = true;

  openCard(path: string): Card {
    const fd = openNode(path);
    try {
      ioctl(fd, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    } catch (cause) {
      fd[Symbol.dispose]();
      throw new KmsError('not-master', `${path} is in use: stop the display server that has it, or switch to a free virtual terminal (${String(cause)})`, { cause });
    }
    // With the last descriptor mastership ends, and the kernel shows its console again.
    return { fd, [Symbol.dispose]: () => fd[Symbol.dispose]() };
  }

  listen(): void {
    // It has nothing to tell.
  }

  [Symbol.dispose](): void {
    // Nothing of its own.
  }
}

function openNode(path: string): OwnedFd {
  try {
    return OwnedFd.adopt(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') {
      throw new KmsError('card-forbidden', `${path} may not be opened: join the group that owns it (usually video)`, { cause });
    }
    throw new KmsError('card-missing', `${path} cannot be opened: ${String(cause)}`, { cause });
  }
}
