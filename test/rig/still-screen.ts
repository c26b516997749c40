import type { WatchedScreen } from '../../display/picture/screen-copy.ts';

/** A screen that shows nothing and never changes. */
export const stillScreen: WatchedScreen = {
  name: '',
  capture: () => null,
  copyChanges: () => undefined,
  onFrame: () => () => undefined,
  settled: () => Promise.resolve(),
};
