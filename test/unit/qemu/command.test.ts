import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { wireQemu } from '../../../src/qemu/command.ts';

const DESCRIPTORS = { gpu: 3, inputs: [4, 5], qmp: 6 };
const NO_DISPLAY = { hasDisplay: false, allowUnsealedMemory: false };

function wire(command: string, options: Partial<typeof NO_DISPLAY> = {}): string {
  return wireQemu(command.split(' '), DESCRIPTORS, { ...NO_DISPLAY, ...options }).join(' ');
}

test('wireQemu: adds shared memory of the size of -m, the GPU, input devices and a control channel', () => {
  expect(wire('qemu-system-x86_64 -m 512 -accel kvm disk.qcow2')).toBe(
    [
      'qemu-system-x86_64 -m 512 -accel kvm disk.qcow2',
      '-object memory-backend-memfd,id=scanout-memory,size=512M,share=on -machine memory-backend=scanout-memory',
      '-display none -vga none',
      '-chardev socket,id=scanout-vg,fd=3 -device vhost-user-gpu-pci,chardev=scanout-vg',
      '-chardev socket,id=scanout-vi0,fd=4 -device vhost-user-input-pci,chardev=scanout-vi0',
      '-chardev socket,id=scanout-vi1,fd=5 -device vhost-user-input-pci,chardev=scanout-vi1',
      '-chardev socket,id=scanout-qmp,fd=6 -mon chardev=scanout-qmp,mode=control',
    ].join(' '),
  );
});

test('wireQemu: adds the port of the SPICE agent for a shared clipboard, unless there is one', () => {
  const wired = wireQemu(['qemu', '-S'], { ...DESCRIPTORS, clipboard: 7 }, NO_DISPLAY).join(' ');
  expect(wired).toContain(
    [
      '-device virtio-serial-pci,id=scanout-clipboard-bus -chardev socket,id=scanout-clipboard,fd=7',
      '-device virtserialport,bus=scanout-clipboard-bus.0,chardev=scanout-clipboard,name=com.redhat.spice.0',
    ].join(' '),
  );
  const taken = ['qemu', '-device', 'virtserialport,chardev=x,name=com.redhat.spice.0'];
  expect(() => wireQemu(taken, { ...DESCRIPTORS, clipboard: 7 }, NO_DISPLAY)).toThrow('leave --clipboard out');
  expect(wireQemu(taken, DESCRIPTORS, NO_DISPLAY).join(' ')).not.toContain('scanout-clipboard');
});

test.each([
  ['-m 2G', '2G'],
  ['-m 1.5G', '1536M'],
  ['-m 2048', '2G'],
  ['-m size=768M,slots=2,maxmem=4G', '768M'],
  ['--m 1048576K', '1G'],
  ['-m 512M -m 1T', '1024G'],
])('wireQemu: reads %s as QEMU does', (flags, size) => {
  expect(wire(`qemu ${flags}`)).toContain(`memory-backend-memfd,id=scanout-memory,size=${size},`);
});

test('wireQemu: gives a guest without -m 2 GiB', () => {
  expect(wire('qemu')).toContain(' -m 2G -object memory-backend-memfd,id=scanout-memory,size=2G,');
});

test.each([
  '-object memory-backend-memfd,id=ram,size=1G -machine q35,memory-backend=ram',
  '-object memory-backend-memfd,size=1G,share=on,id=ram,hugetlb=on -M memory-backend=ram',
  '-object {"qom-type":"memory-backend-memfd","id":"ram","share":true,"size":1} -numa node,memdev=ram',
])('wireQemu: leaves memory that can be shared as it is: %s', (flags) => {
  const wired = wire(`qemu ${flags}`);
  expect(wired).not.toContain('scanout-memory');
  expect(wired).not.toContain('-m 2G');
});

test('wireQemu: accepts a file as memory if the bridge does', () => {
  const command = 'qemu -object memory-backend-file,id=ram,mem-path=/dev/shm/x,share=on -machine memory-backend=ram';
  expect(wire(command, { allowUnsealedMemory: true })).not.toContain('scanout-memory');
  expect(() => wire(command)).toThrow('add --allow-unsealed-memory before the --');
});

test.each(['-nographic', '-display none'])('wireQemu: adds no display to %s', (flags) => {
  expect(wire(`qemu ${flags}`).match(/-display|-nographic/g)).toHaveLength(1);
});

test.each(['-display gtk', '-vnc :1', ''])(
  "wireQemu: leaves QEMU's display as it is with --output vmm: '%s'",
  (flags) => {
    expect(wire(`qemu -S ${flags}`, { hasDisplay: true })).not.toContain('none -vga');
  },
);

describe('wireQemu: refuses', () => {
  test.each([
    ['no program', '-m 2G', 'program first'],
    ['an empty command', '', 'program first'],
    ['a QEMU that leaves', 'qemu -daemonize', 'must stay a child'],
    ['a VGA', 'qemu -vga std', "QEMU's -vga std: scanout is the guest's graphics card"],
    ['a second virtio GPU', 'qemu -device virtio-gpu-pci', 'remove the second one'],
    ['a second GPU by its driver', 'qemu --device driver=virtio-vga-gl,id=x', 'remove the second one'],
    ['a second GPU as JSON', 'qemu -device {"driver":"qxl"}', 'remove the second one'],
    ['another vhost-user GPU', 'qemu -device vhost-user-vga,chardev=x', 'remove the second one'],
    ['a display', 'qemu -display gtk,gl=on', 'add --output vmm'],
    ['VNC', 'qemu -vnc :1', 'add --output vmm'],
    ['a path as memory', 'qemu -mem-path /dev/hugepages', 'memory-backend-memfd'],
    ['a size that is none', 'qemu -m lots', 'cannot read the size'],
    ['no memory', 'qemu -m 0', 'cannot read the size'],
    ['private memory', 'qemu -object memory-backend-memfd,id=r,share=off -M memory-backend=r', 'add share=on'],
    ['a private file', 'qemu -object memory-backend-file,id=r -M memory-backend=r', 'add share=on'],
    ['memory without a file', 'qemu -object memory-backend-ram,id=r,share=on -M memory-backend=r', 'cannot map'],
    ['memory that is not there', 'qemu -machine memory-backend=r', 'no -object with this id'],
    ['private memory of a NUMA node', 'qemu -object memory-backend-ram,id=r -numa node,memdev=r', 'cannot map'],
  ])('%s', (_what, command, why) => {
    expect(() => wire(command)).toThrow(
      expect.objectContaining({ name: 'UsageError', message: expect.stringContaining(why) as string }) as Error,
    );
  });
});

test('wireQemu: keeps every argument of the user, in order, whatever they are, or throws a UsageError', () => {
  const words = fc.constantFrom(
    '-m',
    '-M',
    '-object',
    '-device',
    '-vga',
    '-numa',
    '-display',
    '{"',
    '{"id":1}',
    'none',
    'id=a,,b',
    ',',
    '=',
    '-',
    '--',
    '1G',
    'x',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string())), (args) => {
      try {
        expect(wireQemu(['qemu', ...args], DESCRIPTORS, NO_DISPLAY).slice(0, args.length + 1)).toEqual([
          'qemu',
          ...args,
        ]);
      } catch (error) {
        expect((error as Error).name).toBe('UsageError');
      }
    }),
  );
});
