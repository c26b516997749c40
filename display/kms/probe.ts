import { constants, openSync } from 'node:fs';
import {
  DRM_CAP_PRIME,
  DRM_CLIENT_CAP_ATOMIC,
  DRM_IOCTL_DROP_MASTER,
  DRM_IOCTL_SET_CLIENT_CAP,
  DRM_PRIME_CAP_IMPORT,
  drm_set_client_cap,
} from '../../protocols/drm.ts';
import { SysError } from '../../src/sys/errors.ts';
import { OwnedFd } from '../../src/sys/fd.ts';
import { ioctl } from '../../src/sys/ioctl.ts';
import { capability, driverName } from './device.ts';

/** What a card can do. */
export interface CardAbilities {
  readonly driver: string;
  readonly isAtomic: boolean;
  readonly importsDmabufs: boolean;
  /** Nobody is DRM master. */
  readonly isFree: boolean;
}

/** Asks a card without disturbing whoever shows something on it. Throws as `openSync` does. */
export function probeCard(path: string): CardAbilities {
  using fd = OwnedFd.adopt(openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  // Whoever opens a card that has no master becomes it (drm_auth.c). Giving that up comes before
  // all else, so that nobody is kept from it, and fails if there was a master already.
  const isFree = succeeds(() => ioctl(fd, DRM_IOCTL_DROP_MASTER, 'DRM_IOCTL_DROP_MASTER', 0));
  const atomic = drm_set_client_cap.encode({ capability: DRM_CLIENT_CAP_ATOMIC, value: 1 });
  return {
    driver: driverName(fd),
    isAtomic: succeeds(() => ioctl(fd, DRM_IOCTL_SET_CLIENT_CAP, 'DRM_IOCTL_SET_CLIENT_CAP', atomic)),
    importsDmabufs: (capability(fd, DRM_CAP_PRIME) & DRM_PRIME_CAP_IMPORT) !== 0,
    isFree,
  };
}

function succeeds(attempt: () => void): boolean {
  try {
    attempt();
    return true;
  } catch (error) {
    if (error instanceof SysError) return false;
    throw error;
  }
}
