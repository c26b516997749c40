import { group } from '../../protocols/grp.ts';
import { getgrgid, getgrnam, strlen, viewOf } from './libc.ts';

/** The number of a group; null if there is none of that name. Asks whatever the system keeps groups in, as getgrnam(3) does. */
export function groupId(name: string): number | null {
  const entry = getgrnam(name);
  return entry === 0 ? null : group.field.gr_gid.get(new DataView(viewOf(entry, group.size)), 0);
}

/** The name of a group; null if it has none. */
export function groupName(id: number): string | null {
  const entry = getgrgid(id);
  if (entry === 0) return null;
  const name = group.field.gr_name.get(new DataView(viewOf(entry, group.size)), 0);
  return Buffer.from(viewOf(name, strlen(name))).toString();
}
