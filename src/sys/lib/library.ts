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

/**
 * Calls `bind` when the library is first asked for and returns its result from then on; null if it
 * threw, because the library or one of its functions is missing.
 */
export function optionalLibrary<Library>(bind: () => Library): () => Library | null {
  let loaded: Library | null | undefined;
  return () => {
    if (loaded === undefined) {
      try {
        loaded = bind();
      } catch {
        loaded = null;
      }
    }
    return loaded;
  };
}
