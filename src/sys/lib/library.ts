import koffi from 'koffi';

/** Whether this machine has a shared library, by its soname. It stays loaded. */
export function hasLibrary(soname: string): boolean {
  try {
    koffi.load(soname);
    return true;
  } catch {
    return false;
  }
}
