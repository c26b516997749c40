import { afterEach, beforeEach, expect } from 'vitest';
import { mappingCount, openFds } from '../../rig/process-resources.ts';
import { eventually } from '../../rig/eventually.ts';

/** Checks that every test of the file ends with the descriptors and mappings it began with. */
export function expectNoLeaks(): void {
  let fds: Map<number, string>;
  let mappings: number;
  beforeEach(() => {
    fds = openFds();
    mappings = mappingCount();
  });
  afterEach(async () => {
    // Descriptors of files that a peer sent are closed in a thread.
    await eventually(() => expect(openFds()).toEqual(fds));
    expect(mappingCount()).toBe(mappings);
  });
}
