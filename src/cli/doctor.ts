import { Command } from 'commander';
import type { Rung } from '../buffer/plane-buffers.ts';
import type { UdmabufError } from '../buffer/udmabuf.ts';
import { type Check, checkDrm, checkMaxMapCount, checkMemfd, checkPixman, checkQemu, checkUdmabuf, checkWayland } from './machine.ts';

/** Which way a kind of guest picture takes to an output on this machine. */
export interface Prospect {
  readonly output: string;
  readonly rung: Rung;
  readonly why: string;
  readonly todo?: string;
}

export function command(): Command {
  return new Command('doctor')
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExample:\n  $ scanout doctor')
    .action(async ({ json }: { json?: true }) => {
      const { reason, ...udmabuf } = checkUdmabuf();
      const checks = [udmabuf, checkMemfd(), checkPixman(), checkMaxMapCount(), checkDrm(), await checkWayland(), await checkQemu()];
      const rungs = prospects(reason);
      console.log(json ? JSON.stringify({ checks, rungs }, null, 2) : `${checksText(checks)}\n\n${prospectsText(rungs)}`);
    });
}

/** `reason` is why this machine makes no dma-bufs of guest pages; null if it does. */
export function prospects(reason: UdmabufError | null): Prospect[] {
  const vmm: Prospect = { output: 'vmm', rung: 'direct', why: "what changed is written from the guest's pages to the VMM's socket" };
  if (reason) {
    const why = `no dma-buf of guest pages (${reason.code}): what changed is copied, once`;
    const todo = 'make udmabuf work, see above';
    return [{ output: 'headless', rung: 'shadow', why, todo }, vmm, { output: 'vmm:dmabuf', rung: 'shadow', why, todo }];
  }
  return [
    { output: 'headless', rung: 'udmabuf', why: 'guest pages become a dma-buf, which the output maps; formats but XRGB8888 and ARGB8888 are copied' },
    vmm,
    { output: 'vmm:dmabuf', rung: 'udmabuf', why: 'guest pages become a dma-buf, which the VMM draws with GL' },
  ];
}

function checksText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks.map(({ name, ok, detail, todo }) => `${ok ? 'yes' : 'no '}  ${name.padEnd(width)}  ${detail}${todo === undefined ? '' : `\n${' '.repeat(width + 7)}-> ${todo}`}`).join('\n');
}

function prospectsText(rows: readonly Prospect[]): string {
  const line = (output: string, rung: string, why: string): string => `${output.padEnd(12)}${rung.padEnd(9)}${why}`;
  return [line('output', 'rung', 'why'), ...rows.map(({ output, rung, why, todo }) => line(output, rung, `${why}${todo === undefined ? '' : ` -> ${todo}`}`))].join('\n');
}
