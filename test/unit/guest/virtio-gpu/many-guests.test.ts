/** Many guests with large pictures in one process, which may have 65530 mappings. */
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { VIRTIO_GPU_RESP } from '../../../../protocols/virtio-gpu.ts';
import { copyRect } from '../../../../src/sys/copy-rect.ts';
import { DisposableStack } from '../../../../src/sys/disposable-stack.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import { mappingCount, openFds } from '../../../rig/process-resources.ts';
import * as request from './requests.ts';
import { GpuRig, HEAP, PAGE } from './rig.ts';

const GUESTS = 64;
const WIDTH = 3840;
const HEIGHT = 2160;
const STRIDE = WIDTH * 4;
const PAGES = (STRIDE * HEIGHT) / PAGE;
/** What all guests together may take of the 65530 that Linux allows (vm.max_map_count), and room for the rest. */
const MAX_MAPPINGS = 49152 + 6000;

test(`VirtioGpu: ${GUESTS} guests with 4K pictures of scattered pages are copied in one process`, async () => {
  const before = { fds: openFds().size, mappings: mappingCount(/./) };
  {
    using resources = new DisposableStack();
    // They share their memory, or the test would need 4 GiB of it.
    const ram = resources.use(createMemfd('guest', 2 ** 27));
    const shadow = resources.use(Mapping.anonymous(STRIDE * HEIGHT));
    // In reverse order each page is a run.
    const entries = Array.from({ length: PAGES }, (_, i) => ({ addr: HEAP + (PAGES - 1 - i) * PAGE, length: PAGE }));
    const guests = Array.from({ length: GUESTS }, () => {
      const rig = resources.use(new GpuRig({}, true, () => ram.dup()));
      for (const bytes of [
        request.create2d(1, WIDTH, HEIGHT),
        request.attach(1, entries),
        request.setScanout(0, 1, 0, 0, WIDTH, HEIGHT),
      ])
        expect(rig.type(bytes)).toBe(VIRTIO_GPU_RESP.OK_NODATA);
      return rig;
    });
    const page = new DataView(new ArrayBuffer(4));
    for (let round = 0; round < 3; round++) {
      entries.forEach(({ addr }, i) => {
        page.setUint32(0, i * 4 + round, true);
        guests[0]!.at(addr, 4).set(new Uint8Array(page.buffer));
      });
      for (const { sink } of guests) {
        const { backing } = sink.shown.get(0)!;
        if (backing.kind !== 'pages') throw new Error('not in pages');
        copyRect(shadow, 0, STRIDE, backing.pixels(), 0, STRIDE, STRIDE, HEIGHT);
        for (let i = 0; i < PAGES; i++)
          if (shadow.view.getUint32(i * PAGE, true) !== i * 4 + round) expect.fail(`page ${i} in round ${round}`);
        await turn();
      }
    }
    // What is mapped beside the copies comes to its end. The engine maps and unmaps a few pages all the time.
    for (let earlier = 0, now = mappingCount(/./); Math.abs(now - earlier) > 100; now = mappingCount(/./)) {
      earlier = now;
      for (let i = 0; i < 500; i++) await turn();
    }
    expect(mappingCount(/./)).toBeLessThan(MAX_MAPPINGS);
    expect(guests.map(({ gpu }) => gpu.stats.storeBytes)).toEqual(guests.map(() => 0));
  }
  expect(openFds().size).toBe(before.fds);
  expect(mappingCount(/memfd:/)).toBe(0);
  expect(mappingCount(/./) - before.mappings).toBeLessThan(1000);
});
