import { afterEach, beforeEach, expect } from 'vitest';
import { mappingCount, openFds } from '../../rig/process-resources.ts';

/** Checks that every test of the file ends with the descriptors and mappings it began with. */
export function expectNoLeaks(): void {
  let fds: Map<number, string>;
  let mappings: number;
  beforeEach(() => {
    fds = openFds();
    mappings = mappingCount();
  });
  afterEach(() => {
    expect(openFds()).toEqual(fds);
    expect(mappingCount()).toBe(mappings);
  });
}
