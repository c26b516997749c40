import { UsageError } from '../core/errors.ts';
import type { InputKind } from '../guest/vhost-user/input.ts';
import { type GuestSpec, parseSocket } from './guest-spec.ts';

/** A device of the guest, and where the VMM that wants it comes from. */
export interface InputSpec {
  readonly kind: InputKind;
  readonly from: GuestSpec;
}

export const INPUT_FORMS =
  'vhost-user:SOCKET (keyboard and pointer; vhost-user:/tmp/input.sock) or vhost-user:SOCKET,kind=touch (touchscreen); fd=N instead of SOCKET is an inherited one';

/** Throws UsageError. */
export function parseInputSpec(text: string): InputSpec {
  const [, socket, kind = 'keyboard-pointer'] = /^vhost-user:(?!,kind=)(.+?)(?:,kind=([^,/]*))?$/s.exec(text) ?? [];
  if (socket === undefined || !isKind(kind)) throw new UsageError(`--input: cannot use '${text}'; write ${INPUT_FORMS}`);
  return { kind, from: parseSocket('--input', socket, INPUT_FORMS) };
}

/** UsageError unless each device is there at most once. */
export function parseInputSpecs(texts: readonly string[]): readonly InputSpec[] {
  const specs = texts.map(parseInputSpec);
  if (new Set(specs.map(({ kind }) => kind)).size < specs.length) throw new UsageError('--input: a guest has one keyboard and pointer, and one touchscreen');
  return specs;
}

function isKind(text: string): text is InputKind {
  return text === 'keyboard-pointer' || text === 'touch';
}
