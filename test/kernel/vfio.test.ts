import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HeadlessOutput } from '../../display/headless/output.ts';
import { monitorName } from '../../protocols/edid.ts';
import { Bridge } from '../../src/bridge/bridge.ts';
import { requestScreenshot, requestStats } from '../../src/control/client.ts';
import { virtualMonitor } from '../../src/core/monitor.ts';
import { DmabufImportRefused } from '../../src/core/output.ts';
import { VfioError } from '../../src/guest/vfio/device.ts';
import { VfioGuest } from '../../src/guest/vfio/guest.ts';
import { DisposableStack } from '../../src/sys/disposable-stack.ts';
import { Mapping } from '../../src/sys/mapping.ts';
import { connectUnix, UnixConnection } from '../../src/sys/socket.ts';
import { expectSamePicture, pictureOfBgrx } from '../rig/picture.ts';
import { openFds } from '../rig/process-resources.ts';
import { ScanoutRun } from '../rig/scanout-run.ts';
import { skipWithoutVkms, TestScreen, WatchedOutput } from './kms-rig.ts';
import { dmabufCount, expectNothingLeft } from './machine.ts';
import { Bochs, kernelComplaints, Mdev, OpenMdev, skipWithoutMdev, vfioFds } from '../rig/mdev.ts';
import { eventually } from '../rig/eventually.ts';

const [WIDTH, HEIGHT] = [1024, 768];
const POLLS = 10_000;

let stack: DisposableStack;
let log: string[];
let complaints: string[];
const logger = (_: string, message: string): void => void log.push(message);

/** The statistics of the primary plane on the only screen. */
const primaryOf = (bridge: Bridge) => bridge.stats[0]!.screens[0]!.primary;

/** Resolves when the device has been looked at `count` times more, each on screen before the next. */
async function looked(guest: VfioGuest, count = 2): Promise<void> {
  const end = guest.stats.looks + count;
  // A failed expectation takes longer than a look.
  while (guest.stats.looks < end) await sleep(1);
}

