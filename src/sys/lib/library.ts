/** System libraries that may not be installed. */
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

/** What dlopen(3) says while descriptors or memory are short. */
const SHORTAGE = /Too many open files|Cannot allocate memory|cannot map|failed to map/;

/**
 * Calls `bind` when the library is first asked for and returns its result from then on; null if it
 * threw, because the library or one of its functions is missing. It is tried again if descriptors or
 * memory were short.
 */
export function optionalLibrary<Library>(bind: () => Library): () => Library | null {
  let loaded: Library | null | undefined;
  return () => {
    if (loaded === undefined) {
      try {
        loaded = bind();
      } catch (error) {
        if (SHORTAGE.test(String(error))) return null;
        loaded = null;
      }
    }
    return loaded;
  };
}
