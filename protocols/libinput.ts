/** libinput.h, the header of libinput: kinds of events and devices, and the one struct its calls take. */
import { addr64, struct } from './layout.ts';

/**
 * Addresses of two C functions: `int open_restricted(const char *path, int flags, void *)`, which returns a
 * descriptor or -errno, and `void close_restricted(int fd, void *)`.
 */
export const libinput_interface = struct('libinput_interface', { open_restricted: addr64, close_restricted: addr64 });

export const LIBINPUT_EVENT_DEVICE_ADDED = 1;
export const LIBINPUT_EVENT_DEVICE_REMOVED = 2;
export const LIBINPUT_EVENT_KEYBOARD_KEY = 300;
export const LIBINPUT_EVENT_POINTER_MOTION = 400;
export const LIBINPUT_EVENT_POINTER_MOTION_ABSOLUTE = 401;
export const LIBINPUT_EVENT_POINTER_BUTTON = 402;
/* Since 1.19; before, and still besides them, there is POINTER_AXIS (403) for all three. */
export const LIBINPUT_EVENT_POINTER_SCROLL_WHEEL = 404;
export const LIBINPUT_EVENT_POINTER_SCROLL_FINGER = 405;
export const LIBINPUT_EVENT_POINTER_SCROLL_CONTINUOUS = 406;
export const LIBINPUT_EVENT_TOUCH_DOWN = 500;
export const LIBINPUT_EVENT_TOUCH_UP = 501;
export const LIBINPUT_EVENT_TOUCH_MOTION = 502;
export const LIBINPUT_EVENT_TOUCH_CANCEL = 503;
/** Ends a group of touch events. */
export const LIBINPUT_EVENT_TOUCH_FRAME = 504;
export const LIBINPUT_EVENT_TABLET_TOOL_AXIS = 600;
export const LIBINPUT_EVENT_TABLET_TOOL_PROXIMITY = 601;
export const LIBINPUT_EVENT_TABLET_TOOL_TIP = 602;
export const LIBINPUT_EVENT_TABLET_TOOL_BUTTON = 603;

export const LIBINPUT_DEVICE_CAP_KEYBOARD = 0;

/* Bits of libinput_device_led_update: those of the kernel's LEDs of the same number. */
export const LIBINPUT_LED_NUM_LOCK = 1;
export const LIBINPUT_LED_CAPS_LOCK = 2;
export const LIBINPUT_LED_SCROLL_LOCK = 4;

export const LIBINPUT_KEY_STATE_PRESSED = 1;
export const LIBINPUT_BUTTON_STATE_PRESSED = 1;
export const LIBINPUT_TABLET_TOOL_PROXIMITY_STATE_OUT = 0;
export const LIBINPUT_TABLET_TOOL_TIP_DOWN = 1;

export const LIBINPUT_POINTER_AXIS_SCROLL_VERTICAL = 0;
export const LIBINPUT_POINTER_AXIS_SCROLL_HORIZONTAL = 1;

export const LIBINPUT_CONFIG_TAP_ENABLED = 1;