describe.skipIf(skipWithoutMdev() || skipWithoutVkms())('VfioGuest on the kernel', () => {
  expectNothingLeft();

  beforeEach(() => {
    stack = new DisposableStack();
    log = [];
    complaints = kernelComplaints();
  });
  afterEach(() => {
    stack[Symbol.dispose]();
    expect(vfioFds()).toEqual([]);
    expect(kernelComplaints(complaints)).toEqual([]);
  });

  /** A device with a guest's driver that has set a mode and drawn. */
  function bochs(): { mdev: Mdev; open: OpenMdev; driver: Bochs } {
    const mdev = stack.use(new Mdev('mbochs-medium'));
    const open = stack.use(new OpenMdev(mdev));
    const driver = stack.use(new Bochs(open.fd));
    driver.setMode(WIDTH, HEIGHT);
    driver.draw(1);
    return { mdev, open, driver };
  }

  test('shows a device on a plane by its dma-buf, without copying a byte', async () => {
    const { open, driver } = bochs();
    const screen = stack.use(new TestScreen());
    driver.setMode(screen.monitor.width, screen.monitor.height);
    const output = new WatchedOutput(screen.output);
    const guest = stack.use(VfioGuest.open({ device: { fd: open.fd.dup() }, log: logger }));
    const bridge = stack.use(new Bridge(guest, { log: logger }));
    bridge.show(0, output);
    await looked(guest);
    for (const seed of [2, 3]) {
      driver.draw(seed);
      await looked(guest);
      guest.setMonitor(0, null);
      await output.settled();
      expectSamePicture(await screen.writeback.take(), driver.picture, `vfio-kms-${seed}`);
      guest.setMonitor(0, screen.output.monitor);
    }
    expect(primaryOf(bridge)).toMatchObject({ rung: 'dmabuf', copiedBytes: 0, imports: 1 });
    expect(guest.stats).toMatchObject({ mode: 'dma-buf', opened: 1 });
    expect(log.join('\n')).toContain("by rung 'dmabuf'");
  });

  test('shows a device on a headless output, in each mode and through page flips', async () => {
    const { open, driver } = bochs();
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 60_000 }));
    const guest = stack.use(VfioGuest.open({ device: { fd: open.fd.dup() }, log: logger }));
    const bridge = stack.use(new Bridge(guest, { log: logger }));
    bridge.show(0, output);
    for (const [width, height] of [
      [WIDTH, HEIGHT],
      [1280, 1024],
      [WIDTH, HEIGHT],
    ] as const) {
      driver.setMode(width, height);
      for (let flip = 0; flip < 4; flip++) {
        driver.flip(flip % 3);
        driver.draw(width + flip);
        await looked(guest, 3);
        expectSamePicture(output.capture()!, driver.picture, `vfio-${width}-${flip}`);
      }
    }
    // The ids of the first mode came back.
    expect(guest.stats.opened).toBe(6);
    expect(primaryOf(bridge)).toMatchObject({ rung: 'dmabuf', copiedBytes: 0, imports: 6 });
    driver.turnOff();
    await looked(guest, 3);
    expect(output.capture()).toBeNull();
  });

  test('tells the guest its monitor', () => {
    const { open, driver } = bochs();
    const guest = stack.use(VfioGuest.open({ device: { fd: open.fd.dup() }, log: logger }));
    guest.setMonitor(0, virtualMonitor('a screen', 1280, 800, 60_000));
    expect(monitorName(driver.edid)).toBe('a screen');
    guest.setMonitor(0, null);
    expect(driver.edid).toEqual(new Uint8Array(128));
  });

  test(`opens no descriptor in ${POLLS} looks at three buffers`, { timeout: 600_000 }, async () => {
    const { open, driver } = bochs();
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 1_000_000 }));
    const guest = stack.use(VfioGuest.open({ device: { fd: open.fd.dup() }, log: logger }));
    const bridge = stack.use(new Bridge(guest, { log: logger }));
    bridge.show(0, output);
    for (let flip = 0; flip < 3; flip++) {
      driver.flip(flip);
      await looked(guest);
    }
    const before = { fds: openFds(), dmabufs: dmabufCount() };
    const start = guest.stats.looks;
    for (let flip = 0; guest.stats.looks < start + POLLS; flip++) {
      driver.flip(flip % 3);
      await looked(guest);
    }
    expect({ fds: openFds(), dmabufs: dmabufCount() }).toEqual(before);
    expect(guest.stats).toMatchObject({ opened: 3, stale: 0 });
  });

  test('takes the device of a process, and refuses a process without one', () => {
    bochs();
    const guest = stack.use(VfioGuest.open({ device: { pid: process.pid }, log: logger }));
    expect(guest.stats.mode).toBe('dma-buf');
    expect(() => VfioGuest.open({ device: { pid: 1 } })).toThrow(/process 1 \(.*\) has no VFIO device open/);
    expect(() => VfioGuest.open({ device: { pid: 2 ** 22 + 1 } })).toThrow('there is no process 4194305');
    expect(() => VfioGuest.open({ device: { pid: process.pid, device: 7 } })).toThrow(/counted from 0/);
  });

  test('shows the region of a device that has no dma-bufs, and only what changes in it', async () => {
    const mdev = stack.use(new Mdev('mdpy-xga'));
    const open = stack.use(new OpenMdev(mdev));
    const driver = stack.use(new Mdpy(open));
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 60_000 }));
    const guest = stack.use(VfioGuest.open({ device: { fd: open.fd.dup() }, log: logger }));
    const bridge = stack.use(new Bridge(guest, { log: logger }));
    bridge.show(0, output);
    await looked(guest, 3);
    expectSamePicture(output.capture()!, driver.picture, 'vfio-region-gradient');
    const { copiedBytes } = guest.stats;
    expect(copiedBytes).toBe(WIDTH * HEIGHT * 4);
    const frames = bridge.stats[0]!.screens[0]!.frames;
    await looked(guest, 10);
    expect(bridge.stats[0]!.screens[0]!.frames).toBe(frames);
    driver.memory.view.setUint32((300 * WIDTH + 500) * 4, 0x00ff8040, true);
    await looked(guest, 3);
    expectSamePicture(output.capture()!, driver.picture, 'vfio-region-pixel');
    expect(guest.stats).toMatchObject({ mode: 'region', copiedBytes: copiedBytes + 64 * 16 * 4, opened: 0 });
    expect(primaryOf(bridge)).toMatchObject({ rung: 'udmabuf', copiedBytes: 0 });
  });

  test('copies a dma-buf into the buffers of an output that refuses it', async () => {
    const { open, driver } = bochs();
    const screen = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 60_000 }));
    const guest = stack.use(VfioGuest.open({ device: { fd: open.fd.dup() }, log: logger }));
    const bridge = stack.use(new Bridge(guest, { log: logger }));
    bridge.show(0, new RefusingOutput(screen));
    await looked(guest, 3);
    driver.draw(4);
    await looked(guest, 3);
    expectSamePicture(screen.capture()!, driver.picture, 'vfio-copied');
    expect(primaryOf(bridge)).toMatchObject({ rung: 'shadow', imports: 0 });
  });

  test('refuses a device without a display', () => {
    const mdev = stack.use(new Mdev('mtty-1'));
    expect(() => VfioGuest.open({ device: { mdev: mdev.uuid } })).toThrow(VfioError);
    expect(() => VfioGuest.open({ device: { mdev: mdev.uuid } })).toThrow('no display planes');
  });

  test('says why there is no mediated device', () => {
    const { mdev } = bochs();
    expect(() => VfioGuest.open({ device: { mdev: mdev.uuid } })).toThrow(/is in use: take the device of its VMM/);
    const none = '00000000-0000-0000-0000-000000000000';
    expect(() => VfioGuest.open({ device: { mdev: none } })).toThrow(`there is no mediated device ${none}`);
  });

  test('gives a device back that is to be removed, keeps its picture, and shows it when it is made again', async () => {
    const mdev = stack.use(new Mdev('mdpy-xga'));
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 60_000 }));
    const guest = stack.use(VfioGuest.open({ device: { mdev: mdev.uuid }, log: logger }));
    const bridge = stack.use(new Bridge(guest, { log: logger }));
    bridge.show(0, output);
    await looked(guest, 3);
    const picture = output.capture()!;
    await mdev.remove();
    expect(guest.isConnected).toBe(false);
    await eventually(() => expect(primaryOf(bridge).shadowBytes).toBeGreaterThan(0));
    expectSamePicture(output.capture()!, picture, 'vfio-last');
    mdev.create();
    await eventually(() => expect(guest.isConnected).toBe(true));
    await looked(guest, 3);
    expectSamePicture(output.capture()!, picture, 'vfio-again');
  });

  test('takes a device that a peer passes, and gives it back when the peer goes', async () => {
    const { open, driver } = bochs();
    const dmabufs = dmabufCount();
    const socket = `${process.env['TMPDIR'] ?? '/tmp'}/vfio-${process.pid}.sock`;
    const output = stack.use(HeadlessOutput.open({ width: WIDTH, height: HEIGHT, refreshMhz: 60_000 }));
    const guest = stack.use(VfioGuest.open({ device: { socket }, log: logger }));
    const bridge = stack.use(new Bridge(guest, { log: logger }));
    bridge.show(0, output);
    const peer = stack.use(UnixConnection.adopt(connectUnix(socket)));
    peer.send(Uint8Array.of(0), [open.fd]);
    await eventually(() => expect(guest.isConnected).toBe(true));
    await looked(guest, 3);
    expectSamePicture(output.capture()!, driver.picture, 'vfio-passed');
    peer[Symbol.dispose]();
    await eventually(() => expect(guest.isConnected).toBe(false));
    // The device is open here and nowhere else, and the screen shows a copy.
    expect(vfioFds()).toHaveLength(2);
    await eventually(() => expect(dmabufCount()).toBe(dmabufs));
    expectSamePicture(output.capture()!, driver.picture, 'vfio-passed-last');
    expect(log.filter((line) => line.includes('has closed its connection'))).toHaveLength(1);
  });
});

