/**
 * `npm run test:kernel`: runs test/kernel in a VM whose kernel has a real udmabuf and a real KMS
 * device (vkms). Arguments go to vitest: `npm run test:kernel -- udmabuf -t seals`.
 *
 * The VM's root is this machine's own, read-only. It can write to a $TMPDIR of its own and
 * to test/output, where its log and pictures of failed tests are afterwards.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { COUNTS_FILE } from './counts.ts';
import { bootGuest } from './guest.ts';
import { cacheDir, guestImage, skipWithoutGuest } from './guest-image.ts';

const LIMIT_MS = 8 * 60_000;
const root = join(import.meta.dirname, '../..');
const output = join(root, 'test/output');
const log = join(output, 'kernel.log');

if (!skipWithoutGuest() && !skipWithoutVkms()) process.exitCode = (await runInGuest(process.argv.slice(2))) ? 0 : 1;

function skipWithoutVkms(): boolean {
  const file = join(cacheDir, 'linux/lib/modules', guestImage().release, 'extra/vkms.ko');
  if (existsSync(file)) return false;
  const reason = `no kernel tests without ${file}: run sh test/rig/install.sh as root`;
  if (process.env['CI'] === 'true') throw new Error(reason);
  console.warn(`skipped: ${reason}`);
  return true;
}

/** True if all tests passed; else the guest's log is printed. */
async function runInGuest(args: readonly string[]): Promise<boolean> {
  mkdirSync(output, { recursive: true });
  rmSync(log, { force: true });
  const monitor = join(mkdtempSync(join(tmpdir(), 'scanout-monitor-')), 'qmp');
  await using guest = await bootGuest({
    gpu: { kind: 'none' },
    memoryMiB: 2048,
    cpus: 2,
    extraQemuArgs: [
      ...['-fsdev', `local,id=output,path=${output},security_model=none`, '-device', 'virtio-9p-pci,fsdev=output,mount_tag=output'],
      // A second card, with two connectors, one of them plugged in.
      ...['-device', 'virtio-gpu-pci,id=two-heads,max_outputs=2,xres=640,yres=480'],
      // What QEMU shows of it is for the tests to ask: they reach a monitor of QEMU through a serial port.
      ...['-chardev', `socket,id=monitor,path=${monitor},server=on,wait=off`, '-mon', 'chardev=monitor,mode=control'],
      ...['-chardev', `socket,id=monitor-port,path=${monitor}`, '-device', 'virtserialport,chardev=monitor-port,name=qmp'],
      // A kernel that complains is to be heard.
      ...['-append', 'console=ttyS0 loglevel=5 panic=-1 mitigations=off'],
    ],
  });
  try {
    const setUp = [
      // Not over /tmp: the project may lie there.
      'mkdir /run/tmp && export TMPDIR=/run/tmp',
      `mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 output ${output}`,
      // So that vkms is the first card.
      'gpu=$(basename $(echo /sys/bus/virtio/drivers/virtio_gpu/virtio*)) && echo $gpu >/sys/bus/virtio/drivers/virtio_gpu/unbind',
      `modprobe -d ${cacheDir}/linux vkms enable_overlay=1 enable_cursor=1 enable_writeback=1`,
      'echo $gpu >/sys/bus/virtio/drivers/virtio_gpu/bind',
      `cd ${root}`,
    ];
    await guest.run(setUp.join(' && '));
    await guest.run(`${environment()} node_modules/.bin/vitest run --configLoader runner --no-cache --project kernel ${args.map(quote).join(' ')} >${log} 2>&1`, LIMIT_MS);
    return true;
  } catch (error) {
    console.error((error as Error).message);
    return false;
  } finally {
    rmSync(dirname(monitor), { recursive: true });
    if (existsSync(log)) process.stdout.write(readFileSync(log));
  }
}

/** What decides here how tests run and what they print decides there as well. */
function environment(): string {
  return ['CI', COUNTS_FILE].flatMap((name) => (process.env[name] === undefined ? [] : [`${name}=${quote(process.env[name])}`])).join(' ');
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
