import { UsageError } from '../core/errors.ts';

/** What `--output` asks for. `dmabuf`: the VMM draws with GL, so it can take pictures without a copy. */
export type OutputSpec =
  | { readonly kind: 'headless'; readonly width: number; readonly height: number; readonly refreshMhz: number }
  | { readonly kind: 'vmm'; readonly dmabuf: boolean };

export const OUTPUT_FORMS = "headless:WIDTHxHEIGHT[@HZ] (headless:1280x800@60), vmm (the VMM's own display) or vmm:dmabuf (the same, if it draws with GL)";

/** Checks the form only; whether a size is possible is for the output to say. Throws UsageError. */
export function parseOutputSpec(text: string): OutputSpec {
  if (text === 'vmm' || text === 'vmm:dmabuf') return { kind: 'vmm', dmabuf: text === 'vmm:dmabuf' };
  const match = /^headless:(\d{1,5})x(\d{1,5})(?:@(\d{1,4}(?:\.\d{1,3})?))?$/.exec(text);
  if (!match) throw new UsageError(`--output: cannot use '${text}'; write ${OUTPUT_FORMS}`);
  return { kind: 'headless', width: Number(match[1]), height: Number(match[2]), refreshMhz: Math.round(Number(match[3] ?? 60) * 1000) };
}