describe.skipIf(skipWithoutMdev())('scanout run --guest vfio', () => {
  const control = `${process.env['TMPDIR'] ?? '/tmp'}/vfio-${process.pid}/control.sock`;

  /** Resolves when the command has looked at a device a few times; with the numbers of that. */
  async function looks(): Promise<unknown> {
    return eventually(async () => {
      const stats = (await requestStats(control)) as { guest: { looks: number } };
      expect(stats.guest.looks).toBeGreaterThan(3);
      return stats;
    });
  }

  test('shows a mediated device in its sandbox, and again after it was removed', async () => {
    using mdev = new Mdev('mdpy-xga');
    await using run = await ScanoutRun.start('--guest', `vfio:mdev=${mdev.uuid}`, '--control', control);
    const sandbox = { systemCalls: true, noNewPrivileges: true };
    expect(await looks()).toMatchObject({ guest: { kind: 'vfio', connected: true, mode: 'region' }, sandbox });
    expect((await requestScreenshot(control, { scanout: 0, cursor: true })).width).toBe(WIDTH);
    await mdev.remove();
    await run.logged('the device is being removed');
    mdev.create();
    await run.logged('vfio: showing the planes', 2);
    expect(await run.end('SIGTERM')).toBe(0);
  });

  test('takes the device of a process before it enters its sandbox', async () => {
    using mdev = new Mdev('mbochs-medium');
    using open = new OpenMdev(mdev);
    using driver = new Bochs(open.fd);
    driver.setMode(WIDTH, HEIGHT);
    driver.draw(5);
    await using run = await ScanoutRun.start('--guest', `vfio:pid=${process.pid}`, '--control', control);
    expect(await looks()).toMatchObject({
      guest: { connected: true, mode: 'dma-buf' },
      sandbox: { systemCalls: true },
    });
    expectSamePicture(await requestScreenshot(control, { scanout: 0, cursor: true }), driver.picture, 'vfio-run');
    expect(await run.end('SIGTERM')).toBe(0);
  });
});

class RefusingOutput extends WatchedOutput {
  override import(): DmabufImportRefused {
    return new DmabufImportRefused('format', 'told to refuse');
  }
}

/** What a guest's driver does with an mdpy device of 1024x768. */
class Mdpy implements Disposable {
  readonly memory: Mapping;

  constructor({ fd }: OpenMdev) {
    this.memory = Mapping.file(fd, 4096, WIDTH * HEIGHT * 4, 'read-write');
  }

  get picture() {
    return pictureOfBgrx(WIDTH, HEIGHT, this.memory.bytes);
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }
}
