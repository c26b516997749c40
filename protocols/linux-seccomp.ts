/** linux/seccomp.h, linux/filter.h and linux/audit.h: the filter that seccomp(2) installs, a program of classic BPF. */
import { addr64, array, i32, struct, u16, u32, u64, u8 } from './layout.ts';

/* Operations of seccomp(2), and flags of SECCOMP_SET_MODE_FILTER. */
export const SECCOMP_SET_MODE_FILTER = 1;
export const SECCOMP_GET_ACTION_AVAIL = 2;
export const SECCOMP_FILTER_FLAG_TSYNC = 1;
export const SECCOMP_FILTER_FLAG_LOG = 2;

/* What a program returns. The errno is in the low 16 bits. */
export const SECCOMP_RET_ERRNO = 0x00050000;
export const SECCOMP_RET_ALLOW = 0x7fff0000;

/** What a program reads. */
export const seccomp_data = struct('seccomp_data', {
  nr: i32,
  arch: u32,
  instruction_pointer: u64,
  args: array(u64, 6),
});

/* `seccomp_data.arch` */
export const AUDIT_ARCH_X86_64 = 0xc000003e;
export const AUDIT_ARCH_AARCH64 = 0xc00000b7;

export const sock_filter = struct('sock_filter', { code: u16, jt: u8, jf: u8, k: u32 });
export const sock_fprog = struct('sock_fprog', { len: u16, filter: addr64 });
export const BPF_MAXINSNS = 4096;

/* Parts of `sock_filter.code` */
export const BPF_LD = 0x00;
export const BPF_ALU = 0x04;
export const BPF_JMP = 0x05;
export const BPF_RET = 0x06;
export const BPF_W = 0x00;
export const BPF_ABS = 0x20;
export const BPF_AND = 0x50;
export const BPF_JEQ = 0x10;
export const BPF_K = 0x00;
