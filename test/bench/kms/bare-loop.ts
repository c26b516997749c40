import { constants, openSync } from 'node:fs';
import {
  DRM_CLIENT_CAP_ATOMIC,
  DRM_EVENT_FLIP_COMPLETE,
  drm_event,
  drm_event_vblank,
  DRM_IOCTL_SET_CLIENT_CAP,
  DRM_IOCTL_SET_MASTER,
  drm_set_client_cap,
} from '../../../protocols/drm.ts';
import {
  drm_mode_atomic,
  DRM_IOCTL_MODE_ATOMIC,
  DRM_MODE_ATOMIC_NONBLOCK,
  DRM_MODE_PAGE_FLIP_EVENT,
} from '../../../protocols/drm-mode.ts';
import { DisposableStack } from '../../../src/sys/disposable-stack.ts';
import { OwnedFd, tryRead } from '../../../src/sys/fd.ts';
import { ioctl, tryIoctl } from '../../../src/sys/ioctl.ts';
import { NativeBuffer } from '../../../src/sys/native-buffer.ts';
import { Poll } from '../../../src/sys/poll.ts';
import type { Flipped } from './screen.ts';

const EVENTS_LENGTH = 4096;

/**
 * The minimum needed to flip in Node: one atomic ioctl, the wake-up, one read of the event. Sets the
 * same plane to the same values as the last frame, except for the framebuffer. The screen must be
 * lent by its owner (`BenchScreen.lend`).
 */
export class BareLoop implements Disposable {
  readonly #stack: DisposableStack;
  readonly #fd: OwnedFd;
  readonly #request: NativeBuffer;
  readonly #requestAddress: number;
  readonly #fbAt: number;
  readonly #events: NativeBuffer;
  readonly #eventsAddress: number;
  readonly #fbs: readonly number[];
  /** Sequence number of the last flip's vertical blank. */
  sequence = 0;
  #next = 0;
  #left = 0;
  #onStop: () => void = () => undefined;

  constructor({ card, state: { plane, fbProperty, rest }, fbs }: Flipped) {
    using stack = new DisposableStack();
    this.#fbs = fbs;
    this.#fd = stack.use(OwnedFd.adopt(openSync(card, constants.O_RDWR | constants.O_NONBLOCK)));
    ioctl(
      this.#fd,
      DRM_IOCTL_SET_CLIENT_CAP,
      'DRM_IOCTL_SET_CLIENT_CAP',
      drm_set_client_cap.encode({ capability: DRM_CLIENT_CAP_ATOMIC, value: 1 }),
    );
    ioctl(this.#fd, DRM_IOCTL_SET_MASTER, 'DRM_IOCTL_SET_MASTER', 0);
    const count = 1 + rest.length;
    const counts = drm_mode_atomic.size + 4;
    const props = counts + 4;
    this.#fbAt = Math.ceil((props + count * 4) / 8) * 8;
    this.#request = stack.use(NativeBuffer.allocate(this.#fbAt + count * 8));
    const { view, address } = this.#request;
    drm_mode_atomic.set(view, 0, {
      flags: DRM_MODE_PAGE_FLIP_EVENT | DRM_MODE_ATOMIC_NONBLOCK,
      count_objs: 1,
      objs_ptr: address + drm_mode_atomic.size,
      count_props_ptr: address + counts,
      props_ptr: address + props,
      prop_values_ptr: address + this.#fbAt,
      reserved: 0,
      user_data: 0,
    });
    view.setUint32(drm_mode_atomic.size, plane, true);
    view.setUint32(counts, count, true);
    [[fbProperty, 0] as const, ...rest].forEach(([property, value], i) => {
      view.setUint32(props + i * 4, property, true);
      view.setBigInt64(this.#fbAt + i * 8, BigInt(value), true);
    });
    this.#events = stack.use(NativeBuffer.allocate(EVENTS_LENGTH));
    this.#requestAddress = address;
    this.#eventsAddress = this.#events.address;
    stack.use(Poll.readable(this.#fd, () => this.#readEvent()));
    this.#stack = stack.move();
  }

  /** Resolves when the last of `count` flips is on screen. */
  readonly flip = (count: number): Promise<void> =>
    new Promise((resolve) => {
      this.#left = count;
      this.#onStop = () => setImmediate(resolve);
      this.#commit();
    });

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  #commit(): void {
    this.#request.view.setUint32(this.#fbAt, this.#fbs[this.#next]!, true);
    this.#next = this.#next + 1 === this.#fbs.length ? 0 : this.#next + 1;
    const result = tryIoctl(this.#fd, DRM_IOCTL_MODE_ATOMIC, this.#requestAddress);
    if (result < 0) throw new Error(`the bare flip failed: errno ${-result}`);
  }

  #readEvent(): void {
    const length = tryRead(this.#fd, this.#eventsAddress, EVENTS_LENGTH);
    const { view } = this.#events;
    if (length < drm_event_vblank.size || drm_event.field.type.get(view, 0) !== DRM_EVENT_FLIP_COMPLETE)
      throw new Error(`expected a page flip event, read ${length} bytes without one`);
    this.sequence = drm_event_vblank.field.sequence.get(view, 0);
    this.#left--;
    if (this.#left > 0) this.#commit();
    else this.#onStop();
  }
}
