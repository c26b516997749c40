/** One thing of this machine looked at. `todo` says how to get it where it is missing. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly todo?: string;
}
