// Made from presentation-time.xml by protocols/wayland/scanner: npm run generate:wayland
import type { InterfaceTable } from '../wire.ts';

/** wp_presentation.error */
export const WpPresentationError = {
  invalid_timestamp: 0,
  invalid_flag: 1,
} as const;
export type WpPresentationError = (typeof WpPresentationError)[keyof typeof WpPresentationError];

/** wp_presentation_feedback.kind, bits */
export const WpPresentationFeedbackKind = {
  vsync: 0x1,
  hw_clock: 0x2,
  hw_completion: 0x4,
  zero_copy: 0x8,
} as const;

export const wp_presentation: InterfaceTable<'wp_presentation'> = {
  name: 'wp_presentation',
  version: 2,
  requests: [
    { name: 'destroy', since: 1, destructor: true, args: [] },
    { name: 'feedback', since: 1, args: [{ name: 'surface', type: 'object', interface: 'wl_surface' }, { name: 'callback', type: 'new_id', interface: 'wp_presentation_feedback' }] },
  ],
  events: [
    { name: 'clock_id', since: 1, args: [{ name: 'clk_id', type: 'uint' }] },
  ],
  errors: WpPresentationError,
};

export const wp_presentation_feedback: InterfaceTable<'wp_presentation_feedback'> = {
  name: 'wp_presentation_feedback',
  version: 2,
  requests: [],
  events: [
    { name: 'sync_output', since: 1, args: [{ name: 'output', type: 'object', interface: 'wl_output' }] },
    { name: 'presented', since: 1, destructor: true, args: [{ name: 'tv_sec_hi', type: 'uint' }, { name: 'tv_sec_lo', type: 'uint' }, { name: 'tv_nsec', type: 'uint' }, { name: 'refresh', type: 'uint' }, { name: 'seq_hi', type: 'uint' }, { name: 'seq_lo', type: 'uint' }, { name: 'flags', type: 'uint' }] },
    { name: 'discarded', since: 1, destructor: true, args: [] },
  ],
  errors: {},
};
