/** Filters of system calls: seccomp(2). */
import {
  AUDIT_ARCH_AARCH64,
  AUDIT_ARCH_X86_64,
  BPF_ABS,
  BPF_ALU,
  BPF_AND,
  BPF_JEQ,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_MAXINSNS,
  BPF_RET,
  BPF_W,
  SECCOMP_FILTER_FLAG_LOG,
  SECCOMP_FILTER_FLAG_TSYNC,
  SECCOMP_GET_ACTION_AVAIL,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SECCOMP_SET_MODE_FILTER,
  seccomp_data,
  sock_filter,
  sock_fprog,
} from '../../../protocols/linux-seccomp.ts';
import { NR_GENERIC, NR_X86_64, SYSCALL, type SystemCall } from '../../../protocols/linux-syscall.ts';
import { SysError } from '../errors.ts';
import { ERRNO } from '../../../protocols/linux-errno.ts';
import { errno, syscall } from '../libc.ts';
import { NativeBuffer } from '../native-buffer.ts';

/** What the kernel does with a call. */
export type Verdict = 'allow' | 'EPERM' | 'ENOSYS';

/** Holds if the low 32 bits of an argument, counted from 0, are one of `in` after `mask`. */
export interface Condition {
  readonly argument: number;
  readonly mask?: number;
  readonly in: readonly number[];
}

/** `verdict` is for the call if one of `when` holds; without `when` always. */
export interface Rule {
  readonly verdict: Verdict;
  readonly when?: readonly Condition[];
}

/** `otherwise` is for every call without a rule or whose conditions do not hold. */
export interface CallFilter {
  readonly rules: Readonly<Partial<Record<SystemCall, Rule>>>;
  readonly otherwise: Verdict;
}

interface Architecture {
  /** As in `seccomp_data.arch`. */
  readonly audit: number;
  readonly numbers: Readonly<Partial<Record<SystemCall, number>>>;
}

/** By the names that Node has for them. */
export const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  x64: { audit: AUDIT_ARCH_X86_64, numbers: NR_X86_64 },
  arm64: { audit: AUDIT_ARCH_AARCH64, numbers: NR_GENERIC },
};

const architecture = ARCHITECTURES[process.arch];

/** Why system calls cannot be filtered here; null if they can. */
export function noFilters(): string | null {
  if (architecture === undefined) return `there is no list of system calls for ${process.arch}`;
  using action = NativeBuffer.allocate(4);
  action.view.setUint32(0, SECCOMP_RET_ERRNO, true);
  if (syscall(SYSCALL.seccomp, SECCOMP_GET_ACTION_AVAIL, 0, action.address, 0) === 0) return null;
  return `the kernel has no seccomp filters (${SysError.fromErrno('seccomp', errno()).code})`;
}

/**
 * Filters the system calls of every thread of this process, and of every program it starts, from now on. Filters add
 * up: the strictest verdict counts. With `log` the kernel's log names each call that is refused. SysError EACCES
 * without no_new_privs; ESRCH if a thread cannot have the filter.
 */
export function filterCalls(filter: CallFilter, { log = false } = {}): void {
  const code = assemble(filter, architecture!);
  using program = NativeBuffer.allocate(code.length);
  program.bytes.set(code);
  using head = NativeBuffer.allocate(sock_fprog.size);
  head.bytes.set(sock_fprog.encode({ len: code.length / sock_filter.size, filter: program.address }));
  const flags = SECCOMP_FILTER_FLAG_TSYNC | (log ? SECCOMP_FILTER_FLAG_LOG : 0);
  const result = syscall(SYSCALL.seccomp, SECCOMP_SET_MODE_FILTER, flags, head.address, 0);
  if (result < 0) throw SysError.fromErrno('seccomp', errno());
  if (result > 0) throw new SysError('seccomp', 'ESRCH', `thread ${result} cannot be synchronized`);
}

const LOAD = BPF_LD | BPF_W | BPF_ABS;
const AND = BPF_ALU | BPF_AND | BPF_K;
const JUMP_IF_EQUAL = BPF_JMP | BPF_JEQ | BPF_K;
const RETURN = BPF_RET | BPF_K;

type Instruction = readonly [code: number, jt: number, jf: number, k: number];

/**
 * The filter as an array of `sock_filter`:
 *
 *     calls of another architecture  -> otherwise
 *     number of a rule               -> its block, which returns
 *     every other number             -> otherwise
 *
 * Calls with conditions are first: the kernel knows which calls are allowed whatever their arguments are, and does not
 * run the program for them.
 */
export function assemble({ rules, otherwise }: CallFilter, { audit, numbers }: Architecture): Uint8Array {
  const program: Instruction[] = [
    [LOAD, 0, 0, seccomp_data.offset.arch],
    [JUMP_IF_EQUAL, 1, 0, audit],
    [RETURN, 0, 0, returned(otherwise)],
    [LOAD, 0, 0, seccomp_data.offset.nr],
  ];
  const byNumber = Object.entries(rules).flatMap(([call, rule]) => {
    const number = numbers[call as SystemCall];
    return number === undefined ? [] : [{ number, ...rule }];
  });
  for (const { number, verdict, when } of byNumber.toSorted((a, b) => Number(!a.when) - Number(!b.when))) {
    const block: Instruction[] = [
      ...(when ?? []).flatMap((condition) => test(condition, verdict)),
      [RETURN, 0, 0, returned(when ? otherwise : verdict)],
    ];
    program.push([JUMP_IF_EQUAL, 0, block.length, number], ...block);
  }
  program.push([RETURN, 0, 0, returned(otherwise)]);
  if (program.length > BPF_MAXINSNS) throw new RangeError(`a filter of ${program.length} instructions`);
  const code = new Uint8Array(program.length * sock_filter.size);
  const view = new DataView(code.buffer);
  program.forEach(([code, jt, jf, k], index) => sock_filter.set(view, index * sock_filter.size, { code, jt, jf, k }));
  return code;
}

/** Returns the verdict if the condition holds, else goes on behind it. */
function test({ argument, mask, in: values }: Condition, verdict: Verdict): Instruction[] {
  const low = seccomp_data.offset.args + argument * 8;
  return [
    [LOAD, 0, 0, low],
    ...(mask === undefined ? [] : [[AND, 0, 0, mask] as const]),
    ...values.flatMap((value): Instruction[] => [
      [JUMP_IF_EQUAL, 0, 1, value],
      [RETURN, 0, 0, returned(verdict)],
    ]),
  ];
}

function returned(verdict: Verdict): number {
  return verdict === 'allow' ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | ERRNO[verdict]!;
}
