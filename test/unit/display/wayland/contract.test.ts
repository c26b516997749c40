import { describe, test } from 'vitest';
import { DmabufImportRefused, type Handle, type Output } from '../../../../src/core/output.ts';
import { type Capability, type OutputRig as SuiteRig, outputSuite } from '../../../../src/testing/output-suite.ts';
import { GuestPicture } from '../../bridge/fakes.ts';
import { expectNoLeaks } from '../../sys/no-leaks.ts';
import { accept, dmabufHost } from './dmabuf-host.ts';
import type { FakeHostOptions } from './fake-host.ts';
import { OutputRig } from './output-rig.ts';

expectNoLeaks();

const CAN: readonly Capability[] = ['hide', 'lose'];
const DMABUF = dmabufHost({ version: 5 });
const FIRST_VERSIONS = { wl_compositor: 1, wl_output: 1, xdg_wm_base: 1, wp_viewporter: 0, wp_presentation: 0 };

async function open(
  options: FakeHostOptions = {},
  releases: 'when replaced' | 'when committed' = 'when replaced',
): Promise<SuiteRig> {
  const rig = await OutputRig.open(options);
  const pictures: GuestPicture[] = [];
  // The suite attaches.
  rig.detach();
  accept(rig.host);
  rig.host.copies = releases === 'when committed';
  const handles = recordHandles(rig.output);
  const picture = (): GuestPicture => {
    const made = new GuestPicture(64, 48);
    pictures.push(made);
    return made;
  };
  return {
    output: rig.output,
    step: async () => {
      rig.host.repaint();
      await rig.settle();
    },
    framebuffer: () => picture().asDmabuf,
    refused: () => picture().framebuffer,
    isDark: async () => {
      await rig.settle();
      return rig.shown === null;
    },
    hide: () => {
      rig.host.isHidden = true;
    },
    lose: () => rig.host.toplevel.send('close'),
    failImport: () => rig.host.server.on('zwp_linux_buffer_params_v1.create', ({ object }) => object.send('failed')),
    close: () => {
      for (const handle of handles) handle[Symbol.dispose]();
      rig[Symbol.dispose]();
      for (const made of pictures) made[Symbol.dispose]();
    },
  };
}

/** The handles that the output makes from now on. The suite leaves them to the rig that opened it. */
function recordHandles(output: Output): Handle[] {
  const handles: Handle[] = [];
  const { createShadow, import: importBuffer } = output;
  output.createShadow = (...size) => {
    const shadow = createShadow.apply(output, size);
    handles.push(shadow);
    return shadow;
  };
  output.import = (framebuffer) => {
    const answer = importBuffer.call(output, framebuffer);
    if (!(answer instanceof DmabufImportRefused)) handles.push(answer);
    return answer;
  };
  return handles;
}

outputSuite('WaylandOutput', { describe, test }, () => open(), CAN);
outputSuite(
  'WaylandOutput without wp_presentation',
  { describe, test },
  () => open({ globals: { wp_presentation: 0 } }),
  CAN,
);
outputSuite(
  'WaylandOutput on the first version of everything',
  { describe, test },
  () => open({ globals: FIRST_VERSIONS }),
  CAN,
);
outputSuite(
  'WaylandOutput on a compositor that copies what is committed',
  { describe, test },
  () => open({}, 'when committed'),
  CAN,
);
outputSuite('WaylandOutput with dma-bufs', { describe, test }, () => open(DMABUF), [
  ...CAN,
  'import',
  'refuse',
  'fail-import',
]);
