import { Command } from 'commander';
import type { Rung } from '../bridge/plane-buffers.ts';
import type { UdmabufError } from '../sys/udmabuf.ts';
import { controlOption } from './control-options.ts';
import { checkLibvirt } from './libvirt.ts';
import {
  type Card,
  type Check,
  checkCards,
  checkClipboard,
  checkDbus,
  checkDrm,
  checkInput,
  checkLibraries,
  checkMaxMapCount,
  checkMediatedDevices,
  checkMemfd,
  checkPixman,
  checkQemu,
  checkSandbox,
  checkUdmabuf,
  checkWayland,
  readCards,
  readClipboardParts,
} from './machine.ts';
import { print, printJson } from './terminal.ts';

/** How pictures of a guest would reach an output on this machine; rung `none` if the output is unavailable. */
export interface Prospect {
  readonly output: string;
  readonly rung: Rung | 'none';
  readonly why: string;
  readonly todo?: string;
}

export function command(): Command {
  return new Command('doctor')
    .option('--json', 'print JSON')
    .addOption(controlOption())
    .addHelpText('after', '\nExample:\n  $ scanout doctor')
    .action(async ({ json, control }: { json?: true; control: string }) => {
      const { reason, ...udmabuf } = checkUdmabuf();
      const cards = readCards();
      const own = [udmabuf, checkMemfd(), checkPixman(), checkMaxMapCount()];
      const compositor = await checkWayland();
      const checks = [
        ...own,
        checkDrm(),
        ...checkCards(cards),
        ...checkLibraries(),
        checkInput(),
        compositor,
        checkClipboard(await readClipboardParts(compositor, control)),
        await checkQemu(),
        checkDbus(),
        checkMediatedDevices(),
        checkLibvirt(),
        ...checkSandbox(),
      ];
      const rungs = prospects(reason, cards, compositor);
      if (json) printJson({ checks, cards, rungs });
      else print(`${checksText(checks)}\n\n${prospectsText(rungs)}`);
    });
}

/** `reason` is why this machine cannot make dma-bufs of guest pages; null if it can. */
export function prospects(reason: UdmabufError | null, cards: readonly Card[], compositor: Check): Prospect[] {
  const copied: Omit<Prospect, 'output'> | null = reason && {
    rung: 'shadow',
    why: `no dma-buf of guest pages (${reason.code}): changed pixels are copied once`,
    todo: 'make udmabuf work, see above',
  };
  return [
    {
      output: 'headless',
      ...(copied ?? {
        rung: 'udmabuf',
        why: 'the pages of a blob become a dma-buf, which the output maps; formats other than XRGB8888 and ARGB8888 are copied',
      }),
    },
    {
      output: 'vmm',
      rung: 'direct',
      why: "changed pixels of a blob are written from the guest's pages to the VMM's socket",
    },
    {
      output: 'vmm:dmabuf',
      ...(copied ?? { rung: 'udmabuf', why: 'the pages of a blob become a dma-buf, which the VMM draws with GL' }),
    },
    {
      output: 'export',
      ...(reason
        ? { ...copied!, why: `no dma-buf of guest pages (${reason.code}): consumers get copies of changed pixels` }
        : { rung: 'udmabuf', why: 'the pages of a blob become a dma-buf, which consumers import' }),
    },
    {
      output: 'vnc',
      ...(copied ?? {
        rung: 'udmabuf',
        why: 'the pages of a blob become a dma-buf, which is mapped; viewers get what has changed when they ask',
      }),
    },
    { output: 'wayland', ...(compositor.ok ? (copied ?? IN_A_WINDOW) : { rung: 'none', why: compositor.detail }) },
    ...cards.map((card): Prospect => ({ output: `kms:${card.name}`, ...(cardProspect(card) ?? copied ?? ON_A_PLANE) })),
  ];
}

/** A driver reports whether it imports dma-bufs, but not from which memory; only an import shows that. */
const ON_A_PLANE = {
  rung: 'udmabuf',
  why: 'the pages of a blob become a dma-buf, which a plane shows; hardware that needs contiguous memory refuses it, then changed pixels are copied',
} as const;

/** Which dma-bufs the compositor accepts is known only once a window is open. */
const IN_A_WINDOW = {
  rung: 'udmabuf',
  why: 'the pages of a blob become a dma-buf, which the compositor shows if it supports linux-dmabuf and the format; else changed pixels are copied',
} as const;

/** What the card alone determines; null if nothing. */
function cardProspect({ abilities }: Card): Omit<Prospect, 'output'> | null {
  if ('problem' in abilities) return { rung: 'none', why: abilities.problem, todo: abilities.todo };
  const { driver, isAtomic, importsDmabufs } = abilities;
  if (!isAtomic) return { rung: 'none', why: `${driver} has no atomic modesetting` };
  return importsDmabufs
    ? null
    : { rung: 'shadow', why: `${driver} imports no dma-bufs: changed pixels are copied once` };
}

function checksText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks
    .map(
      ({ name, ok, detail, todo }) =>
        `${ok ? 'yes' : 'no '}  ${name.padEnd(width)}  ${detail}${todo === undefined ? '' : `\n${' '.repeat(width + 7)}-> ${todo}`}`,
    )
    .join('\n');
}

function prospectsText(rows: readonly Prospect[]): string {
  const line = (output: string, rung: string, why: string): string => `${output.padEnd(12)}${rung.padEnd(9)}${why}`;
  return [
    line('output', 'rung', 'why'),
    ...rows.map(({ output, rung, why, todo }) =>
      line(output, rung, `${why}${todo === undefined ? '' : ` -> ${todo}`}`),
    ),
  ].join('\n');
}
