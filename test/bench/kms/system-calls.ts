import { ownSystemCalls } from '../../rig/system-calls.ts';

export interface SystemCalls {
  readonly atomic: number;
  readonly otherIoctls: number;
  readonly others: number;
}

/** The system calls of all threads of this process while `run` runs, as strace sees them. */
export async function systemCalls(run: () => Promise<void>): Promise<SystemCalls> {
  const calls = await ownSystemCalls(run);
  const ioctls = calls.filter((call) => call.startsWith('ioctl('));
  const atomic = ioctls.filter((call) => call.includes('DRM_IOCTL_MODE_ATOMIC')).length;
  return { atomic, otherIoctls: ioctls.length - atomic, others: calls.length - ioctls.length };
}
