import { DRM_FORMAT, DRM_FORMAT_MOD_LINEAR } from '../../../../protocols/drm-fourcc.ts';
import { Mapping } from '../../../../src/sys/mapping.ts';
import { createMemfd } from '../../../../src/sys/memfd.ts';
import type { FakeHost, FakeHostOptions } from './fake-host.ts';
import type { FakeObject } from './fake-server.ts';

export type Pairs = readonly (readonly [format: number, modifier: bigint])[];

/** Sends feedback with these tranches, best first. `mainDevice` is a dev_t. */
export function sendFeedback(feedback: FakeObject, tranches: readonly Pairs[], mainDevice = 0n): void {
  const all = tranches.flat();
  using table = createMemfd('table', all.length * 16);
  using mapping = Mapping.file(table, 0, all.length * 16, 'read-write');
  all.forEach(([format, modifier], i) => {
    mapping.view.setUint32(i * 16, format, true);
    mapping.view.setBigUint64(i * 16 + 8, modifier, true);
  });
  const device = new Uint8Array(new BigUint64Array([mainDevice]).buffer);
  feedback.send('format_table', table, all.length * 16);
  feedback.send('main_device', device);
  let first = 0;
  for (const pairs of tranches) {
    feedback.send('tranche_target_device', device);
    feedback.send('tranche_flags', 0);
    feedback.send('tranche_formats', new Uint8Array(Uint16Array.from(pairs, (_, i) => first + i).buffer));
    feedback.send('tranche_done');
    first += pairs.length;
  }
  feedback.send('done');
}

export interface DmabufHostOptions {
  /** Version of linux-dmabuf. */
  readonly version: number;
  /** Offered for XRGB8888 and ARGB8888, in one tranche. */
  readonly modifiers?: readonly bigint[];
  /** Replaces `modifiers`; needs version 4. */
  readonly tranches?: readonly Pairs[];
  readonly mainDevice?: bigint;
}

/** A compositor that offers dma-buf formats, in the way of its version of linux-dmabuf. */
export function dmabufHost({
  version,
  modifiers = [DRM_FORMAT_MOD_LINEAR],
  tranches,
  mainDevice = 0n,
}: DmabufHostOptions): FakeHostOptions {
  const formats = [DRM_FORMAT.XRGB8888, DRM_FORMAT.ARGB8888];
  const pairs = formats.flatMap((format) => modifiers.map((modifier) => [format, modifier] as const));
  return {
    globals: { zwp_linux_dmabuf_v1: version },
    onBind: (dmabuf) => {
      if (dmabuf.interface.name !== 'zwp_linux_dmabuf_v1') return;
      if (version < 4) for (const format of formats) dmabuf.send('format', format);
      if (version === 3)
        for (const [format, modifier] of pairs)
          dmabuf.send('modifier', format, Number(modifier >> 32n), Number(modifier & 0xffff_ffffn));
    },
    prepare: (server) => {
      for (const request of ['get_default_feedback', 'get_surface_feedback']) {
        server.on(`zwp_linux_dmabuf_v1.${request}`, ({ args }) =>
          sendFeedback(args.id as FakeObject, tranches ?? [pairs], mainDevice),
        );
      }
    },
  };
}

/** Makes the compositor import every dma-buf. */
export function accept({ server }: FakeHost): void {
  server.on('zwp_linux_buffer_params_v1.create', ({ client, object }) =>
    object.send('created', client.newObject('wl_buffer', 1)),
  );
}
