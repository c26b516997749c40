import type { ExportStats } from '../../display/export/display.ts';
import type { VncStats } from '../../display/vnc/output.ts';
import type { ScanoutStats } from '../bridge/bridge.ts';
import type { QemuDbusStats } from '../guest/qemu-dbus/guest.ts';
import type { DbusClipboardStats } from '../guest/qemu-dbus/clipboard.ts';
import type { VdagentStats } from '../guest/vdagent/clipboard.ts';
import type { VfioStats } from '../guest/vfio/guest.ts';
import type { GpuStats } from '../guest/virtio-gpu/device.ts';

/** `agent`: whether one runs in the guest; null where only QEMU knows. */
export type ClipboardStats = VdagentStats | DbusClipboardStats;

export interface SessionStats {
  /** Of a GPU over vhost-user; with `kind` `vfio` of a virtual GPU of the kernel, with `qemu-dbus` of a VM's D-Bus display. */
  readonly guest:
    | (GpuStats & { readonly connected: boolean })
    | (VfioStats & { readonly kind: 'vfio'; readonly connected: boolean })
    | (QemuDbusStats & { readonly kind: 'qemu-dbus'; readonly connected: boolean });
  readonly scanouts: readonly ScanoutStats[];
  /** Of `--output export`; null without. */
  readonly exports: ExportStats | null;
  /** Of each `--output vnc`; null without. */
  readonly vnc: readonly VncStats[] | null;
  /** Of `--clipboard`; null without. */
  readonly clipboard: ClipboardStats | null;
}

/** What a bridge has given up; all false and null with `--sandbox=off`. */
export interface SandboxState {
  readonly noNewPrivileges: boolean;
  /** No core dumps, and other processes of the user cannot trace it. */
  readonly notDumpable: boolean;
  /** Only the system calls of a bridge, in every thread. */
  readonly systemCalls: boolean;
  /** Version of the kernel's Landlock that limits files; null if none does. */
  readonly landlock: number | null;
}

/** Those who drive a bridge from outside. */
export interface ControlStats {
  /** Connections, the one that asks included. */
  readonly clients: number;
  /** How often one of them typed, clicked or the like. */
  readonly input: number;
}

/** What the control socket answers to `stats`. */
export interface BridgeStats extends SessionStats {
  readonly control: ControlStats;
  readonly sandbox: SandboxState;
}

/** As people read it. */
export function sandboxText({ noNewPrivileges, notDumpable, systemCalls, landlock }: SandboxState): string {
  const parts = [
    noNewPrivileges && 'no new privileges',
    notDumpable && 'not dumpable',
    systemCalls && 'system calls filtered',
    landlock !== null && `files limited by Landlock ${landlock}`,
  ].filter((part) => part !== false);
  return parts.length === 0 ? 'off' : parts.join(', ');
}
