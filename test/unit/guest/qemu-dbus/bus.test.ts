/** VMs on a bus of dbus-daemon; their QEMU is scripted. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as uapi from '../../../../protocols/qemu-display1.ts';
import { QemuDbusGuest } from '../../../../src/guest/qemu-dbus/guest.ts';
import { skipWithoutProgram } from '../../../rig/skip.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { FakeVm } from './fake-vm.ts';
import { eventually } from '../../../rig/eventually.ts';

describe.skipIf(skipWithoutProgram('dbus-daemon'))('QemuDbusGuest: on a bus', () => {
  let directory: string;
  let daemon: ChildProcess;
  let address: string;
  let vms: FakeVm[];
  let guest: QemuDbusGuest | null;
  const log: string[] = [];

  expectNoLeaks();

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'qemu-bus-'));
    const flags = ['--session', '--nofork', '--print-address', `--address=unix:path=${join(directory, 'bus')}`];
    daemon = spawn('dbus-daemon', flags, { stdio: ['ignore', 'pipe', 'ignore'] });
    address = String((await once(daemon.stdout!, 'data'))[0]).trim();
    vms = [];
    guest = null;
    log.length = 0;
  });

  afterEach(async () => {
    guest?.[Symbol.dispose]();
    for (const vm of vms) vm[Symbol.dispose]();
    const gone = once(daemon, 'close');
    daemon.kill();
    await gone;
    rmSync(directory, { recursive: true });
  });

  async function joined(name: string): Promise<FakeVm> {
    const vm = new FakeVm([{ modifiers: 0 }], name);
    vms.push(vm);
    await vm.join(address);
    return vm;
  }

  function look(name?: string): QemuDbusGuest {
    const vm = { bus: address, ...(name !== undefined && { name }) };
    return (guest = QemuDbusGuest.open({ vm, log: (_, message) => log.push(message) }));
  }

  test('finds the only VM, and hears what changes', async () => {
    const vm = await joined('lonely');
    const found = look();
    await eventually(() => expect(found.isConnected).toBe(true));
    expect(found.stats.vm).toBe('lonely');
    vm.change(0, uapi.KEYBOARD, 'Modifiers', 'u', 4);
    await eventually(() => expect(found.input.leds).toBe(2));
    found.input.key(30, true);
    await found.input.taken();
    expect(vm.calls).toEqual([['Keyboard.Press', 30]]);
  });

  test('finds a VM by its name behind another, and does not hear the other', async () => {
    const other = await joined('first');
    await joined('second');
    const found = look('second');
    await eventually(() => expect(found.isConnected).toBe(true));
    expect(found.stats.vm).toBe('second');
    other.change(0, uapi.KEYBOARD, 'Modifiers', 'u', 4);
    await found.input.taken();
    expect(found.input.leds).toBe(0);
  });

  test('names the VMs when there are several and none was chosen, or when there is none of the name', async () => {
    await joined('first');
    await joined('second');
    look();
    await eventually(() => expect(log.join()).toContain('choose one, by its name: first, second'));
    guest![Symbol.dispose]();
    look('third');
    await eventually(() => expect(log.join()).toContain('no VM with the name third, but: first, second'));
  });

  test('waits for a VM on a bus that has none', async () => {
    const waiting = look();
    await eventually(() => expect(log.join()).toContain('there is none on the bus'));
    await joined('late');
    await eventually(() => expect(waiting.isConnected).toBe(true));
  });
});
