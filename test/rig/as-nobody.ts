const NOBODY = 65534;

/** Runs this process as the user `nobody`, without privileges, until dispose; `group` is a group id. */
export function asNobody(group = NOBODY): Disposable {
  process.setegid!(group);
  process.seteuid!(NOBODY);
  return {
    [Symbol.dispose]() {
      process.seteuid!(0);
      process.setegid!(0);
    },
  };
}
